"""The bound: its terms, what it can never be, and that risks stay below it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from cmcd_core.theory.bound import Bound, Term, generalisation_bound, paired_discrepancy, ramp_loss
from cmcd_core.theory.distance import class_discrepancy, energy_distance, tv_lower_bound

NAMES = ["empirical risk", "complexity", "deviation", "norm after the fact", "discrepancy", "encoder"]


def problem(m: int = 200, d: int = 4, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, targets and a head that gets most of them right."""
    generator = np.random.default_rng(seed)
    head = generator.standard_normal((classes, d))
    x = generator.standard_normal((m, d))
    return x, (x @ head.T + generator.standard_normal((m, classes))).argmax(axis=1), head


def values(bound: Bound) -> dict[str, float | None]:
    return {term.name: term.value for term in bound.terms}


def test_terms_and_their_statuses() -> None:
    x, y, head = problem()
    bound = generalisation_bound(x, y, head, norm=10.0)
    assert [term.name for term in bound.terms] == NAMES
    assert [term.status for term in bound.terms] == [
        "computed",
        "upper bound",
        "computed",
        "computed",
        "not evaluated",
        "not evaluated",
    ]
    assert all(term.note for term in bound.terms)
    assert values(bound)["empirical risk"] == pytest.approx(ramp_loss(x @ head.T, y).mean())
    assert values(bound)["deviation"] == pytest.approx(3 * math.sqrt(math.log(2 / 0.05) / 400))
    assert bound.total == pytest.approx(sum(value for value in values(bound).values() if value is not None))
    assert bound.guaranteed


@settings(max_examples=25)
@given(
    m=st.integers(1, 50),
    d=st.integers(1, 5),
    classes=st.integers(2, 5),
    seed=st.integers(0, 99),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 50.0]),
    after=st.booleans(),
)
def test_never_below_the_empirical_risk(m: int, d: int, classes: int, seed: int, scale: float, after: bool) -> None:
    x, y, head = problem(m, d, classes, seed)
    bound = generalisation_bound(x, y, scale * head, norm=None if after else 1e4, draws=20)
    assert bound.total >= values(bound)["empirical risk"]
    assert all(value is None or value >= 0 for value in values(bound).values())
    assert bound.vacuous == (bound.total >= 1)


def test_vacuous_is_shown_and_not_cut() -> None:
    x, y, head = problem(20)
    bound = generalisation_bound(x, y, 100 * head)
    assert bound.vacuous
    assert bound.total > 10


def test_many_samples_and_a_short_head_say_something() -> None:
    x = np.repeat([[3.0], [-3.0]], 10_000, axis=0)
    y = np.repeat([0, 1], 10_000)
    bound = generalisation_bound(x, y, np.array([[0.25], [-0.25]]))
    assert values(bound)["empirical risk"] == 0
    assert 0 < bound.total < 0.2
    assert not bound.vacuous


def test_falls_with_samples_and_rises_with_confidence_and_norm() -> None:
    x, y, head = problem(100)
    own = float(np.linalg.norm(head))
    by_samples = [generalisation_bound(np.tile(x, (t, 1)), np.tile(y, t), head, norm=own).total for t in (1, 4, 16)]
    assert by_samples == sorted(by_samples, reverse=True)
    by_confidence = [generalisation_bound(x, y, head, norm=own, confidence=c).total for c in (0.5, 0.9, 0.99, 0.9999)]
    assert by_confidence == sorted(by_confidence)
    by_norm = [generalisation_bound(x, y, head, norm=norm).total for norm in (own, 2 * own, 5 * own)]
    assert by_norm == sorted(by_norm)


def test_a_norm_read_off_the_head_costs_more_than_one_chosen_before() -> None:
    x, y, head = problem()
    for scale in (1e-3, 0.1, 1.0, 30.0):
        own = float(np.linalg.norm(scale * head))
        before = generalisation_bound(x, y, scale * head, norm=own)
        after = generalisation_bound(x, y, scale * head)
        assert values(before)["norm after the fact"] == 0
        cost = values(after)["norm after the fact"]
        assert cost > 0
        assert after.total == pytest.approx(before.total + cost)
        # It covers the norm rounded up, with its share of delta.
        power = math.ceil(math.log2(own))
        share = 0.05 * (2 / 3) / ((abs(power) + 1) * (abs(power) + 2))
        rounded = generalisation_bound(x, y, scale * head, norm=2.0**power, confidence=1 - share)
        assert after.total == pytest.approx(rounded.total)


def test_shares_of_delta_add_up() -> None:
    shares = [(2 / 3) / ((abs(j) + 1) * (abs(j) + 2)) for j in range(-100_000, 100_001)]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert sum(shares) <= 1


def test_a_bias_is_one_more_column() -> None:
    x, y, head = problem()
    bias = np.array([0.5, -1.0, 0.0])
    wider = np.column_stack([x, np.ones(len(x))]), y, np.column_stack([head, bias])
    assert generalisation_bound(x, y, head, bias) == generalisation_bound(*wider)


