"""Laws and samples for which the value is known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from cmcd_core.theory.distance import (
    alignment,
    class_discrepancy,
    cs_divergence,
    energy_distance,
    kl_knn,
    linear_cka,
    mmd2,
    modality_gap,
    retrieval_at,
    sliced_wasserstein2,
    tv_lower_bound,
    uniformity,
)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def rotation(d: int, seed: int = 1) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


@pytest.mark.parametrize(("shift", "tv"), [(0.2, 0.0797), (1.0, 0.38292), (2.0, 0.6827)])
def test_total_variation_of_shifted_gaussians(shifted: Any, shift: float, tv: float) -> None:
    """TV = 2 Phi(shift/2) - 1, and a half-space attains it."""
    assert 2 * norm.cdf(shift / 2) - 1 == pytest.approx(tv, abs=1e-4)
    a, b = shifted(4000, 16, shift)
    for estimate in (tv_lower_bound(a, b), class_discrepancy(a, b)):
        assert estimate.value == pytest.approx(tv, abs=0.045)  # 3 standard errors of 4,000 held-out rows
        assert estimate.low is not None
        assert estimate.low <= tv + 0.01
        assert estimate.n == 4000
    discrepancy = class_discrepancy(a, b)
    assert discrepancy.high is not None
    assert tv <= discrepancy.high <= tv + 0.1


def test_mmd2_of_shifted_gaussians(shifted: Any) -> None:
    a, b = shifted(4000, 16, 1.0)
    closed = 2 * (32 / 34) ** 8 * (1 - np.exp(-1 / 68))
    estimate = mmd2(a, b, bandwidth=np.sqrt(32))
    assert closed == pytest.approx(0.0179763, abs=1e-7)
    assert estimate.value == pytest.approx(0.0176361, abs=1e-7)  # of these very draws
    assert estimate.low < closed < estimate.high


def test_sliced_wasserstein_of_shifted_gaussians(shifted: Any) -> None:
    a, b = shifted(4000, 16, 1.0)
    estimate = sliced_wasserstein2(a, b, projections=500, seed=0)
    assert estimate.value == pytest.approx(1 / 16, abs=0.01)
    assert estimate.low < 1 / 16 < estimate.high


def test_sliced_wasserstein_of_one_dimension_is_wasserstein() -> None:
    a, b = np.array([[0.0], [1.0], [2.0], [5.0]]), np.array([[1.0], [1.0], [4.0], [7.0]])
    assert sliced_wasserstein2(a, b).value == pytest.approx((1 + 0 + 4 + 4) / 4)


def test_sliced_wasserstein_of_unequal_sizes_is_that_of_repeated_rows(shifted: Any) -> None:
    a, b = shifted(6, 3, 1.0)
    uneven = sliced_wasserstein2(a, b[:4], seed=3).value
    assert uneven == pytest.approx(
        sliced_wasserstein2(np.repeat(a, 2, axis=0), np.repeat(b[:4], 3, axis=0), seed=3).value
    )


@pytest.mark.parametrize(("d", "expected"), [(2, 0.5), (8, 0.41)])
def test_kullback_leibler_of_shifted_gaussians(shifted: Any, d: int, expected: float) -> None:
    """KL = shift²/2, with the known bias towards zero in more dimensions."""
    a, b = shifted(4000, d, 1.0)
    estimate = kl_knn(a, b)
    assert estimate.value == pytest.approx(expected, abs=0.05)
    assert (estimate.low, estimate.high) == (None, None)


def test_kullback_leibler_sees_the_axis_that_differs_among_many(shifted: Any) -> None:
    a, b = shifted(2000, 100, 8.0)
    assert kl_knn(a, b, dims=4).value > 2


def test_cs_divergence_of_shifted_gaussians(shifted: Any) -> None:
    """Smoothed by the kernel both are N(·, (1 + sigma²/2) I): the divergence is shift² / (2 + sigma²)."""
    a, b = shifted(4000, 3, 1.0)
    estimate = cs_divergence(a, b, sigma=2.0)
    assert estimate.value == pytest.approx(1 / 6, abs=0.02)
    assert estimate.low < 1 / 6 < estimate.high


def test_cs_divergence_stays_finite_at_any_distance() -> None:
    a = np.random.default_rng(0).standard_normal((50, 4))
    assert cs_divergence(a, a + 1e4, sigma=0.1).value == pytest.approx(4 * 1e8 / 0.01, rel=1e-3)


def test_energy_distance_of_points() -> None:
    a, b = np.zeros((2, 2)), np.array([[3.0, 4.0], [0.0, 0.0]])
    assert energy_distance(a, b).value == pytest.approx(2 * 2.5 - 0 - 2.5)


def test_cka_is_one_after_rotation_and_scaling(shifted: Any) -> None:
    x = shifted(100, 6, 1.0)[1]
    for unbiased in (False, True):
        estimate = linear_cka(x, 3 * x @ rotation(6), unbiased=unbiased)
        assert estimate.value == pytest.approx(1)
        assert estimate.low == pytest.approx(1)


def test_cka_of_golden_inputs(golden_inputs: Any) -> None:
    """The biased one is far too high where there are more dimensions than samples."""
    x, y = golden_inputs
    assert linear_cka(x, y).value == pytest.approx(0.9114204545643432, rel=1e-10)
    assert linear_cka(x, y, unbiased=True).value == pytest.approx(0.709, abs=5e-4)


def test_unbiased_cka_is_that_of_kernel_matrices_with_zero_diagonals(golden_inputs: Any) -> None:
    def hsic(x: np.ndarray, y: np.ndarray) -> float:
        n = len(x)
        k, l = x @ x.T, y @ y.T  # noqa: E741
        np.fill_diagonal(k, 0)
        np.fill_diagonal(l, 0)
        middle = k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l).sum()
        return float((np.trace(k @ l) + middle) / (n * (n - 3)))

    x, y = golden_inputs
    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert linear_cka(x, y, unbiased=True).value == pytest.approx(expected, rel=1e-10)


def test_other_golden_numbers(golden_inputs: Any) -> None:
    a, b = (unit(x) for x in golden_inputs)
    assert modality_gap(a, b).value == pytest.approx(0.289306177818699, rel=1e-10)
    assert alignment(a, b).value == pytest.approx(0.6095910240799897, rel=1e-10)
    assert mmd2(a, b, bandwidth=1.0).value == pytest.approx(-0.09442839245088108, rel=1e-10)


def test_uniformity_of_a_simplex() -> None:
    """All different rows are as far apart: d² = 2N/(N - 1)."""
    simplex = unit(np.eye(5) - 1 / 5)
    assert uniformity(simplex).value == pytest.approx(-2 * 2 * 5 / 4)


def test_retrieval_of_pairs_and_of_collapsed_features() -> None:
    a = np.random.default_rng(0).standard_normal((50, 8))
    assert retrieval_at(a, 2 * a).value == 1
    assert retrieval_at(a, np.roll(a, 1, axis=0)).value == 0
    collapsed = retrieval_at(np.ones((50, 8)), np.ones((50, 8)), k=5)
    assert collapsed.value == pytest.approx(5 / 50)
    assert collapsed.low < 0.1 < collapsed.high


def test_retrieval_of_partners_that_share_one_item() -> None:
    """Five sketches of one photo: any of its five copies is as good as the pair's own."""
    photos = np.repeat(np.eye(4), 5, axis=0)
    assert retrieval_at(photos, photos).value == pytest.approx(1 / 5)
    assert retrieval_at(photos, photos, k=5).value == pytest.approx(1)
