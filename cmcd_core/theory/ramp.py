"""The ramp loss: bounded, as a bound needs it, and never below the error."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .samples import Floats, positive

LOSS_RANGE = 1.0
"""The largest loss, L."""
RAMP_LIPSCHITZ = math.sqrt(2)
"""At margin one, in the Euclidean length of the logits: y's rises by one as the best rival's falls."""


def ramp_loss(logits: ArrayLike, targets: ArrayLike, *, margin: float = 1.0) -> Floats:
    """Ramp loss of each sample: 1 - (logit of its class - best other logit)/margin, cut to [0, 1].

    It is at least the 0/1 loss, and RAMP_LIPSCHITZ/margin-Lipschitz in the logits; cross-entropy has no upper end.

    Args:
        logits: (m, K), K >= 2.
        targets: (m,) integers in [0, K).
        margin: By how much a class must lead for no loss.

    Returns:
        (m,) in [0, 1].

    Raises:
        ValueError: Shapes do not match, a target is no class, or margin is not positive.

    Example:
        >>> ramp_loss([[2.0, 0.0], [0.5, 0.0], [0.0, 1.0]], [0, 0, 0]).tolist()
        [0.0, 0.5, 1.0]
    """
    scores, labels = np.array(logits, dtype=np.float64), np.asarray(targets)
    if scores.ndim != 2 or scores.shape[1] < 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"logits and targets must be (m, K >= 2) and (m,): got {scores.shape} and {labels.shape}")
    if labels.dtype.kind not in "iu" or (len(labels) and not 0 <= labels.min() <= labels.max() < scores.shape[1]):
        raise ValueError(f"targets must be integers in [0, {scores.shape[1]})")
    rows = np.arange(len(labels))
    own = scores[rows, labels]
    scores[rows, labels] = -np.inf
    lead = own - scores.max(axis=1)
    return np.asarray(np.clip(1 - lead / positive("margin", margin), 0, 1))
