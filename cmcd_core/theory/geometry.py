"""Where two modalities lie on the sphere: gap, alignment, uniformity."""

from __future__ import annotations

import math

import numpy as np

from .estimate import Direction, Estimate
from .intervals import QUANTILE, standard_error
from .pairwise import log_kernel_means, log_mean
from .samples import MOST, Array, Floats, Samples, array, blocks, blocks_of_pairs, pairs, thinned, two_samples, unit


def modality_gap(a: Samples, b: Samples) -> Estimate:
    """Distance of the two modalities' centres on the sphere: ‖mean â - mean b̂‖, rows brought to unit length first.

    The interval is of the laws' gap: value ± 1.96 standard errors along the gap; at its lower end the noise of the two
    means (in all directions, which is what makes a gap of nought look positive) is taken off the square first.

    Args:
        a: (n, d) source features.
        b: (m, d) target features.

    Returns:
        Value in [0, 2]; "exact".

    Raises:
        ValueError: Shapes do not match, or fewer than two rows a side.

    Example:
        >>> round(modality_gap(np.eye(2), -np.eye(2)).value, 4)
        1.4142

    Reference: Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation
    Learning" (NeurIPS 2022).
    """
    x, y = two_samples(a, b)
    centre_x, centre_y = _unit_mean(x), _unit_mean(y)
    gap = centre_x - centre_y
    value = float(np.linalg.norm(gap))
    along = gap / value if value > 0 else gap
    reach = QUANTILE * standard_error(_along(x, along), _along(y, along))
    # The rows have length one, so that their total variance is 1 - |centre|².
    noise = sum(math.sqrt(max(0.0, 1 - float(c @ c)) / (len(s) - 1)) for c, s in ((centre_x, x), (centre_y, y)))
    low = max(0.0, math.sqrt(max(0.0, value**2 - noise**2)) - reach)
    return Estimate("modality_gap", value, low, min(2.0, value + reach), "exact", min(len(x), len(y)))


def _unit_mean(x: Array) -> Floats:
    return np.asarray(sum(unit(block).sum(axis=0) for block in blocks(x)) / len(x))


def _along(x: Array, direction: Floats) -> Floats:
    return np.concatenate([unit(block) @ direction for block in blocks(x)])


def alignment(a: Samples, b: Samples) -> Estimate:
    """Mean squared distance of the members of a pair, E‖a - b‖², of features as they are.

    Bring rows to unit length beforehand, as the training loss does, to compare encoders: it is then 2 - 2 · mean
    cosine. The interval is the mean's, value ± 1.96 standard errors, cut at zero.

    Args:
        a: (n, d) source features.
        b: (n, d) target features of the same pairs.

    Returns:
        Value in [0, inf), [0, 4] for unit rows; "exact".

    Raises:
        ValueError: Shapes do not match, or fewer than two pairs.

    Example:
        >>> alignment(np.eye(2), -np.eye(2)).value
        4.0

    Reference: Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere" (ICML 2020).
    """
    x, y = pairs(a, b)
    squares = np.concatenate([np.square(u - v).sum(axis=1) for u, v in blocks_of_pairs(x, y)])
    value = float(squares.mean())
    reach = QUANTILE * standard_error(squares)
    return Estimate("alignment", value, max(0.0, value - reach), value + reach, "exact", len(x))


def uniformity(a: Samples, *, seed: int = 0) -> Estimate:
    """How evenly one modality fills the sphere: log E exp(-2 ‖x - x'‖²) over different rows; lower is more even.

    Features are taken as they are: bring rows to unit length beforehand. The interval is value ± 1.96 standard errors
    of its linear part (each row's mean kernel), cut at zero.

    Above 5,000 rows, 5,000 drawn by ``seed`` are used; ``n`` says so, and the direction becomes "plug-in".

    Args:
        a: (n, d) features of one modality.
        seed: Of the rows drawn.

    Returns:
        Value in (-inf, 0], above -4 for unit rows but for small n; "exact".

    Raises:
        ValueError: Not (n, d), or fewer than two rows.

    Example:
        >>> uniformity(np.eye(2)).value  # log exp(-2 · 2)
        -4.0

    Reference: Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere" (ICML 2020).
    """
    whole = array(a, "a", least=2)
    x = thinned(whole, MOST, np.random.default_rng(seed))
    rows = log_kernel_means(x, x, 2.0, itself=False)
    value = min(0.0, log_mean(rows))
    reach = QUANTILE * standard_error(2 * np.exp(rows - value))
    direction: Direction = "exact" if len(x) == len(whole) else "plug-in"
    return Estimate("uniformity", value, value - reach, min(0.0, value + reach), direction, len(x))
