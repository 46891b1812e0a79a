"""Divergences of densities that are themselves estimated: Cauchy-Schwarz by kernels, Kullback-Leibler by neighbours."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from .estimate import Estimate
from .intervals import QUANTILE, standard_error
from .pairwise import log_kernel_means, log_mean, median_distance
from .samples import Array, Floats, Samples, blocks, mean, positive, thinned, thinned_both, two_samples

MOST_NEIGHBOURS = 20_000
"""Rows a side of the nearest-neighbour estimate: it costs n log n, with a factor that grows with the dimension."""


def cs_divergence(a: Samples, b: Samples, *, sigma: float | None = None, seed: int = 0) -> Estimate:
    """Cauchy-Schwarz divergence of kernel density estimates, kernel k(x, y) = exp(-‖x - y‖² / (2 · sigma²)).

    ``log mean k(a, a) + log mean k(b, b) - 2 log mean k(a, b)``, means over all pairs of rows, a row's own included: at
    least zero, and zero where the samples are one. It is a divergence of the laws *smoothed* by the kernel (sigma
    matters), and biased upwards by the rows' own pairs where sigma is small. Sums are of logs: it is finite at any
    distance.

    The interval is that of the divergence without the rows' own pairs ± 1.96 standard errors of its linear part, cut at
    zero and stretched to hold the value.

    Above 5,000 rows a side, 5,000 drawn by ``seed`` are used, and ``n`` says so.

    Args:
        a: (n, d) source features.
        b: (m, d) target features.
        sigma: Bandwidth; None: the median distance of both samples together.
        seed: Of the rows drawn.

    Returns:
        Value in [0, inf); "plug-in".

    Raises:
        ValueError: Shapes do not match, fewer than two rows a side, or sigma not positive.

    Example:
        >>> round(cs_divergence(np.zeros((3, 1)), np.ones((3, 1)), sigma=1.0).value, 4)  # d² / sigma²
        1.0

    Reference: Principe, "Information Theoretic Learning" (2010); between modalities, CS-Aligner (arXiv 2502.17028).
    """
    x, y = thinned_both(*two_samples(a, b), seed)
    width = median_distance(x, y) if sigma is None else positive("sigma", sigma)
    sharpness = 0.5 / width**2
    xx, yy = log_kernel_means(x, x, sharpness), log_kernel_means(y, y, sharpness)
    xy, yx = log_kernel_means(x, y, sharpness), log_kernel_means(y, x, sharpness)
    log_xx, log_yy, log_xy = (log_mean(rows) for rows in (xx, yy, xy))
    value = max(0.0, log_xx + log_yy - 2 * log_xy)
    centre = _without_own(log_xx, len(x)) + _without_own(log_yy, len(y)) - 2 * log_xy
    influence_x = 2 * (np.exp(xx - log_xx) - np.exp(xy - log_xy))
    influence_y = 2 * (np.exp(yy - log_yy) - np.exp(yx - log_xy))
    reach = QUANTILE * standard_error(influence_x, influence_y)
    low, high = min(value, max(0.0, centre - reach)), max(value, centre + reach)
    return Estimate("cs_divergence", value, low, high, "plug-in", min(len(x), len(y)))


def _without_own(log_mean: float, n: int) -> float:
    """Log of a mean over all n² pairs of rows -> of that over the pairs of different rows; k(x, x) = 1."""
    others = n * np.exp(log_mean) - 1
    return float(np.log(others / (n - 1))) if others > 0 else -np.inf


def kl_knn(a: Samples, b: Samples, *, k: int = 5, dims: int = 8, seed: int = 0) -> Estimate:
    """Kullback-Leibler divergence of a's law from b's, KL(a ‖ b), in nats, from distances to the k-th neighbours.

    ``(d/n) sum_i log(nu_k(i) / rho_k(i)) + log(m / (n - 1))``, rho_k and nu_k the distances of row i of a to its k-th
    nearest among the other rows of a and among those of b. It is taken on the first ``dims`` principal axes of both
    samples together, for it needs n exponential in d: what the other axes tell of the laws is lost, so that it measures
    a divergence that is at most that of the whole. It is not symmetric, and biased towards zero the more, the larger d.

    ``low`` and ``high`` are None: its error is mostly that bias, which no resampling of rows shows, and an interval
    around a biased centre would exclude the truth.

    Rows that a side repeats count once (a density has none); above 20,000 rows a side, 20,000 drawn by ``seed`` are
    used. ``n`` says how many remain.

    Args:
        a: (n, d) source features.
        b: (m, d) target features.
        k: Which neighbour.
        dims: How many principal axes.
        seed: Of the rows drawn.

    Returns:
        Value around [0, inf); "plug-in".

    Raises:
        ValueError: Shapes do not match, k or dims below one, or k different rows or fewer on a side (k + 1 of a).

    Example:
        >>> a, b = np.array([[0.0], [1.0], [2.0]]), np.array([[0.5], [1.5], [4.0]])
        >>> round(kl_knn(a, b, k=1).value, 4)  # log(1/2) + log(3/2)
        -0.2877

    Reference: Wang, Kulkarni, Verdú, "Divergence Estimation for Multidimensional Densities Via k-Nearest-Neighbor
    Distances" (IEEE Trans. Information Theory 2009).
    """
    if k < 1 or dims < 1:
        raise ValueError(f"k and dims must be at least one, got {k} and {dims}")
    x, y = two_samples(a, b)
    generator = np.random.default_rng(seed)
    axes = _principal_axes(x, y, dims)
    centre = (mean(x) + mean(y)) / 2
    x, y = (np.unique((thinned(side, MOST_NEIGHBOURS, generator) - centre) @ axes, axis=0) for side in (x, y))
    if len(x) <= k or len(y) < k:
        raise ValueError(
            f"the {k}-th neighbour needs {k + 1} different rows of a and {k} of b: got {len(x)} and {len(y)}"
        )
    within = _distances_to(x, x, k + 1)
    across = _distances_to(y, x, k)
    across = np.where(across > 0, across, within.min())  # of a row that both sides hold, where k = 1
    value = float(x.shape[1] * np.mean(np.log(across / within)) + np.log(len(y) / (len(x) - 1)))
    return Estimate("kl_knn", value, None, None, "plug-in", min(len(x), len(y)))


def _principal_axes(x: Array, y: Array, dims: int) -> Floats:
    """(d, at most dims), of both samples together, each side with the same say; all axes where there are no more."""
    width = x.shape[1]
    if width <= dims:
        return np.eye(width)
    centre = (mean(x) + mean(y)) / 2
    covariance = np.zeros((width, width))
    for side in (x, y):
        for block in blocks(side):
            covariance += (block - centre).T @ (block - centre) / len(side)
    axes: Floats = np.linalg.eigh(covariance)[1][:, ::-1][:, :dims]
    return axes


def _distances_to(candidates: Floats, queries: Floats, k: int) -> Floats:
    """(n,) to the k-th nearest, the query itself included where it is a candidate."""
    distances = cKDTree(candidates).query(queries, k=[k])[0]
    return np.asarray(distances[:, 0], dtype=np.float64)
