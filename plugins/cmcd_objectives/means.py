"""Means of what an objective reports, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BLOCK = 512
"""Rows that are compared with all others at a time."""


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


def weighted_mean(rows: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of (N,) losses, weighted where there are weights; 0 where all of these are 0."""
    if weight is None:
        return rows.mean()
    weight = weight.to(rows)
    total = weight.sum()
    return (weight * rows).sum() / torch.where(total > 0, total, torch.ones_like(total))


def own_is_nearest(anchors: Tensor, rows: Tensor) -> Tensor:
    """Share of (N, D) anchors whose most similar one of (N, D) rows is their own; in blocks, never N × N at once."""
    found = [
        (anchors[own] @ rows.T).argmax(dim=1) == own
        for own in torch.arange(len(anchors), device=anchors.device).chunk(1 + len(anchors) // BLOCK)
    ]
    return torch.cat(found).float().mean()


def hits(logits: Tensor) -> Tensor:
    """Share of rows of (N, ≥ N) logits whose best among the first N columns is their own."""
    n = logits.shape[0]
    return (logits[:, :n].argmax(dim=1) == torch.arange(n, device=logits.device)).float().mean()
