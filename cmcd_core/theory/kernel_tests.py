"""Two samples compared by the means of a kernel: MMD² and energy distance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .estimate import Estimate
from .intervals import QUANTILE, standard_error
from .pairwise import Kernel, kernel_sums, median_distance
from .samples import Floats, Samples, pairs, positive, thinned_both, two_samples


def mmd2(
    a: Samples,
    b: Samples,
    *,
    bandwidth: float | None = None,
    permutations: int = 0,
    paired: bool = False,
    seed: int = 0,
) -> Estimate:
    """Squared maximum mean discrepancy, unbiased, with the kernel k(x, y) = exp(-‖x - y‖² / (2 · bandwidth²)).

    ``mean_{i≠j} k(a_i, a_j) + mean_{i≠j} k(b_i, b_j) - 2 mean_{ij} k(a_i, b_j)``; around zero, so also below it, where
    the laws are one. It has no dimension in its rate 1/√n, but with the bandwidth it tends to zero in high dimension.

    The interval is value ± 1.96 standard errors of the statistic's linear part (each row's mean kernel), added up so
    that it holds for pairs too. It speaks of the laws' MMD² at this bandwidth, which is at least zero: so is ``high``.

    Above 5,000 rows a side, 5,000 drawn by ``seed`` are used, and ``n`` says so.

    Args:
        a: (n, d) source features.
        b: (m, d) target features.
        bandwidth: None: the median distance of both samples together.
        permutations: How many times the sides are shuffled for ``p_value``, which is at least 1 / (permutations + 1);
            0: none.
        paired: Row i of a belongs to row i of b: shuffling then swaps the members within pairs.
        seed: Of the rows drawn and of the permutations.

    Returns:
        Value in [-2, 2]; "plug-in".

    Raises:
        ValueError: Shapes do not match, fewer than two rows a side, bandwidth not positive, permutations negative.

    Example:
        >>> a, b = np.zeros((4, 1)), np.ones((4, 1))
        >>> round(mmd2(a, b, bandwidth=1.0).value, 4)  # 2 - 2 exp(-1/2)
        0.7869

    Reference: Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012).
    """
    x, y = pairs(a, b) if paired else two_samples(a, b)
    if permutations < 0:
        raise ValueError(f"permutations must not be negative, got {permutations}")
    x, y = thinned_both(x, y, seed, paired=paired)
    width = median_distance(x, y) if bandwidth is None else positive("bandwidth", bandwidth)

    def kernel(squared: Floats) -> Floats:
        squared *= -0.5 / width**2
        return np.exp(squared, out=squared)

    sides = _shuffled(len(x), len(y), permutations, paired, np.random.default_rng([seed, 1]))
    means = _kernel_means(kernel, x, y, sides)
    value = float(means.unbiased[0])
    reach = QUANTILE * means.error
    p_value = None
    if permutations:
        # Ties count: a shuffle that only renames the sides has the observed value up to rounding.
        beyond = means.unbiased[1:] >= value - 1e-12 * max(1.0, abs(value))
        p_value = float((1 + np.count_nonzero(beyond)) / (1 + permutations))
    return Estimate("mmd2", value, value - reach, max(0.0, value + reach), "plug-in", min(len(x), len(y)), p_value)


def energy_distance(a: Samples, b: Samples, *, seed: int = 0) -> Estimate:
    """Energy distance ``2 E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖``, all means over n² or n·m pairs of rows (V-statistic).

    It is MMD² with the kernel -‖x - y‖, without a bandwidth, and zero only where the laws are one. The V-statistic
    counts a row's distance to itself, so it is at least zero and biased upwards by about E‖x - x'‖/n + E‖y - y'‖/m.

    The interval is that of the unbiased statistic (without the rows' distances to themselves) ± 1.96 standard errors as
    in :func:`mmd2`, cut at zero and stretched to hold the value.

    Above 5,000 rows a side, 5,000 drawn by ``seed`` are used, and ``n`` says so.

    Args:
        a: (n, d) source features.
        b: (m, d) target features.
        seed: Of the rows drawn.

    Returns:
        Value in [0, inf), in the features' own units; "plug-in".

    Raises:
        ValueError: Shapes do not match, or fewer than two rows a side.

    Example:
        >>> energy_distance(np.zeros((3, 1)), np.ones((3, 1))).value
        2.0

    Reference: Székely and Rizzo, "Energy statistics: A class of statistics based on distances" (JSPI 2013).
    """
    x, y = two_samples(a, b)
    x, y = thinned_both(x, y, seed)

    def kernel(squared: Floats) -> Floats:
        return np.negative(np.sqrt(squared, out=squared), out=squared)

    means = _kernel_means(kernel, x, y, _shuffled(len(x), len(y)))
    value, centre = max(0.0, means.biased), float(means.unbiased[0])
    reach = QUANTILE * means.error
    low, high = min(value, max(0.0, centre - reach)), max(value, centre + reach)
    return Estimate("energy_distance", value, low, high, "plug-in", min(len(x), len(y)))


class _Means(NamedTuple):
    unbiased: Floats  # of each assignment of the rows to the sides, the true one first
    biased: float  # with each row's kernel with itself, taken as zero
    error: float  # standard error of the first


def _kernel_means(kernel: Kernel, x: Floats, y: Floats, sides: Floats) -> _Means:
    """Within minus across. ``sides``: (N, 1 + P), one where a row of x and y together counts as a's."""
    n, m = len(x), len(y)
    sums = kernel_sums(kernel, np.concatenate([x, y]), np.column_stack([sides, 1 - sides[:, 0]]))
    to_x, to_y = sums[:, 0], sums[:, -1]
    everything = to_x + to_y
    within_a = np.einsum("ij,ij->j", sides, sums[:, :-1])
    across = everything @ sides - within_a
    within_b = everything.sum() - within_a - 2 * across
    unbiased = within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * across / (n * m)
    biased = float(within_a[0] / n**2 + within_b[0] / m**2 - 2 * across[0] / (n * m))
    influence_x = 2 * (to_x[:n] / (n - 1) - to_y[:n] / m)
    influence_y = 2 * (to_y[n:] / (m - 1) - to_x[n:] / n)
    return _Means(unbiased, biased, standard_error(influence_x, influence_y))


def _shuffled(
    n: int, m: int, times: int = 0, paired: bool = False, generator: np.random.Generator | None = None
) -> Floats:
    """(n + m, 1 + times): ones for the rows of a, then for what shuffling makes a's."""
    sides = np.zeros((n + m, 1 + times))
    sides[:n] = 1
    if generator is None:
        return sides
    for column in sides.T[1:]:
        if paired:
            swapped = generator.random(n) < 0.5
            column[:n], column[n:] = ~swapped, swapped
        else:
            generator.shuffle(column)
    return sides
