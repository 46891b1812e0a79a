"""Distances between all rows of two samples, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .samples import BLOCK, Floats

Kernel = Callable[[Floats], Floats]
"""From squared distances to the kernel's values."""


def squared_distances(x: Floats, y: Floats) -> Iterator[tuple[int, Floats]]:
    """(r, m) blocks with the number of their first row, in order, never below zero.

    A common offset is taken away first, for it would cost digits.
    """
    offset = y.mean(axis=0)
    x, y = x - offset, y - offset
    squares_x, squares_y = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)
    rows = max(1, BLOCK // len(y))
    for start in range(0, len(x), rows):
        block = x[start : start + rows] @ y.T
        block *= -2
        block += squares_x[start : start + rows, None]
        block += squares_y
        yield start, np.maximum(block, 0, out=block)


def kernel_sums(kernel: Kernel, z: Floats, groups: Floats) -> Floats:
    """For each row of z (N, d), the kernel summed over the members of each group, itself left out.

    Args:
        kernel: Elementwise.
        z: (N, d).
        groups: (N, G), one where a row belongs to a group, else zero.

    Returns:
        (N, G).
    """
    sums = np.empty_like(groups)
    for start, squared in squared_distances(z, z):
        rows = np.arange(len(squared))
        block = kernel(squared)
        block[rows, start + rows] = 0
        sums[start : start + len(block)] = block @ groups
    return sums


def log_kernel_means(x: Floats, y: Floats, sharpness: float, *, itself: bool = True) -> Floats:
    """For each row of x, the log of the mean of exp(-sharpness · d²) over the rows of y: finite however far they are.

    ``itself = False``: y is x, and a row's distance to itself is left out of its mean.
    """
    means = np.empty(len(x))
    count = len(y) if itself else len(y) - 1
    for start, squared in squared_distances(x, y):
        exponents = np.multiply(squared, -sharpness, out=squared)
        if not itself:
            rows = np.arange(len(squared))
            exponents[rows, start + rows] = -np.inf
        means[start : start + len(squared)] = log_sum_exp(exponents) - np.log(count)
    return means


def log_sum_exp(exponents: Floats) -> Floats:
    """Of each row, in place; scipy's takes several times as long, for it allows for what does not occur here."""
    largest = exponents.max(axis=1, keepdims=True)
    exponents -= largest
    return np.asarray(np.log(np.exp(exponents, out=exponents).sum(axis=1)) + largest[:, 0])


def log_mean(logs: Floats) -> float:
    """Log of the mean of what has these logs."""
    return float(log_sum_exp(logs[None].copy())[0] - np.log(len(logs)))


def median_distance(x: Floats, y: Floats, most: int = 500) -> float:
    """Median distance between different rows of both samples together (the median heuristic for a bandwidth).

    Of at most ``most`` rows a side, evenly spread. Repeated rows do not count; 1 where all rows are one.
    """
    z = np.concatenate([s[np.linspace(0, len(s) - 1, min(most, len(s))).astype(int)] for s in (x, y)])
    upper = np.triu_indices(len(z), 1)
    squared = np.concatenate([block for _, block in squared_distances(z, z)])[upper]
    scale = float(np.square(z - z.mean(axis=0)).sum(axis=1).mean())
    apart = squared[squared > 1e-12 * scale]
    return float(np.sqrt(np.median(apart))) if len(apart) else 1.0
