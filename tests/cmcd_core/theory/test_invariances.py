"""What must not change an estimate, and how scale and the order of the sides do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcd_core.theory.distance import (
    Estimate,
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

Estimator = Callable[[np.ndarray, np.ndarray], Estimate]
SAMPLES: dict[str, Estimator] = {
    "mmd2": mmd2,
    "energy_distance": energy_distance,
    "sliced_wasserstein2": sliced_wasserstein2,
    "cs_divergence": cs_divergence,
    "kl_knn": partial(kl_knn, k=2),
    "modality_gap": modality_gap,
}
PAIRS: dict[str, Estimator] = {
    "linear_cka": linear_cka,
    "linear_cka_unbiased": partial(linear_cka, unbiased=True),
    "alignment": alignment,
    "retrieval_at_1": retrieval_at,
}
EVERY = {**SAMPLES, **PAIRS}
SYMMETRIC = sorted({*EVERY} - {"kl_knn", "retrieval_at_1"})
ROTATED = sorted({*EVERY} - {"sliced_wasserstein2"})  # its directions stay where they are
SHIFTED = ["mmd2", "energy_distance", "sliced_wasserstein2", "cs_divergence", "kl_knn", "alignment"]
SCALED = {  # by which power of a common scale the value changes
    "mmd2": 0,
    "energy_distance": 1,
    "sliced_wasserstein2": 2,
    "cs_divergence": 0,
    "kl_knn": 0,
    "modality_gap": 0,
    "linear_cka": 0,
    "linear_cka_unbiased": 0,
    "alignment": 2,
    "retrieval_at_1": 0,
}


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """As many rows of a as of b, and a generator for what is done to them."""
    n, d = draw(st.integers(6, 30)), draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.floats(0.2, 5))
    return (
        generator.standard_normal((n, d)),
        spread * generator.standard_normal((n, d)) + draw(st.floats(-3, 3)),
        generator,
    )


def same(x: Estimate, y: Estimate, factor: float = 1) -> bool:
    return y.value == pytest.approx(factor * x.value, rel=1e-7, abs=1e-9 * max(1, factor))


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=15)
@given(drawn=samples())
def test_order_of_the_rows(name: str, drawn: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> None:
    a, b, generator = drawn
    order = generator.permutation(len(a))
    other = order if name in PAIRS else generator.permutation(len(b))
    assert same(EVERY[name](a, b), EVERY[name](a[order], b[other]))


@pytest.mark.parametrize("name", SYMMETRIC)
@settings(max_examples=15)
@given(drawn=samples())
def test_order_of_the_sides(name: str, drawn: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> None:
    a, b, _ = drawn
    assert same(EVERY[name](a, b), EVERY[name](b, a))


@pytest.mark.parametrize("name", ROTATED)
@settings(max_examples=15)
@given(drawn=samples())
def test_rotation_of_both(name: str, drawn: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> None:
    a, b, generator = drawn
    turn = np.linalg.qr(generator.standard_normal((a.shape[1],) * 2))[0]
    assert same(EVERY[name](a, b), EVERY[name](a @ turn, b @ turn))


@pytest.mark.parametrize("name", SHIFTED)
@settings(max_examples=15)
@given(drawn=samples())
def test_shift_of_both(name: str, drawn: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> None:
    a, b, _ = drawn
    assert same(EVERY[name](a, b), EVERY[name](a + 3, b + 3))


@pytest.mark.parametrize("name", SCALED)
@settings(max_examples=15)
@given(drawn=samples(), scale=st.sampled_from([0.01, 0.5, 7.0, 300.0]))
def test_scale_of_both(name: str, drawn: tuple[np.ndarray, np.ndarray, np.random.Generator], scale: float) -> None:
    a, b, _ = drawn
    assert same(EVERY[name](a, b), EVERY[name](scale * a, scale * b), scale ** SCALED[name])


@settings(max_examples=15)
@given(drawn=samples())
def test_a_side_of_cka_turned_or_scaled_alone(drawn: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> None:
    a, b, generator = drawn
    turn = np.linalg.qr(generator.standard_normal((a.shape[1],) * 2))[0]
    assert same(linear_cka(a, b), linear_cka(7 * a @ turn + 2, b))


@pytest.mark.parametrize("estimator", [tv_lower_bound, class_discrepancy])
@settings(max_examples=10)
@given(drawn=samples(), scale=st.sampled_from([0.01, 8.0]))
def test_classifiers_do_not_see_scale(
    estimator: Estimator, drawn: tuple[np.ndarray, np.ndarray, np.random.Generator], scale: float
) -> None:
    a, b, _ = drawn
    assert same(estimator(a, b), estimator(scale * a, scale * b))


@settings(max_examples=25)
@given(drawn=samples())
def test_ranges(drawn: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> None:
    a, b, _ = drawn
    for name in ("energy_distance", "sliced_wasserstein2", "cs_divergence", "modality_gap", "alignment", "linear_cka"):
        assert EVERY[name](a, b).value >= 0
    assert linear_cka(a, b).value <= 1 + 1e-12
    assert 0 <= tv_lower_bound(a, b).low <= tv_lower_bound(a, b).value <= 1
    assert uniformity(a).value <= 0
    assert energy_distance(a, a).value == pytest.approx(0, abs=1e-6)
    assert sliced_wasserstein2(a, a).value == 0
    assert cs_divergence(a, a).value == pytest.approx(0, abs=1e-12)
    assert modality_gap(a, a).value == 0
