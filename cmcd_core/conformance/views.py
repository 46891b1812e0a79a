"""What a modality makes of raw data, as the core does it: decoded, resized, augmented, encoded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..data.seeds import seeded
from ..interfaces.modality import Modality
from .raws import Taken

BATCH = 4
SIZE = 64
SEED = 7


@contextmanager
def generators_at(seed: int) -> Iterator[None]:
    """Every global generator starts from ``seed``; afterwards they are where they were."""
    at_python, at_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with seeded(seed):
            yield
    finally:
        random.setstate(at_python)
        np.random.set_state(at_numpy)


def batched(modality: Modality, decoded: Sequence[Tensor]) -> Tensor:
    """(BATCH, C, H, W): the decoded views in turn, at one size."""
    views = [modality.resize(x, SIZE) if modality.spatial else x for x in decoded]
    return torch.stack([views[number % len(views)] for number in range(BATCH)])


def augmented(modality: Modality, batch: Tensor) -> Tensor:
    """The batch under a generator that is always the same."""
    return modality.augment(batch.clone(), torch.Generator(device=batch.device).manual_seed(SEED))


def seen(modality: Modality, raws: Sequence[Taken]) -> tuple[list[Tensor], Tensor]:
    """Each raw item decoded, and a batch of them, augmented, as an encoder sees it."""
    decoded = [modality.decode(raw) for raw in raws]
    return decoded, modality.encode(augmented(modality, batched(modality, decoded)))
