"""Sliced Wasserstein distance: optimal transport between one-dimensional shadows of two samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .estimate import Estimate
from .intervals import QUANTILE, standard_error
from .samples import Array, Floats, Samples, blocks, two_samples

TOGETHER = 8
"""Directions that are projected in one pass over the rows."""


def sliced_wasserstein2(a: Samples, b: Samples, *, projections: int = 128, seed: int = 0) -> Estimate:
    """Sliced Wasserstein distance of order two, squared: the mean over directions θ of W2²(law of θ·a, law of θ·b).

    In one dimension W2² is the mean squared difference of the quantile functions: of equal sizes, of the sorted values;
    of different sizes, of the two step functions, exactly. Directions are drawn uniformly from the sphere by ``seed``.
    Scales as the square of the features. Biased upwards by O(1/n): where the laws are one it is small and above zero.

    The interval is value ± 1.96 standard errors of its linear part in the rows (their mean transport potential, see the
    second reference) and of the mean over directions. At its lower end the bias is taken off first, as measured between
    halves of each sample: where the laws are one it reaches zero.

    All rows are used: the cost is n log n a direction, the memory a few directions' worth of rows.

    Args:
        a: (n, d) source features.
        b: (m, d) target features.
        projections: How many directions.
        seed: Of the directions and the halves.

    Returns:
        Value in [0, inf); "plug-in".

    Raises:
        ValueError: Shapes do not match, fewer than four rows a side, or no projection.

    Example:
        >>> a = np.arange(8.0)[:, None]
        >>> sliced_wasserstein2(a, a + 3).value
        9.0

    Reference: Rabin et al., "Wasserstein Barycenter and Its Application to Texture Mixing" (SSVM 2011); Manole,
    Balakrishnan, Wasserman, "Minimax confidence intervals for the Sliced Wasserstein distance" (EJS 2022).
    """
    if projections < 1:
        raise ValueError(f"projections must be at least one, got {projections}")
    x, y = two_samples(a, b, least=4)
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((projections, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    plan = _Plan(_levels(len(x), len(y)), generator.permutation(len(x)), generator.permutation(len(y)))
    costs = np.empty(projections)
    bias = 0.0
    potential_x, potential_y = np.zeros(len(x)), np.zeros(len(y))
    for start in range(0, projections, TOGETHER):
        some = directions[start : start + TOGETHER]
        for i, (u, v) in enumerate(zip(_shadows(x, some), _shadows(y, some), strict=True), start):
            slice_ = _slice(u, v, plan)
            costs[i], bias = slice_.cost, bias + slice_.bias / projections
            potential_x += slice_.potential_x / projections
            potential_y += slice_.potential_y / projections
    value = float(costs.mean())
    spread = float(costs.std(ddof=1)) if projections > 1 and x.shape[1] > 1 else 0.0
    reach = QUANTILE * math.hypot(standard_error(potential_x, potential_y), spread / math.sqrt(projections))
    low = min(value, max(0.0, value - bias - reach))
    return Estimate("sliced_wasserstein2", value, low, value + reach, "plug-in", min(len(x), len(y)))


class _Levels(NamedTuple):
    """The steps of two quantile functions together: which value each has on a step, and how wide it is."""

    of_x: NDArray[np.int64]
    of_y: NDArray[np.int64]
    width: Floats


class _Plan(NamedTuple):
    levels: _Levels
    order_x: NDArray[np.int64]  # rows at random: the first half against the second
    order_y: NDArray[np.int64]


class _Slice(NamedTuple):
    cost: float
    bias: float
    potential_x: Floats
    potential_y: Floats


def _levels(n: int, m: int) -> _Levels:
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # in 1/(n·m): whole numbers compare exactly
    return _Levels((ends - 1) // m, (ends - 1) // n, np.diff(ends, prepend=0) / (n * m))


def _shadows(x: Array, directions: Floats) -> Floats:
    """(directions, n)"""
    return np.concatenate([directions @ block.T for block in blocks(x)], axis=1)


def _slice(u: Floats, v: Floats, plan: _Plan) -> _Slice:
    order_u, order_v = np.argsort(u), np.argsort(v)
    sorted_u, sorted_v = u[order_u], v[order_v]
    levels = plan.levels
    moved = np.square(sorted_u[levels.of_x] - sorted_v[levels.of_y])
    potential_u, potential_v = np.empty_like(u), np.empty_like(v)
    potential_u[order_u] = _potential(sorted_u, sorted_v)
    potential_v[order_v] = _potential(sorted_v, sorted_u)
    # Two halves of n rows are as far apart as bias makes them, each with n/2 rows: four times a side's share.
    bias = (_between_halves(u, plan.order_x) + _between_halves(v, plan.order_y)) / 4
    return _Slice(float(levels.width @ moved), bias, potential_u, potential_v)


def _potential(x: Floats, y: Floats) -> Floats:
    """Of each sorted x: the integral of 2 (t - T(t)), T the transport to sorted y; the slope of W2² in x's law."""
    middles = (np.arange(len(x)) + 0.5) / len(x)
    gaps = x - y[np.minimum((middles * len(y)).astype(np.int64), len(y) - 1)]
    steps = np.diff(x) * (gaps[1:] + gaps[:-1])
    return np.concatenate([[0.0], np.cumsum(steps)])


def _between_halves(u: Floats, order: NDArray[np.int64]) -> float:
    half = len(u) // 2
    first, second = np.sort(u[order[:half]]), np.sort(u[order[half : 2 * half]])
    return float(np.square(first - second).mean())
