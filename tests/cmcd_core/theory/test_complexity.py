"""Rademacher complexities: Monte Carlo against every sign there is, and between their closed forms."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcd_core.theory.bound import RAMP_LIPSCHITZ, massart, rademacher_linear, rademacher_multiclass, ramp_loss


def features(m: int = 8, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, d))


def test_monte_carlo_is_the_mean_over_all_signs() -> None:
    x = features()
    exact = np.mean([np.linalg.norm(np.array(signs) @ x) for signs in product((-1, 1), repeat=8)]) * 2 / 8
    complexity = rademacher_linear(x, 2.0, draws=4000)
    assert complexity.value == pytest.approx(exact, abs=4 * complexity.error)
    assert complexity.lower <= exact <= complexity.upper
    assert complexity.upper == pytest.approx(2 * math.sqrt(np.square(x).sum()) / 8)


@settings(max_examples=30)
@given(m=st.integers(1, 60), d=st.integers(1, 20), classes=st.integers(1, 6), seed=st.integers(0, 1000))
def test_between_the_closed_forms(m: int, d: int, classes: int, seed: int) -> None:
    x = features(m, d, seed)
    for complexity in (
        rademacher_linear(x, 1.5, draws=400),
        rademacher_multiclass(x, classes, 1.5, draws=400),
    ):
        slack = 4 * complexity.error + 1e-12
        assert complexity.lower - slack <= complexity.value <= complexity.upper + slack
        assert complexity.lower == pytest.approx(complexity.upper / math.sqrt(2))
        assert complexity.value <= complexity.safe + 1e-12 or complexity.safe == complexity.upper


def test_multiclass_closed_form_and_its_parts() -> None:
    x = features(50, 4)
    complexity = rademacher_multiclass(x, 5, 3.0)
    assert complexity.upper == pytest.approx(math.sqrt(2) * RAMP_LIPSCHITZ * 3 * math.sqrt(5 * np.square(x).sum()) / 50)
    single = rademacher_multiclass(x, 1, 3.0, lipschitz=1 / math.sqrt(2))
    assert single.value == pytest.approx(rademacher_linear(x, 3.0).value)


def test_multiclass_is_above_what_heads_of_the_class_attain() -> None:
    """Signs against losses of many heads: the supremum that the contraction bounds is at least this."""
    generator = np.random.default_rng(0)
    x, y = features(20, 3), generator.integers(0, 3, 20)
    heads = generator.standard_normal((3000, 3, 3))
    heads *= 2 / np.linalg.norm(heads, axis=(1, 2), keepdims=True)
    losses = np.stack([ramp_loss(x @ head.T, y) for head in heads])
    attained = np.mean([(losses @ generator.choice([-1, 1], 20)).max() / 20 for _ in range(100)])
    assert attained <= rademacher_multiclass(x, 3, 2.0).value


def test_ramp_loss_is_above_the_error_and_lipschitz() -> None:
    generator = np.random.default_rng(0)
    logits, y = generator.standard_normal((500, 4)), generator.integers(0, 4, 500)
    for margin in (0.3, 1.0, 2.0):
        loss = ramp_loss(logits, y, margin=margin)
        assert ((loss >= (logits.argmax(axis=1) != y)) & (loss <= 1)).all()
        moved = logits + 0.1 * generator.standard_normal(logits.shape)
        change = np.abs(ramp_loss(moved, y, margin=margin) - loss)
        assert (change <= RAMP_LIPSCHITZ / margin * np.linalg.norm(moved - logits, axis=1) + 1e-12).all()


def test_massart_is_above_a_finite_class() -> None:
    generator = np.random.default_rng(0)
    functions = generator.choice([-1, 1], (30, 100))
    attained = np.mean([(functions @ generator.choice([-1, 1], 100)).max() / 100 for _ in range(300)])
    assert attained <= massart(30, 100) == pytest.approx(math.sqrt(2 * math.log(30) / 100))


def test_complexity_shrinks_as_the_root_of_the_number_of_samples() -> None:
    x = features(100, 4)
    few, many = (rademacher_linear(np.tile(x, (times, 1)), 1.0, draws=1000) for times in (1, 4))
    assert many.upper == pytest.approx(few.upper / 2)
    assert many.value == pytest.approx(few.value / 2, rel=0.1)


def test_rows_in_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = features(60, 4)
    closed = rademacher_multiclass(x, 3, 1.0).upper
    monkeypatch.setattr("cmcd_core.theory.complexity.BLOCK", 1300)
    complexity = rademacher_multiclass(x, 3, 1.0)
    assert complexity.upper == pytest.approx(closed)
    assert complexity.lower < complexity.value < closed + 4 * complexity.error


def test_refusals() -> None:
    x = features()
    for broken in (
        lambda: rademacher_linear(x, 0.0),
        lambda: rademacher_linear(x[0], 1.0),
        lambda: rademacher_linear(x, 1.0, draws=1),
        lambda: rademacher_multiclass(x, 0, 1.0),
        lambda: rademacher_multiclass(x, 2, 1.0, lipschitz=-1.0),
        lambda: massart(0, 5),
        lambda: ramp_loss(x, np.full(8, 3)),
        lambda: ramp_loss(x, np.zeros(8)),
        lambda: ramp_loss(x, np.zeros(7, dtype=int)),
        lambda: ramp_loss(x, np.zeros(8, dtype=int), margin=0.0),
    ):
        with pytest.raises(ValueError):
            broken()
