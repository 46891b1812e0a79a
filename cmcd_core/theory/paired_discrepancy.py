"""From pairs: how much a linear head's risk can change from one modality to the other."""

from __future__ import annotations

import math

import numpy as np

from .estimate import Estimate
from .ramp import LOSS_RANGE, RAMP_LIPSCHITZ
from .samples import Samples, array, blocks_of_pairs, pairs, positive


def paired_discrepancy(
    a: Samples, b: Samples, weight: Samples, *, margin: float = 1.0, longest: float = 2.0, confidence: float = 0.95
) -> Estimate:
    """How much the ramp risk of a linear head, or of any as long, can change from one modality to the other.

    A pair has one label, whatever it is, and a head W moves by ‖W(a - b)‖ between its members: the risks differ by at
    most (√2/margin) E‖W(a - b)‖ <= (√2/margin) ‖W‖_F sqrt(lambda_max E(a - b)(a - b)ᵀ). Nothing is asked of the laws or
    labels, and biases cancel. ``high`` adds longest² sqrt(log(1/risk)/(2n)) to the sample's lambda_max: the largest
    eigenvalue of a mean is at most the mean of largest eigenvalues, and one pair moves it by longest²/n at most
    (McDiarmid). It holds for all heads at once, so also for one trained on these pairs.

    Args:
        a: (n, d) source features.
        b: (n, d) target features of the same pairs, in the same space.
        weight: (K, d) of the head.
        margin: Of the ramp.
        longest: No ‖a - b‖ can be above it: 2 for rows of unit length.
        confidence: Of ``high``, in (0, 1).

    Returns:
        Value and ``high`` cut at 1, no ``low``; "upper on a class".

    Raises:
        ValueError: Shapes do not match, confidence not in (0, 1), or a pair is further apart than ``longest``.

    Example:
        >>> a = np.eye(2)[[0, 1] * 50]
        >>> paired_discrepancy(a, a, np.eye(2)).value
        0.0
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    x, y = pairs(a, b)
    head = array(weight, "weight")
    if head.shape[1] != x.shape[1]:
        raise ValueError(f"weight must be (K, {x.shape[1]}): got {head.shape}")
    second = np.zeros((x.shape[1], x.shape[1]))
    for u, v in blocks_of_pairs(x, y):
        if np.square(u - v).sum(axis=1).max() > positive("longest", longest) ** 2 * (1 + 1e-6):
            raise ValueError(
                f"a pair is further apart than longest = {longest:g}: bring rows to unit length, or raise it"
            )
        second += (u - v).T @ (u - v) / len(x)
    largest = max(0.0, float(np.linalg.eigvalsh(second)[-1]))
    reach = longest**2 * math.sqrt(-math.log(1 - confidence) / (2 * len(x)))
    slope = RAMP_LIPSCHITZ / positive("margin", margin) * float(np.linalg.norm(head))
    value, high = (min(LOSS_RANGE, slope * math.sqrt(square)) for square in (largest, largest + reach))
    return Estimate("paired_discrepancy", value, None, high, "upper on a class", len(x))
