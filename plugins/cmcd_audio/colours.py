"""Spectrograms for people."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MAGMA = (
    (0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122),
    (229, 80, 100), (251, 135, 97), (254, 194, 135), (252, 253, 191),
)  # fmt: skip
"""Nine of magma's colours: perceptually even, and silence is black."""


def colour(values: Tensor) -> np.ndarray:
    """(H, W) in [0, 1] -> (H, W, 3) uint8 in magma."""
    table = torch.tensor(MAGMA, dtype=torch.float32)
    position = values.float().cpu().clamp(0, 1) * (len(table) - 1)
    below = position.long().clamp_max(len(table) - 2)
    shown: np.ndarray = torch.lerp(table[below], table[below + 1], (position - below)[..., None]).round().byte().numpy()
    return shown
