"""All estimators at once, and what they accept and refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
import pytest
import torch

from cmcd_core.theory.distance import (
    Direction,
    Estimate,
    alignment,
    class_discrepancy,
    cs_divergence,
    distances,
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

OF_SAMPLES: list[Callable[..., Estimate]] = [
    tv_lower_bound,
    class_discrepancy,
    mmd2,
    energy_distance,
    sliced_wasserstein2,
    kl_knn,
    cs_divergence,
    modality_gap,
]
OF_PAIRS: list[Callable[..., Estimate]] = [linear_cka, alignment, retrieval_at]
UNPAIRED = {
    *(estimator.__name__ for estimator in OF_SAMPLES),
    "uniformity_source",
    "uniformity_target",
}
PAIRED = UNPAIRED | {
    "linear_cka",
    "linear_cka_unbiased",
    "alignment",
    "retrieval_at_1_source_to_target",
    "retrieval_at_1_target_to_source",
}


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("paired", "names"), [(False, UNPAIRED), (True, PAIRED)])
def test_all_that_apply(shifted: Any, paired: bool, centred: bool, names: set[str]) -> None:
    estimates = distances(*shifted(80, 6, 1.0), paired=paired, centred=centred, permutations=19)
    assert {estimate.name for estimate in estimates} == names
    assert len(estimates) == len(names)
    for estimate in estimates:
        assert math.isfinite(estimate.value)
        assert estimate.low is None or estimate.low <= estimate.value
        assert estimate.high is None or estimate.high >= estimate.value
        assert estimate.direction in get_args(Direction)
        assert 0 < estimate.n <= 80
        assert {type(value) for value in asdict(estimate).values()} <= {str, float, int, type(None)}
    assert {estimate.name for estimate in estimates if estimate.p_value is not None} == {"tv_lower_bound", "mmd2"}


def test_centring_measures_on_the_other_half(shifted: Any) -> None:
    a, b = shifted(400, 4, 5.0)
    raw = {e.name: e for e in distances(a, b)}
    centred = {e.name: e for e in distances(a, b, centred=True)}
    assert raw["tv_lower_bound"].low > 0.9
    assert centred["tv_lower_bound"].low < 0.1
    assert raw["sliced_wasserstein2"].n == 400
    assert centred["sliced_wasserstein2"].n == 200
    assert centred["sliced_wasserstein2"].value < 0.1 < 5 < raw["sliced_wasserstein2"].value
    assert centred["mmd2"].low < 0.01


def test_the_same_seed_gives_the_same_numbers(shifted: Any) -> None:
    a, b = shifted(60, 3, 1.0)
    assert distances(a, b, paired=True, seed=3) == distances(a, b, paired=True, seed=3)


def test_eight_pairs_are_enough(golden_inputs: Any) -> None:
    for centred in (False, True):
        assert {e.name for e in distances(*golden_inputs, paired=True, centred=centred)} == PAIRED


def test_collapsed_features(shifted: Any) -> None:
    """A student that maps all to one point: nothing is NaN, and no density has neighbours."""
    a = shifted(50, 4, 0.0)[0]
    for b in (np.ones((50, 4)), np.zeros((50, 4))):
        estimates = {e.name: e for e in distances(a, b, paired=True)}
        assert set(estimates) == PAIRED - {"kl_knn"}
        assert all(math.isfinite(e.value) for e in estimates.values())
        assert estimates["linear_cka"].value == pytest.approx(0, abs=1e-12)
        assert estimates["retrieval_at_1_source_to_target"].value == pytest.approx(1 / 50)
        assert estimates["tv_lower_bound"].low > 0
    assert all(math.isfinite(e.value) for e in distances(b, b, paired=True))


def test_different_widths_leave_cka(shifted: Any) -> None:
    a, b = shifted(50, 4, 0.0)
    assert {e.name for e in distances(a, b[:, :2], paired=True)} == {"linear_cka", "linear_cka_unbiased"}
    with pytest.raises(ValueError, match="same width, or be pairs: got 4 and 2"):
        distances(a, b[:, :2])


@pytest.mark.parametrize("estimator", [*OF_SAMPLES, *OF_PAIRS])
def test_arrays_and_tensors(shifted: Any, estimator: Callable[..., Estimate]) -> None:
    a, b = shifted(40, 4, 1.0)
    expected = estimator(a, b)
    assert estimator(torch.from_numpy(a).requires_grad_(), torch.from_numpy(b)) == expected
    single = estimator(torch.from_numpy(a).float(), b.astype(np.float32))
    assert single.value == pytest.approx(expected.value, rel=1e-4, abs=1e-5)
    half = estimator(torch.from_numpy(a).bfloat16(), torch.from_numpy(b).half())
    assert math.isfinite(half.value)
    given = a.copy(), b.copy()
    estimator(*given)
    assert (given[0] == a).all()
    assert (given[1] == b).all()


@pytest.mark.parametrize("estimator", [*OF_SAMPLES, *OF_PAIRS])
def test_wrong_shapes(shifted: Any, estimator: Callable[..., Estimate]) -> None:
    a, b = shifted(40, 4, 1.0)
    with pytest.raises(ValueError, match=r"a must be \(n, d\): got \(40,\)"):
        estimator(a[:, 0], b)
    with pytest.raises(ValueError, match=r"b needs at least \d rows, got 0"):
        estimator(a, b[:0])
    with pytest.raises(ValueError, match="b holds NaN or infinity"):
        estimator(a, np.where(b > 2, np.nan, b))
    with pytest.raises(ValueError, match="real numbers"):
        estimator(a.astype(complex), b)
    if estimator is not linear_cka:
        with pytest.raises(ValueError, match="same width: got 4 and 3"):
            estimator(a, b[:, :3])
    if estimator in OF_PAIRS:
        with pytest.raises(ValueError, match="same pairs: got 40 and 30 rows"):
            estimator(a, b[:30])


@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        (mmd2, {"bandwidth": 0.0}),
        (mmd2, {"permutations": -1}),
        (cs_divergence, {"sigma": -1.0}),
        (sliced_wasserstein2, {"projections": 0}),
        (kl_knn, {"k": 0}),
        (kl_knn, {"dims": 0}),
        (kl_knn, {"k": 40}),
        (retrieval_at, {"k": 0}),
        (retrieval_at, {"k": 41}),
    ],
)
def test_impossible_options(shifted: Any, estimator: Callable[..., Estimate], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        estimator(*shifted(40, 4, 1.0), **options)


def test_repeated_rows_have_no_density_of_their_own(shifted: Any) -> None:
    a, b = shifted(200, 2, 1.0)
    once, thrice = kl_knn(a, b), kl_knn(np.repeat(a, 3, axis=0), b)
    assert thrice == once
    assert math.isfinite(kl_knn(a, a, k=1).value)


def test_quadratic_estimators_say_how_many_rows_they_used(shifted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = shifted(300, 3, 1.0)
    monkeypatch.setattr("cmcd_core.theory.samples.MOST", 100)
    monkeypatch.setattr("cmcd_core.theory.classifier_tests.MOST", 100)
    monkeypatch.setattr("cmcd_core.theory.geometry.MOST", 100)
    monkeypatch.setattr("cmcd_core.theory.retrieval.MOST_COMPARISONS", 30_000)
    assert tv_lower_bound(a, b).n == 100  # held out, of 100 a side
    assert uniformity(a).n == 100
    assert uniformity(a).direction == "plug-in"
    assert uniformity(a[:90]).direction == "exact"
    assert (retrieval_at(a, b).n, retrieval_at(a, b).direction) == (100, "plug-in")
    for estimator in (mmd2, energy_distance, cs_divergence):
        assert estimator(a, b).n == 100
        assert estimator(a, b, seed=1).value != estimator(a, b, seed=2).value
        assert estimator(a, b, seed=1) == estimator(a, b, seed=1)


def test_blocks_change_nothing(shifted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = shifted(90, 5, 1.0)
    whole = distances(a, b, paired=True)
    for module in ("samples", "pairwise", "retrieval"):
        monkeypatch.setattr(f"cmcd_core.theory.{module}.BLOCK", 64)
    for one, other in zip(whole, distances(a, b, paired=True), strict=True):
        assert other.value == pytest.approx(one.value, rel=1e-9, abs=1e-12), one.name
        assert one.low is None or other.low == pytest.approx(one.low, rel=1e-6, abs=1e-9), one.name