def test_tensors() -> None:
    x, y, head = problem()
    bound = generalisation_bound(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(head).requires_grad_())
    assert bound == generalisation_bound(x, y, head)


def test_discrepancies_keep_their_direction(shifted: Any) -> None:
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in shifted(300, 4, 1.0))
    y, head = (a[:, 0] > 0).astype(int), np.eye(2, 4)
    for estimate in (tv_lower_bound(a, b), class_discrepancy(a, b)):
        bound = generalisation_bound(a, y, head, discrepancy=estimate)
        term = bound.terms[NAMES.index("discrepancy")]
        assert (term.value, term.status) == (estimate.low, "lower bound")
        assert not bound.guaranteed
    estimate = paired_discrepancy(a, 0.9 * a + 0.1 * b, 0.1 * head)
    bound = generalisation_bound(a, y, 0.1 * head, discrepancy=estimate)
    term = bound.terms[NAMES.index("discrepancy")]
    assert (term.value, term.status) == (estimate.high, "upper bound")
    assert bound.guaranteed
    with pytest.raises(ValueError, match="energy_distance is no difference of risks"):
        generalisation_bound(a, y, head, discrepancy=energy_distance(a, b))


@pytest.mark.parametrize("shift", [0.2, 1.0, 2.0])
def test_no_head_s_error_changes_by_more_than_total_variation(shifted: Any, shift: float) -> None:
    """Heads of one label, exactly; and heads against another head's labels, on samples."""
    tv = 2 * norm.cdf(shift / 2) - 1
    generator = np.random.default_rng(1)
    weight = generator.standard_normal((200, 16))
    offset = generator.standard_normal(200)
    length = np.linalg.norm(weight, axis=1)
    change = np.abs(norm.cdf((weight[:, 0] * shift + offset) / length) - norm.cdf(offset / length))
    assert 0 < change.max() <= tv
    a, b = shifted(4000, 16, shift)
    assert change.max() <= class_discrepancy(a, b).high
    labels = generator.standard_normal((16, 200))
    wrong_a, wrong_b = (((x @ weight.T > 0) != (x @ labels > 0)).mean(axis=0) for x in (a, b))
    assert np.abs(wrong_a - wrong_b).max() <= tv + 4 * math.sqrt(0.5 / 4000)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), noise=st.floats(0.0, 1.0), scale=st.floats(0.01, 5.0))
def test_no_head_s_risk_changes_by_more_than_the_paired_discrepancy(seed: int, noise: float, scale: float) -> None:
    """It holds on the pairs themselves, whatever their labels."""
    generator = np.random.default_rng(seed)
    a = generator.standard_normal((40, 4))
    b = a + noise * generator.standard_normal((40, 4))
    y, head = generator.integers(0, 3, 40), scale * generator.standard_normal((3, 4))
    change = abs(ramp_loss(a @ head.T, y).mean() - ramp_loss(b @ head.T, y).mean())
    estimate = paired_discrepancy(a, b, head, longest=20.0)
    assert change <= estimate.value + 1e-12
    assert estimate.value <= estimate.high <= 1


def test_paired_discrepancy_of_known_pairs() -> None:
    a = np.tile(np.eye(3), (200, 1))
    b = a + np.array([0.1, 0, 0])
    head = np.eye(3)
    estimate = paired_discrepancy(a, b, head)
    assert estimate.value == pytest.approx(math.sqrt(2) * math.sqrt(3) * 0.1)
    reach = 4 * math.sqrt(math.log(20) / (2 * 600))
    assert estimate.high == pytest.approx(min(1, math.sqrt(6) * math.sqrt(0.01 + reach)))
    assert estimate.direction == "upper on a class"
    with pytest.raises(ValueError, match="further apart than longest"):
        paired_discrepancy(a, b, head, longest=0.05)
    with pytest.raises(ValueError, match="weight must be"):
        paired_discrepancy(a, b, np.eye(2))


def test_refusals() -> None:
    x, y, head = problem()
    with pytest.raises(ValueError, match="above norm"):
        generalisation_bound(x, y, head, norm=0.1)
    with pytest.raises(ValueError, match="confidence"):
        generalisation_bound(x, y, head, confidence=0.0)
    with pytest.raises(ValueError, match="weight must be"):
        generalisation_bound(x, y, head[:, :2])
    with pytest.raises(ValueError, match="bias must be"):
        generalisation_bound(x, y, head, np.zeros(2))
    with pytest.raises(ValueError, match="targets"):
        generalisation_bound(x, y + 5, head)


def test_a_total_of_known_terms() -> None:
    terms = (
        Term("empirical risk", 0.25, "computed", "-"),
        Term("deviation", 0.5, "computed", "-"),
        Term("discrepancy", 0.125, "lower bound", "-"),
        Term("encoder", None, "not evaluated", "-"),
    )
    bound = Bound(terms, 1.0, 0.95)
    assert (bound.total, bound.vacuous, bound.guaranteed) == (0.875, False, False)
    assert Bound(terms, 0.875, 0.95).vacuous
