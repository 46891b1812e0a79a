"""Linear CKA: do two modalities arrange the same samples alike?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .estimate import Estimate
from .intervals import QUANTILE, standard_error
from .samples import Array, Floats, Samples, blocks_of_pairs, mean, pairs


def linear_cka(a: Samples, b: Samples, *, unbiased: bool = False) -> Estimate:
    """Linear centred kernel alignment: how alike the two modalities arrange the same samples, up to rotation and scale.

    Biased: ‖AᵀB‖² / (‖AᵀA‖ ‖BᵀB‖) of centred features, Frobenius norms; in [0, 1] and far too high where d is not small
    beside n: independent features of many dimensions look alike. Unbiased: each ‖·‖² is an unbiased estimate of HSIC
    with the rows' own products left out; around zero, so also below it, for independent features.

    The interval is of the laws' CKA: the unbiased one ± 1.96 standard errors of its linear part, cut at 1 and stretched
    to hold the value. The widths may differ; all rows are used, at a cost of n · d².

    Args:
        a: (n, d) source features.
        b: (n, d') target features of the same pairs.
        unbiased: Which of the two.

    Returns:
        Value, named "linear_cka" or "linear_cka_unbiased"; 0 where a side is constant; "plug-in".

    Raises:
        ValueError: Not the same number of pairs, or fewer than four.

    Example:
        >>> a = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, 0.0]])
        >>> round(linear_cka(a, 5 * a[:, ::-1]).value, 12)
        1.0

    Reference: Kornblith et al., "Similarity of Neural Network Representations Revisited" (ICML 2019); unbiased HSIC,
    Song et al., "Feature Selection via Dependence Maximization" (JMLR 2012).
    """
    x, y = pairs(a, b, least=4, same_width=False)
    across, own_x, own_y = _dependence(x, y), _dependence(x, x), _dependence(y, y)
    biased = _ratio(across.biased, own_x.biased, own_y.biased)
    centre = _ratio(across.unbiased, own_x.unbiased, own_y.unbiased)
    error = 0.0
    if biased > 0:
        # A ratio changes by its own size times what its parts change by, each in relation to itself.
        parts = (across.rows / across.biased, own_x.rows / own_x.biased, own_y.rows / own_y.biased)
        error = standard_error(biased * (2 * parts[0] - parts[1] - parts[2]))
    value = centre if unbiased else biased
    low, high = min(value, centre - QUANTILE * error), max(value, min(1.0, centre + QUANTILE * error))
    name = "linear_cka_unbiased" if unbiased else "linear_cka"
    return Estimate(name, value, low, high, "plug-in", len(x))


class _Dependence(NamedTuple):
    """HSIC with linear kernels, K = AAᵀ and L = BBᵀ."""

    biased: float  # ‖cov(a, b)‖²
    unbiased: float
    rows: Floats  # (n,), aᵢᵀ cov(a, b) bᵢ: their mean is the biased one


def _dependence(x: Array, y: Array) -> _Dependence:
    n, mean_x, mean_y = len(x), mean(x), mean(y)
    product = np.zeros((x.shape[1], y.shape[1]))
    trace_x = trace_y = both = 0.0  # sums over rows of |a|², |b|², |a|²|b|²
    for u, v in blocks_of_pairs(x, y):
        u, v = u - mean_x, v - mean_y
        product += u.T @ v
        lengths_u, lengths_v = np.square(u).sum(axis=1), np.square(v).sum(axis=1)
        trace_x, trace_y = trace_x + float(lengths_u.sum()), trace_y + float(lengths_v.sum())
        both += float(lengths_u @ lengths_v)
    rows = [(((u - mean_x) @ product) * (v - mean_y)).sum(axis=1) / n for u, v in blocks_of_pairs(x, y)]
    squared = float(np.square(product).sum())
    # With zeroed diagonals, and rows that add up to nought:
    # tr KL = ‖AᵀB‖² - Σ|a|²|b|², 1ᵀK1 = -Σ|a|², 1ᵀKL1 = Σ|a|²|b|².
    unbiased = squared - both + trace_x * trace_y / ((n - 1) * (n - 2)) - 2 * both / (n - 2)
    return _Dependence(squared / n**2, unbiased / (n * (n - 3)), np.concatenate(rows))


def _ratio(across: float, own_x: float, own_y: float) -> float:
    return across / math.sqrt(own_x * own_y) if min(own_x, own_y) > 0 else 0.0
