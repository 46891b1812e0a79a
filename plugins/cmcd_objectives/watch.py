"""Batch statistics of an encoder's BatchNorm layers, read off as it runs."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from .functional.operands import lift

Statistics = tuple[Tensor, Tensor]  # mean and biased variance, (C,) each


def norm_layers(encoder: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers with running statistics, in order."""
    return [layer for layer in encoder.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]


def moments(x: Tensor) -> Statistics:
    """Of every channel of (N, C, …)."""
    dims = [d for d in range(x.ndim) if d != 1]
    variance, mean = torch.var_mean(lift(x), dim=dims, correction=0)
    return mean, variance


class Watch:
    """Watches ``layers`` for as long as it is referred to; then its hooks come off."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._seen: dict[int, Statistics] = {}
        self._count = len(layers)
        handles = [layer.register_forward_pre_hook(_Hook(self._seen, place)) for place, layer in enumerate(layers)]
        weakref.finalize(self, _remove, handles)

    def take(self) -> list[Statistics]:
        """What the last run of the encoder showed, in order; empty if it did not run since the last call."""
        seen = [self._seen[place] for place in range(self._count) if place in self._seen]
        self._seen.clear()  # it holds the batch's graph
        return seen if len(seen) == self._count else []


class _Hook:
    """A forward pre-hook: the layer's input is what it normalises, in training and in evaluation alike.

    It lives in the layer, and copies and pickles of the encoder (a moving average, a snapshot) take it along: a copy
    of the hook does nothing.
    """

    def __init__(self, seen: dict[int, Statistics] | None = None, place: int = 0) -> None:
        self.seen, self.place = seen, place

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        if self.seen is not None:
            self.seen[self.place] = moments(args[0])

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


def _remove(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
