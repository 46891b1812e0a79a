"""100,000 samples fit in memory, and take seconds an estimator."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from cmcd_core.theory.distance import distances

N, D = 100_000, 64
MIB = 2**20
USED = {
    "tv_lower_bound": 2_500,  # held out, each pair by one member
    "class_discrepancy": 2_500,
    "mmd2": 5_000,
    "energy_distance": 5_000,
    "sliced_wasserstein2": N,
    "kl_knn": 20_000,
    "cs_divergence": 5_000,
    "modality_gap": N,
    "uniformity_source": 5_000,
    "uniformity_target": 5_000,
    "linear_cka": N,
    "linear_cka_unbiased": N,
    "alignment": N,
    "retrieval_at_1_source_to_target": 1_000,
    "retrieval_at_1_target_to_source": 1_000,
}


@pytest.mark.slow
def test_memory() -> None:
    """Unit rows in float32, 24 MiB a side; the distances within one side alone would be 75 GiB."""
    generator = np.random.default_rng(0)
    a = generator.standard_normal((N, D), dtype=np.float32)
    b = a + generator.standard_normal((N, D), dtype=np.float32) + np.float32(0.2)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    tracemalloc.start()
    try:
        estimates = distances(a, b, paired=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {estimate.name: estimate.n for estimate in estimates} == USED
    assert peak < 150 * MIB
