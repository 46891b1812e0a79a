"""Empirical Rademacher complexity of classes of heads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .ramp import RAMP_LIPSCHITZ
from .samples import BLOCK, Array, Floats, Samples, array, blocks, positive


@dataclass(frozen=True)
class Rademacher:
    """A complexity by Monte Carlo over signs, between two closed forms.

    Args:
        value: The mean over the signs drawn.
        error: Its standard error.
        lower: What it cannot be below (Khintchine and Kahane): upper / √2.
        upper: What it cannot be above (Jensen).
    """

    value: float
    error: float
    lower: float
    upper: float

    @property
    def safe(self) -> float:
        """Not below the complexity but by three standard errors' bad luck, and never above the closed form."""
        return min(self.upper, self.value + 3 * self.error)


def rademacher_linear(features: Samples, norm: float, *, draws: int = 200, seed: int = 0) -> Rademacher:
    """Of the scores {x -> <w, x>, ‖w‖ <= norm} on these features: (norm/m) E‖sum_i sigma_i x_i‖, with random signs.

    Between norm · sqrt(sum ‖x_i‖²) / (√2 m) and norm · sqrt(sum ‖x_i‖²) / m, which is at most norm · max‖x‖ / √m.

    Args:
        features: (m, d).
        norm: The largest ‖w‖ of the class.
        draws: Of the signs.
        seed: Of the signs.

    Raises:
        ValueError: Features are not (m, d), norm not positive, or draws below two.

    Example:
        >>> complexity = rademacher_linear(np.eye(4), 2.0)  # any signs: ‖sum‖ = 2
        >>> complexity.value, complexity.upper
        (1.0, 1.0)

    Reference: Mohri, Rostamizadeh, Talwalkar, "Foundations of Machine Learning" (2018), theorem 5.10;
    Khintchine-Kahane, Latała and Oleszkiewicz (Studia Mathematica 1994).
    """
    return _of_vectors(array(features, "features"), 1, positive("norm", norm), draws, seed)


def rademacher_multiclass(
    features: Samples,
    classes: int,
    norm: float,
    *,
    lipschitz: float = RAMP_LIPSCHITZ,
    draws: int = 200,
    seed: int = 0,
) -> Rademacher:
    """Upper bound of the complexity of loss ∘ {x -> Wx, ‖W‖_F <= norm}, W with ``classes`` rows.

    √2 · lipschitz · (norm/m) E‖Sigmaᵀ X‖_F with independent signs Sigma (m, classes), by vector contraction; ``lower``
    and ``upper`` = √2 · lipschitz · norm · sqrt(classes · sum ‖x_i‖²) / m enclose this number, not the loss's own
    complexity, which may be below both.

    Args:
        features: (m, d).
        classes: How many rows W has.
        norm: The largest Frobenius norm of the class.
        lipschitz: Of the loss, in the Euclidean length of the logits: √2 / margin of the ramp, √2 of cross-entropy.
        draws: Of the signs; the cost is draws · classes · m · d.
        seed: Of the signs.

    Raises:
        ValueError: Features are not (m, d), norm or lipschitz not positive, classes below one, or draws below two.

    Example:
        >>> complexity = rademacher_multiclass(np.eye(4), 4, 1.0, lipschitz=1.0)  # √2 · sqrt(16) / 4
        >>> round(complexity.value, 4), round(complexity.upper, 4)
        (1.4142, 1.4142)

    Reference: Maurer, "A vector-contraction inequality for Rademacher complexities" (ALT 2016).
    """
    if classes < 1:
        raise ValueError(f"classes must be at least one, got {classes}")
    scale = math.sqrt(2) * positive("lipschitz", lipschitz) * positive("norm", norm)
    return _of_vectors(array(features, "features"), classes, scale, draws, seed)


def massart(hypotheses: int, m: int) -> float:
    """Of a finite class of functions into [-1, 1]: sqrt(2 ln |H| / m) at most.

    Args:
        hypotheses: |H|.
        m: Number of samples.

    Raises:
        ValueError: Either is below one.

    Example:
        >>> massart(1, 10)
        0.0

    Reference: Massart, "Some applications of concentration inequalities to statistics" (2000).
    """
    if hypotheses < 1 or m < 1:
        raise ValueError(f"hypotheses and m must be at least one, got {hypotheses} and {m}")
    return math.sqrt(2 * math.log(hypotheses) / m)


def _of_vectors(x: Array, classes: int, scale: float, draws: int, seed: int) -> Rademacher:
    """(scale/m) E‖Sigmaᵀ X‖_F, Sigma (m, classes)."""
    if draws < 2:
        raise ValueError(f"draws must be at least two, got {draws}")
    generator = np.random.default_rng(seed)
    sums = np.zeros((draws * classes, x.shape[1]))
    for some in _few_rows(x, draws * classes):
        sums += (generator.integers(0, 2, (draws * classes, len(some))) * 2.0 - 1.0) @ some
    lengths = np.sqrt(np.square(sums).reshape(draws, -1).sum(axis=1)) * scale / len(x)
    upper = scale * math.sqrt(classes * sum(float(np.square(block).sum()) for block in blocks(x))) / len(x)
    error = float(lengths.std(ddof=1)) / math.sqrt(draws)
    return Rademacher(float(lengths.mean()), error, upper / math.sqrt(2), upper)


def _few_rows(x: Array, signs: int) -> list[Floats]:
    """The rows in pieces for which so many signs a row are not too many."""
    rows = max(1, BLOCK // signs)
    return [piece for block in blocks(x) for piece in np.split(block, range(rows, len(block), rows))]
