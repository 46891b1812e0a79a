"""Ends of confidence intervals."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from .samples import Floats

CONFIDENCE = 0.95
"""Of the intervals that take no confidence of their own."""
QUANTILE = float(stats.norm.ppf((1 + CONFIDENCE) / 2))


def clopper_pearson_low(hits: float, n: int, risk: float) -> float:
    """The smallest rate that n trials with at least so many hits leave possible; wrong with probability ``risk``.

    Exact for independent trials of one rate. For trials of different rates (the two sides of a balanced test) it holds
    for their mean: their sum has lighter tails than the binomial's (Hoeffding, "On the distribution of the number of
    successes in independent trials", 1956).
    """
    return 0.0 if hits <= 0 else float(stats.beta.ppf(risk, hits, n - hits + 1))


def clopper_pearson_high(hits: float, n: int, risk: float) -> float:
    """The largest such rate."""
    return 1.0 if hits >= n else float(stats.beta.ppf(1 - risk, hits + 1, n - hits))


def standard_error(influence: Floats, *others: Floats) -> float:
    """Of a statistic from the influence of each row, one array a sample.

    The samples' shares are added up, not their squares: this is the largest that any dependence between the samples can
    make it, so that the interval holds for pairs too; for independent samples of one spread it is up to 1.4 times wider
    than need be.
    """
    return sum(float(np.std(x, ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.inf for x in (influence, *others))
