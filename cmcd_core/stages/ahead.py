"""Batches that are made while the network learns from the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from ..data.threads import one_core_each

Batch = TypeVar("Batch")


def ahead(batches: Callable[[int], Iterator[Batch]], device: torch.device) -> Callable[[int], Iterator[Batch]]:
    """``batches(epoch)``, each made by another thread one step early: on several cores the small operations of one
    batch fill the gaps that a step leaves. The batches and their order stay the same.

    Only for batches that draw from generators of their own, since torch's global one serves the network meanwhile. On
    one core, and on an accelerator, which computes on its own anyway, nothing is changed.
    """
    if device.type != "cpu" or torch.get_num_threads() == 1:
        return batches
    return lambda epoch: _early(batches(epoch))


def _early(batches: Iterator[Batch]) -> Iterator[Batch]:
    with one_core_each(1) as maker:
        coming = maker.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = maker.submit(next, batches, None)
            yield batch
