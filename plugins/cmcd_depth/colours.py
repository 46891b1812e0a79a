"""Depth for people."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

VIRIDIS = (
    (68, 1, 84), (71, 45, 123), (59, 82, 139), (44, 114, 142), (33, 145, 140),
    (40, 174, 128), (94, 201, 98), (173, 220, 48), (253, 231, 37),
)  # fmt: skip
"""Nine of viridis' colours: perceptually even, and readable without colour vision."""


def colour(values: Tensor, valid: Tensor) -> np.ndarray:
    """(H, W) in [0, 1] -> (H, W, 3) uint8 in viridis; black where not valid."""
    table = torch.tensor(VIRIDIS, dtype=torch.float32)
    position = values.float().cpu().clamp(0, 1) * (len(table) - 1)
    below = position.long().clamp_max(len(table) - 2)
    mixed = torch.lerp(table[below], table[below + 1], (position - below)[..., None])
    shown: np.ndarray = (mixed * valid.cpu()[..., None]).round().byte().numpy()
    return shown
