"""Softmax temperatures, fixed or learnt."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MAX_LOG_SCALE = math.log(100)  # CLIP's cap of 1 / temperature


class Temperature(nn.Module):
    """A temperature; learnt, it is the parameter log(1 / temperature), capped at log 100."""

    def __init__(self, value: float, *, learnable: bool) -> None:
        super().__init__()
        self.fixed = value
        self.log_scale: nn.Parameter | None = None
        if learnable:
            self.log_scale = nn.Parameter(torch.tensor(min(-math.log(value), MAX_LOG_SCALE)))

    def forward(self) -> float | Tensor:
        """The temperature now."""
        if self.log_scale is None:
            return self.fixed
        return torch.exp(-self.log_scale.clamp(max=MAX_LOG_SCALE))

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring the parameter back under its cap, or its gradient would stay zero once it is beyond."""
        if self.log_scale is not None:
            self.log_scale.clamp_(max=MAX_LOG_SCALE)
