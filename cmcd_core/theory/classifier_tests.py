"""Two samples compared by a classifier that must tell them apart on rows it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from .classifiers import Rule, linear, neighbours
from .estimate import Estimate
from .half_spaces import best_half_space
from .intervals import CONFIDENCE, clopper_pearson_low
from .samples import MOST, Floats, Samples, mean, pairs, two_samples

Fit = Callable[[Floats, Floats], Rule]
KINDS: tuple[Fit, ...] = (linear, neighbours)


def tv_lower_bound(
    a: Samples,
    b: Samples,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    paired: bool = False,
    centred: bool = False,
) -> Estimate:
    """Lower bound of the total variation TV(P, Q) = sup_S |P(S) - Q(S)| by a classifier two-sample test.

    Any rule that tells a from b with balanced accuracy acc shows TV >= 2 · acc - 1. The rows are balanced (as many of
    each side, drawn by ``seed``) and halved; logistic regression and a vote of nearest neighbours are fitted on two
    thirds of the training half and compared on the other third; the better one, fitted on all of that half, is tested
    once on the held-out half: choosing has not seen it. Training accuracy is never read.

    ``low`` is 2 · (lower end of the two-sided Clopper-Pearson interval of the held-out accuracy) - 1, cut at zero: TV
    is below it in at most (1 - confidence)/2 of all samplings. There is no ``high``: no sample bounds TV from above
    without assumptions on the laws. ``p_value`` is the binomial test's of accuracy 1/2. Rows must be independent, but
    for what ``paired`` allows.

    Above 5,000 rows a side, 5,000 are used; ``n`` is the number of held-out rows, both sides together.

    Args:
        a: (n, d) source features.
        b: (m, d) target features.
        confidence: Of the interval, in (0, 1).
        seed: Of the halves.
        paired: Row i of a belongs to row i of b. Pairs are then not parted by the halves, and each held-out pair lends
            one member only: the members' answers depend on each other, so that both would not be binomial.
        centred: Take each side's mean away, as estimated on the training half. (With the held-out rows in the means,
            the residues of the two halves are opposite, and a linear rule falls below chance.)

    Returns:
        Value 2 · acc - 1, cut at zero, in [0, 1]; "lower bound".

    Raises:
        ValueError: Shapes do not match, fewer than four rows a side, or confidence not in (0, 1).

    Example:
        >>> grid = np.linspace(0, 1, 40)[:, None]
        >>> estimate = tv_lower_bound(grid, grid + 5)
        >>> estimate.value, round(estimate.low, 2), estimate.n  # 2 · 0.025^(1/40) - 1
        (1.0, 0.82, 40)

    Reference: Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests" (ICLR 2017).
    """
    risk = _risk(confidence)
    folds = _folds(a, b, seed=seed, paired=paired, centred=centred)
    fit = _better(folds.train_a, folds.train_b)
    hits, n = _hits(fit(folds.train_a, folds.train_b), folds)
    low = max(0.0, 2 * clopper_pearson_low(hits, n, risk) - 1)
    p_value = float(stats.binom.sf(hits - 1, n, 0.5))
    return Estimate("tv_lower_bound", max(0.0, 2 * hits / n - 1), low, None, "lower bound", n, p_value)


def class_discrepancy(
    a: Samples,
    b: Samples,
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    paired: bool = False,
    centred: bool = False,
) -> Estimate:
    """Discrepancy over linear heads: sup over half-spaces H of |P(H) - Q(H)|.

    It is the largest change, from one modality to the other, of the 0/1 risk of a linear two-class head against one
    label; 2 · discrepancy is the proxy A-distance's quantity. It is at most TV, and says nothing of heads that are not
    linear, of more classes at once, or of how labels change with the features.

    ``value`` is a linear classifier's 2 · acc - 1 on held-out rows, cut at zero: half the proxy A-distance 2 (1 - 2
    err). ``low`` is its Clopper-Pearson limit as in :func:`tv_lower_bound`. ``high`` is what the direction speaks of:
    the largest difference D of shares in any half-space of the *samples* + sqrt(c · log(1/risk)/2) with c = 1/n + 1/m
    (pairs: 4/n). The supremum over the laws is at most E D, for a supremum of means is at most the mean of the suprema,
    and one row moves D by 1/n at most (McDiarmid): no complexity of the class is added. D itself is the largest that a
    search finds; the exact one is NP-hard, so that ``high`` is short of a guarantee by what the search misses. Where n
    is below about d, D is 1, rightly. Each end is wrong with probability (1 - confidence)/2 at most.

    Above 5,000 rows a side, 5,000 are used; ``n`` is the number of held-out rows, both sides together.

    Args:
        a: (n, d) source features.
        b: (m, d) target features.
        confidence: Of both ends together, in (0, 1).
        seed: Of the halves and the search.
        paired: As in :func:`tv_lower_bound`.
        centred: As there; D is then of the held-out rows alone, for the means are random in the others.

    Returns:
        Value in [0, 1]; "upper on a class".

    Raises:
        ValueError: As :func:`tv_lower_bound`.

    Example:
        >>> grid = np.linspace(0, 1, 40)[:, None]
        >>> estimate = class_discrepancy(grid, grid + 5)
        >>> estimate.value, estimate.high
        (1.0, 1.0)

    Reference: Ben-David et al., "A theory of learning from different domains" (Machine Learning 2010); Mansour et al.,
    "Domain Adaptation: Learning Bounds and Algorithms" (COLT 2009).
    """
    risk = _risk(confidence)
    folds = _folds(a, b, seed=seed, paired=paired, centred=centred)
    hits, n = _hits(linear(folds.train_a, folds.train_b), folds)
    value = max(0.0, 2 * hits / n - 1)
    low = max(0.0, 2 * clopper_pearson_low(hits, n, risk) - 1)
    seen_a, seen_b = folds.whole_a, folds.whole_b
    found = best_half_space(seen_a, seen_b, np.random.default_rng([seed, 1]))
    share = 4 / len(seen_a) if paired else 1 / len(seen_a) + 1 / len(seen_b)
    high = min(1.0, max(found, value) + math.sqrt(share * math.log(1 / risk) / 2))
    return Estimate("class_discrepancy", value, low, high, "upper on a class", n)


class _Folds(NamedTuple):
    """As many rows of a as of b in each."""

    train_a: Floats
    train_b: Floats
    test_a: Floats
    test_b: Floats
    whole_a: Floats  # all, but only those held out where centred: the means depend on the others
    whole_b: Floats


def _folds(a: Samples, b: Samples, *, seed: int, paired: bool, centred: bool) -> _Folds:
    x, y = pairs(a, b, least=4) if paired else two_samples(a, b, least=4)
    n = min(len(x), len(y), MOST)
    generator = np.random.default_rng(seed)
    rows_x = generator.permutation(len(x))[:n]
    rows_y = rows_x if paired else generator.permutation(len(y))[:n]
    x, y = np.asarray(x[rows_x], dtype=np.float64), np.asarray(y[rows_y], dtype=np.float64)
    half = n // 2
    if centred:
        x, y = x - mean(x[:half]), y - mean(y[:half])
    train_a, train_b, held_a, held_b = x[:half], y[:half], x[half:], y[half:]
    whole_a, whole_b = (held_a, held_b) if centred else (x, y)
    if paired:
        quarter = len(held_a) // 2
        return _Folds(train_a, train_b, held_a[:quarter], held_b[quarter : 2 * quarter], whole_a, whole_b)
    return _Folds(train_a, train_b, held_a, held_b, whole_a, whole_b)


def _better(a: Floats, b: Floats) -> Fit:
    """Which kind of classifier tells the last third of the training rows apart, fitted on the others."""
    part = max(1, 2 * len(a) // 3)
    folds = _Folds(a[:part], b[:part], a[part:], b[part:], a, b)
    scores = [_hits(fit(folds.train_a, folds.train_b), folds)[0] for fit in KINDS]
    return KINDS[int(np.argmax(scores))]


def _hits(rule: Rule, folds: _Folds) -> tuple[int, int]:
    """Held-out rows told rightly, and all."""
    hits = np.count_nonzero(~rule(folds.test_a)) + np.count_nonzero(rule(folds.test_b))
    return int(hits), len(folds.test_a) + len(folds.test_b)


def _risk(confidence: float) -> float:
    """Of each end of a two-sided interval."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    return (1 - confidence) / 2
