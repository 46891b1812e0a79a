"""Each pixel with the ones beside it, by shifted copies: on small pictures several times faster than pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def largest(x: Tensor) -> Tensor:
    """The largest of the 3 × 3 pixels around each."""
    return beside(beside(x, -1, torch.maximum), -2, torch.maximum)


def mean(x: Tensor) -> Tensor:
    """The mean of the 3 × 3 pixels around each; what lies outside is 0."""
    return beside(beside(x, -1, torch.add), -2, torch.add).div_(9)


def beside(x: Tensor, axis: int, operation: Callable[..., Any]) -> Tensor:
    """Each pixel combined with its two neighbours along ``axis``; ``operation`` takes ``out``."""
    out, side = x.clone(), x.shape[axis]
    if side > 1:
        for start, other in ((0, 1), (1, 0)):
            here = out.narrow(axis, start, side - 1)
            operation(here, x.narrow(axis, other, side - 1), out=here)
    return out
