"""Dense maps as cells: which of them count, and as rows."""

from __future__ import annotations

import torch
from torch import Tensor

from cmcd_core import Features


def maps_on_one_grid(name: str, source: Features, target: Features) -> tuple[Tensor, Tensor]:
    """(N, D_a, h, w) and (N, D_b, h, w) dense maps of both sides.

    Raises:
        ValueError: One is missing, or their grids differ.
    """
    if source.dense is None or target.dense is None:
        raise ValueError(f"{name} needs the dense maps of both sides")
    if source.dense.shape[2:] != target.dense.shape[2:]:
        raise ValueError(
            f"{name} needs one grid: got {tuple(source.dense.shape[2:])} and {tuple(target.dense.shape[2:])}"
        )
    return source.dense, target.dense


def tokens(dense: Tensor) -> Tensor:
    """(N, D, h, w) -> (N, h·w, D)."""
    return dense.flatten(2).transpose(1, 2)


def valid_cells(source: Features, target: Features, like: Tensor, share: float) -> Tensor:
    """(N, T) bool: the cells of which at least ``share`` is valid on both sides; ``like`` is (N, T, D) tokens."""
    valid = torch.ones(like.shape[:2], dtype=torch.bool, device=like.device)
    for side in (source, target):
        if side.valid is not None:
            valid &= side.valid.to(like.device).flatten(1) >= share
    return valid
