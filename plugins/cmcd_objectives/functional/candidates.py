"""Candidate sets: what an anchor is compared with, softmax over them, the best of them, and means over anchors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 512
"""Rows that are compared with all others at a time."""


def in_batch(like: Tensor, group: Tensor | None, *, include_self: bool) -> Tensor:
    """(N, N) bool: may anchor i be compared with batch row j?

    Rows of one group share one source item: they are no negatives of each other, so that only a row's own slot can
    stay (``include_self``).
    """
    n = like.shape[0]
    own = torch.eye(n, dtype=torch.bool, device=like.device)
    others = ~own
    group = on_batch(group, like)
    if group is not None:
        others = group[:, None] != group[None, :]
    return others | own if include_self else others


def on_batch(group: Tensor | None, like: Tensor) -> Tensor | None:
    """``group`` checked to be (N,), on the batch's device."""
    if group is not None and group.shape != like.shape[:1]:
        raise ValueError(f"group must be ({like.shape[0]},): got {tuple(group.shape)}")
    return None if group is None else group.to(like.device)


def with_queue(allowed: Tensor, extra: int, exclude: Tensor | None) -> Tensor:
    """Append ``extra`` queue columns to (N, N) ``allowed``; ``exclude`` (N or 1, K) marks those to leave out."""
    shape = (allowed.shape[0], extra)
    if exclude is None:
        return torch.cat([allowed, allowed.new_ones(shape)], dim=1)
    return torch.cat([allowed, ~exclude.expand(shape)], dim=1)


def mask(logits: Tensor, allowed: Tensor) -> Tensor:
    """Put disallowed logits at the type's lowest finite value.

    Minus infinity would make a row without any candidate NaN, in the gradient even where the value is thrown away.
    """
    return logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)


def log_softmax(logits: Tensor, allowed: Tensor) -> Tensor:
    """Log-probabilities over the allowed columns; 0 elsewhere, so that they drop out of p log q."""
    return F.log_softmax(mask(logits, allowed), dim=-1).masked_fill(~allowed, 0.0)


def softmax(logits: Tensor, allowed: Tensor) -> Tensor:
    """Probabilities over the allowed columns; 0 elsewhere, in a row without candidates too."""
    return F.softmax(mask(logits, allowed), dim=-1).masked_fill(~allowed, 0.0)


def row_weights(candidates: Tensor, weight: Tensor | None, like: Tensor) -> Tensor:
    """(N,) weights that sum to one, from the number of ``candidates`` (N,) of each anchor; anchors without any get
    none, and no anchor at all gives zeros."""
    present = (candidates > 0).to(like.dtype)
    if weight is not None:
        present = present * on_rows(weight, present)
    total = present.sum()
    return present / torch.where(total > 0, total, torch.ones_like(total))


def weighted_mean(rows: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of (N,) losses, weighted where there are weights (N,); 0 where all of these are 0."""
    if weight is None:
        return rows.mean()
    weight = on_rows(weight, rows)
    total = weight.sum()
    return (weight * rows).sum() / torch.where(total > 0, total, torch.ones_like(total))


def on_rows(weight: Tensor, like: Tensor) -> Tensor:
    """``weight`` checked to be (N,), of the type and on the device of (N,) ``like``."""
    if weight.shape != like.shape:
        raise ValueError(f"weight must be ({like.shape[0]},): got {tuple(weight.shape)}")
    return weight.to(like)


def hits(logits: Tensor) -> Tensor:
    """Share of rows of (N, ≥ N) logits whose best among the first N columns is their own."""
    n = logits.shape[0]
    return (logits[:, :n].argmax(dim=1) == torch.arange(n, device=logits.device)).float().mean()


def own_is_nearest(anchors: Tensor, rows: Tensor) -> Tensor:
    """Share of (N, D) anchors whose most similar one of (N, D) rows is their own; in blocks, never N × N at once."""
    found = [
        (anchors[own] @ rows.T).argmax(dim=1) == own
        for own in torch.arange(len(anchors), device=anchors.device).chunk(1 + len(anchors) // BLOCK)
    ]
    return torch.cat(found).float().mean()
