"""Means of what an objective reports, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Means:
    """Running sums on the device; read once an epoch."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, int]] = {}

    @torch.no_grad()
    def add(self, **values: Tensor | float) -> None:
        """Add one step's scalars."""
        for name, value in values.items():
            value = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
            total, count = self._sums.get(name, (torch.zeros_like(value), 0))
            self._sums[name] = (total + value, count + 1)

    def read(self) -> Mapping[str, float]:
        """Means since the last read, in the order of adding."""
        means = {name: total.item() / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means
