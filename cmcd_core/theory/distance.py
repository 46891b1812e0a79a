"""How far apart are two modalities in feature space? Every estimator, and all of them at once.

Features are (n, d) numpy arrays or torch tensors of the source (a) and the target (b), normalised as the training loss
sees them. Each estimator says how sure it is, and on which side of the truth: see :class:`~.estimate.Estimate`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from .cka import linear_cka
from .classifier_tests import class_discrepancy, tv_lower_bound
from .divergences import cs_divergence, kl_knn
from .estimate import Direction, Estimate
from .geometry import alignment, modality_gap, uniformity
from .kernel_tests import energy_distance, mmd2
from .retrieval import retrieval_at
from .samples import Array, Samples, array, mean, pairs
from .transport import sliced_wasserstein2

__all__ = [
    "Direction",
    "Estimate",
    "alignment",
    "class_discrepancy",
    "cs_divergence",
    "distances",
    "energy_distance",
    "kl_knn",
    "linear_cka",
    "mmd2",
    "modality_gap",
    "retrieval_at",
    "sliced_wasserstein2",
    "tv_lower_bound",
    "uniformity",
]


def distances(
    a: Samples,
    b: Samples,
    *,
    paired: bool = False,
    centred: bool = False,
    permutations: int = 0,
    seed: int = 0,
) -> list[Estimate]:
    """Every estimate that applies.

    Args:
        a: (n, d) source features.
        b: (m, d) target features; of pairs, (n, d'): where the widths differ, only linear CKA applies.
        paired: Row i of a belongs to row i of b: CKA, alignment and retrieval apply too, and tests keep pairs together.
        centred: Take each modality's mean away, as estimated on one half of the rows (the training fold); classifiers
            are trained on that half, and everything is measured on the other.
        permutations: Of the p-value of MMD².
        seed: Of all that is drawn.

    Returns:
        In the order of this module's estimators. Uniformity is named "uniformity_source" and "uniformity_target",
        retrieval "retrieval_at_1_source_to_target" and "retrieval_at_1_target_to_source".

    Raises:
        ValueError: Shapes do not match, or fewer than four rows a side (eight where centred).

    Example:
        >>> a = np.random.default_rng(0).standard_normal((40, 3))
        >>> [estimate.name for estimate in distances(a, a + 1)][:3]
        ['tv_lower_bound', 'class_discrepancy', 'mmd2']
    """
    least = 8 if centred else 4
    x, y = (
        pairs(a, b, least=least, same_width=False)
        if paired
        else (array(a, "a", least=least), array(b, "b", least=least))
    )
    same_width = x.shape[1] == y.shape[1]
    if not (same_width or paired):
        raise ValueError(f"a and b must have the same width, or be pairs: got {x.shape[1]} and {y.shape[1]}")
    held_x, held_y = _held_out(x, y, paired, seed) if centred else (x, y)
    estimates = []
    if same_width:
        for test in (tv_lower_bound, class_discrepancy):
            estimates.append(test(x, y, seed=seed, paired=paired, centred=centred))
        estimates += _of_samples(held_x, held_y, paired, permutations, seed)
    if paired:
        estimates += [linear_cka(held_x, held_y, unbiased=unbiased) for unbiased in (False, True)]
    if paired and same_width:
        estimates += _of_pairs(held_x, held_y)
    return estimates


def _held_out(x: Array, y: Array, paired: bool, seed: int) -> tuple[Array, Array]:
    """Half of the rows, less their modality's mean over the other half."""
    generator = np.random.default_rng(seed)
    order_x = generator.permutation(len(x))
    order_y = order_x if paired else generator.permutation(len(y))
    half_x, half_y = len(x) // 2, len(y) // 2
    return x[order_x[half_x:]] - mean(x[order_x[:half_x]]), y[order_y[half_y:]] - mean(y[order_y[:half_y]])


def _of_samples(x: Array, y: Array, paired: bool, permutations: int, seed: int) -> list[Estimate]:
    estimates = [
        mmd2(x, y, permutations=permutations, paired=paired, seed=seed),
        energy_distance(x, y, seed=seed),
        sliced_wasserstein2(x, y, seed=seed),
    ]
    with suppress(ValueError):  # collapsed features: too few different rows to have neighbours
        estimates.append(kl_knn(x, y, k=min(5, len(x) - 1, len(y) - 1), seed=seed))
    return [
        *estimates,
        cs_divergence(x, y, seed=seed),
        modality_gap(x, y),
        replace(uniformity(x, seed=seed), name="uniformity_source"),
        replace(uniformity(y, seed=seed), name="uniformity_target"),
    ]


def _of_pairs(x: Array, y: Array) -> list[Estimate]:
    return [
        alignment(x, y),
        replace(retrieval_at(x, y), name="retrieval_at_1_source_to_target"),
        replace(retrieval_at(y, x), name="retrieval_at_1_target_to_source"),
    ]
