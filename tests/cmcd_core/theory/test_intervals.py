"""Intervals hold as often as they say, also for pairs and where the laws are one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, kstest

from cmcd_core.theory.distance import (
    Estimate,
    alignment,
    cs_divergence,
    energy_distance,
    linear_cka,
    mmd2,
    modality_gap,
    sliced_wasserstein2,
)

DRAWS = 60
D = 4
TRUTHS: dict[str, tuple[Callable[..., Estimate], Callable[[float], float]]] = {
    "mmd2": (partial(mmd2, bandwidth=2.0), lambda shift: 2 * (4 / 6) ** 2 * (1 - np.exp(-(shift**2) / 12))),
    "sliced_wasserstein2": (partial(sliced_wasserstein2, projections=64), lambda shift: shift**2 / D),
    "cs_divergence": (partial(cs_divergence, sigma=2.0), lambda shift: shift**2 / 6),
    "energy_distance": (energy_distance, lambda shift: {0.0: 0.0, 1.0: 0.3389}[shift]),  # 10⁸ distances
}


def draw(shift: float, correlation: float, seed: int, n: int = 150) -> tuple[np.ndarray, np.ndarray]:
    a, noise = np.random.default_rng(seed).standard_normal((2, n, D))
    b = correlation * a + np.sqrt(1 - correlation**2) * noise
    b[:, 0] += shift
    return a, b


@pytest.mark.parametrize("correlation", [0.0, 0.9, -0.9])
@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("name", TRUTHS)
def test_intervals_hold(name: str, shift: float, correlation: float) -> None:
    estimator, truth = TRUTHS[name]
    missed = 0
    for seed in range(DRAWS):
        estimate = estimator(*draw(shift, correlation, seed))
        assert estimate.low <= estimate.value <= estimate.high
        missed += not estimate.low <= truth(shift) <= estimate.high
    assert missed <= binom.ppf(0.999, DRAWS, 0.05)


@pytest.mark.parametrize("correlation", [0.3, 0.7, 0.95])
def test_interval_of_cka_holds(correlation: float) -> None:
    """b = correlation · a + noise, all isotropic: CKA = correlation²."""
    for unbiased in (False, True):
        estimates = [linear_cka(*draw(0, correlation, seed), unbiased=unbiased) for seed in range(DRAWS)]
        missed = sum(not estimate.low <= correlation**2 <= estimate.high for estimate in estimates)
        assert missed <= binom.ppf(0.999, DRAWS, 0.06)


def test_interval_of_the_gap_reaches_zero_where_there_is_none() -> None:
    estimates = [modality_gap(*draw(0, 0, seed)) for seed in range(DRAWS)]
    assert min(estimate.value for estimate in estimates) > 0
    assert sum(estimate.low > 0 for estimate in estimates) <= binom.ppf(0.999, DRAWS, 0.05)


def test_interval_of_alignment_holds() -> None:
    estimates = [alignment(*draw(1, 0.5, seed)) for seed in range(DRAWS)]
    truth = 2 * D * (1 - 0.5) + 1
    assert sum(not e.low <= truth <= e.high for e in estimates) <= binom.ppf(0.999, DRAWS, 0.05)


def test_mmd2_is_unbiased() -> None:
    values = [mmd2(*draw(0, 0, seed), bandwidth=2.0).value for seed in range(DRAWS)]
    assert np.mean(values) == pytest.approx(0, abs=3 * np.std(values) / np.sqrt(DRAWS))
    assert min(values) < 0


@pytest.mark.parametrize(("paired", "correlation"), [(False, 0.0), (True, 0.0), (True, 0.9)])
def test_p_values_are_uniform_where_the_laws_are_one(paired: bool, correlation: float) -> None:
    draws = (draw(0, correlation, seed, n=30) for seed in range(150))
    values = [mmd2(a, b, permutations=99, paired=paired, seed=i).p_value for i, (a, b) in enumerate(draws)]
    assert kstest(values, "uniform").pvalue > 0.001
    assert np.mean(np.array(values) <= 0.05) <= binom.ppf(0.999, 150, 0.05) / 150


def test_p_value_is_small_where_the_laws_differ(shifted: Any) -> None:
    a, b = shifted(60, 2, 2.0)
    assert mmd2(a, b, permutations=99).p_value == pytest.approx(0.01)
    assert mmd2(a, b, permutations=99, paired=True).p_value == pytest.approx(0.01)
    assert mmd2(a, b).p_value is None
