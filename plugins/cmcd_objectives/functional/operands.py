"""What every formula does to its operands first: check shapes, lift to full precision, bring to unit length."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def paired(a: Tensor, b: Tensor, *, same_width: bool = True, least: int = 1) -> tuple[Tensor, Tensor]:
    """Check two batches (N, D) of pairs and bring them to one floating type of at least 32 bits.

    Args:
        a: Source features.
        b: Target features.
        same_width: Whether the formula compares a and b coordinate by coordinate.
        least: The smallest N for which the formula is defined.
    """
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"a and b must be (N, D): got {tuple(a.shape)} and {tuple(b.shape)}")
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"a and b must hold the same pairs: got {a.shape[0]} and {b.shape[0]} rows")
    if same_width and a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must have the same width: got {a.shape[1]} and {b.shape[1]}")
    if a.shape[0] < least:
        raise ValueError(f"needs at least {least} pairs, got {a.shape[0]}")
    return lift(a, b), lift(b, a)


def lift(x: Tensor, *others: Tensor) -> Tensor:
    """Lift x to the widest floating type among its fellows, float32 at least."""
    dtype = torch.float32
    for tensor in (x, *others):
        dtype = torch.promote_types(dtype, tensor.dtype)
    return x.to(dtype)


def positive(**temperatures: float | Tensor) -> None:
    """Refuse temperatures that are not positive; tensors are learnt and kept positive by their owner."""
    for name, value in temperatures.items():
        if not isinstance(value, Tensor) and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def unit(x: Tensor) -> Tensor:
    """Bring the last axis to Euclidean length one; zero vectors stay zero, with a bounded gradient."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(norm > 0, norm, torch.ones_like(norm))


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Inner products (…, N, D), (…, M, D) -> (…, N, M), in full precision under autocast too.

    Half precision would round a cosine to 1/256, which a temperature of .07 turns into steps of .06 in the logits.
    """
    with full_precision(x):
        return x @ y.transpose(-2, -1)


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Autocast switched off on x's device, where that device knows autocast."""
    if torch.amp.is_autocast_available(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()
