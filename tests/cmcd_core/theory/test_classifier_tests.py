"""The lower bound of TV holds as often as it says, knows a null case, and keeps folds apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm

from cmcd_core.theory.classifier_tests import KINDS
from cmcd_core.theory.classifiers import linear, neighbours
from cmcd_core.theory.distance import class_discrepancy, tv_lower_bound
from cmcd_core.theory.half_spaces import best_half_space
from cmcd_core.theory.intervals import clopper_pearson_high, clopper_pearson_low

DRAWS = 200


def most(risk: float, draws: int = DRAWS) -> int:
    """Violations that a true rate of ``risk`` exceeds once in a thousand times."""
    return int(binom.ppf(0.999, draws, risk))


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_lower_bound_of_total_variation_holds(shifted: Any, shift: float) -> None:
    tv = 2 * norm.cdf(shift / 2) - 1
    violations = 0
    for seed in range(DRAWS):
        a, b = shifted(60, 3, shift, seed)
        violations += tv_lower_bound(a, b, seed=seed).low > tv
    assert violations <= most(0.025)


@pytest.mark.parametrize("correlation", [0.99, -0.99])
def test_it_holds_for_pairs_whose_members_depend_on_each_other(correlation: float) -> None:
    violations = 0
    for seed in range(DRAWS):
        a, noise = np.random.default_rng(seed).standard_normal((2, 60, 2))
        b = correlation * a + np.sqrt(1 - correlation**2) * noise
        violations += tv_lower_bound(a, b, seed=seed, paired=True).low > 0
    assert violations <= most(0.025)


def test_both_ends_of_class_discrepancy_hold(shifted: Any) -> None:
    tv = 2 * norm.cdf(0.5) - 1
    estimates = [class_discrepancy(*shifted(80, 3, 1.0, seed), seed=seed) for seed in range(100)]
    assert sum(estimate.low > tv for estimate in estimates) <= most(0.025, 100)
    assert sum(estimate.high < tv for estimate in estimates) <= most(0.025, 100)


def test_null_case_gives_zero(shifted: Any) -> None:
    a, b = shifted(2000, 16, 0.0)
    estimate = tv_lower_bound(a, b, seed=2)
    assert estimate.low == 0
    assert estimate.value < 0.05
    assert estimate.p_value > 0.05


def test_training_accuracy_is_never_read(shifted: Any) -> None:
    """100 + 100 training rows in 128 dimensions are told apart, the held-out ones not at all."""
    a, b = shifted(200, 128, 0.0)
    rule = linear(a[:100], b[:100])
    assert (np.mean(~rule(a[:100])) + np.mean(rule(b[:100]))) / 2 > 0.9
    assert tv_lower_bound(a, b).low == 0
    assert class_discrepancy(a, b).value < 0.15
    assert class_discrepancy(a, b).high > 0.85  # the class is too rich for 200 samples to say more


def test_means_come_from_the_training_fold(shifted: Any) -> None:
    """The same law: centring must leave chance. With the means of all rows a linear rule falls far below it."""
    accuracies, trapped = [], []
    for seed in range(40):
        a, b = shifted(60, 40, 0.0, seed)
        x, y = a - a[:30].mean(axis=0), b - b[:30].mean(axis=0)
        accuracies.append(accuracy(x, y))
        trapped.append(accuracy(a - a.mean(axis=0), b - b.mean(axis=0)))
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.03)
    assert np.mean(trapped) < 0.45


def accuracy(x: np.ndarray, y: np.ndarray) -> float:
    """Of a linear rule on the second half of the rows."""
    rule = linear(x[:30], y[:30])
    return float(np.mean(~rule(x[30:])) + np.mean(rule(y[30:]))) / 2


def test_centring_takes_a_shift_away_but_not_a_shape(shifted: Any) -> None:
    a, b = shifted(1000, 4, 3.0)
    assert tv_lower_bound(a, b).value > 0.8
    assert tv_lower_bound(a, b, centred=True).low < 0.03
    assert class_discrepancy(a, b, centred=True).high < 0.25
    wide = 4 * b
    assert class_discrepancy(a, wide, centred=True).value < 0.1  # no half-space sees a spread
    assert tv_lower_bound(a, wide, centred=True).low > 0.5  # the neighbours do


def test_unequal_sides_are_balanced(shifted: Any) -> None:
    a, b = shifted(400, 2, 0.0)
    estimate = tv_lower_bound(a, b[:40])
    assert estimate.n == 40
    assert estimate.low == 0


def test_each_kind_of_classifier_is_chosen_where_it_is_better(shifted: Any) -> None:
    assert (linear, neighbours) == KINDS
    a, b = shifted(300, 2, 0.0)
    assert tv_lower_bound(a, 5 * b).value > 0.5
    assert tv_lower_bound(*shifted(300, 64, 2.0)).value > 0.4


def test_confidence_moves_the_lower_end(shifted: Any) -> None:
    a, b = shifted(200, 2, 1.0)
    ends = [tv_lower_bound(a, b, confidence=confidence).low for confidence in (0.5, 0.9, 0.99)]
    assert ends == sorted(ends, reverse=True)
    assert len({tv_lower_bound(a, b, confidence=confidence).value for confidence in (0.5, 0.99)}) == 1
    with pytest.raises(ValueError, match="confidence"):
        tv_lower_bound(a, b, confidence=1.0)


def test_clopper_pearson_is_exact() -> None:
    low = clopper_pearson_low(15, 20, 0.05)
    assert binom.sf(14, 20, low) == pytest.approx(0.05)
    assert binom.cdf(15, 20, clopper_pearson_high(15, 20, 0.05)) == pytest.approx(0.05)
    assert (clopper_pearson_low(0, 20, 0.05), clopper_pearson_high(20, 20, 0.05)) == (0, 1)


def test_search_for_a_half_space_comes_close_to_the_best() -> None:
    generator = np.random.default_rng(0)
    missed = []
    for case in range(6):
        a = generator.standard_normal((25, 2))
        b = generator.standard_normal((25, 2)) * ((1, 1) if case % 2 else (2, 0.5)) + (0.3, 0)
        best = exhaustive(a, b)
        found = best_half_space(a, b, generator)
        assert found <= best + 1e-9
        missed.append(best - found)
    assert np.mean(missed) < 0.02


def exhaustive(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of shares beside a line: every line through two points, moved and turned a little."""
    points = np.concatenate([a, b])
    best = 0.0
    for i, p in enumerate(points):
        for q in points[:i]:
            middle = (p + q) / 2
            for turn in (1e-7, -1e-7):
                normal = np.array([p[1] - q[1] + turn * (p[0] - q[0]), q[0] - p[0] + turn * (p[1] - q[1])])
                for move in (-1e-7, 0, 1e-7):
                    above = middle @ normal + move * np.linalg.norm(normal)
                    best = max(best, abs(np.mean(a @ normal > above) - np.mean(b @ normal > above)))
    return best


def test_search_finds_a_half_space_that_separates_few_rows_in_many_dimensions(shifted: Any) -> None:
    a, b = shifted(100, 110, 0.0)
    assert best_half_space(a, b, np.random.default_rng(0)) == 1


def test_in_one_dimension_the_search_is_the_statistic_of_kolmogorov_and_smirnov(shifted: Any) -> None:
    from scipy.stats import ks_2samp

    a, b = (np.round(x, 1) for x in shifted(80, 1, 0.7))  # with ties
    assert best_half_space(a, b, np.random.default_rng(0)) == pytest.approx(ks_2samp(a[:, 0], b[:, 0]).statistic)
