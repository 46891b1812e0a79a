"""What the cost of step 2 and of linear evaluation grows with: pairs, batch, width and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cmcd_core import Encoder
from cmcd_core.config import DistillConfig
from cmcd_core.interfaces.timm_encoder import DEFAULT_ARCHITECTURE, DEFAULT_MODEL_ARGS
from cmcd_core.stages.distill import distill
from cmcd_core.stages.evaluate import L2_STRENGTHS, CachedFeatures, _solve
from cmcd_core.stages.training import Session

from .measuring import Found, Row, alternating, figure, middle, ratio, require
from .setting import encoder, fabric, lesson, modality, objective

SIZE = 32
PAIRS, BATCHES, WIDTHS, CLASSES = (256, 512, 1024), (32, 64, 128, 256), (0.5, 1.0, 2.0), (10, 100, 1000)


def measure(repeats: int, quick: bool) -> Found:
    """Each quantity by itself; the first of each list is what the others are compared with."""
    most = 2 if quick else None
    found = Found()
    found.rows += grown("pairs", PAIRS[:most], "seconds an epoch", lambda n: epoch(n, 64, 1.0), repeats)
    found.rows += grown(
        "pairs a batch", BATCHES[:most], "seconds an epoch of 512", lambda n: epoch(512, n, 1.0), repeats
    )
    found.rows += grown(
        "the network's width", WIDTHS[:most], "seconds an epoch of 256", lambda w: epoch(256, 64, w), repeats
    )
    found.rows += grown("classes", CLASSES[:most], "seconds a linear head on 2,000 labels", solved, repeats)
    return found


def grown(
    name: str, sizes: Sequence[float], what: str, make: Callable[[Any], Callable[[], None]], repeats: int
) -> list[Row]:
    """One row for each size beyond the first: its cost over the first's."""
    taken = alternating({f"{size:g}": make(size) for size in sizes}, repeats)
    first = taken[f"{sizes[0]:g}"]
    return [
        Row(
            f"{name} x {size / sizes[0]:g} ({sizes[0]:g} to {size:g}): {what}", str(ratio(taken[f"{size:g}"], first)),
            beside=f"{figure(middle(first))} and {figure(middle(taken[f'{size:g}']))} s",
        )
        for size in sizes[1:]
    ]  # fmt: skip


def student(width: float) -> Encoder:
    """The default network, each of its stages so many times as wide."""
    channels = [round(width * channels) for channels in DEFAULT_MODEL_ARGS["channels"]]
    return encoder(modality("depth"), DEFAULT_ARCHITECTURE, **{**DEFAULT_MODEL_ARGS, "channels": channels})


def epoch(count: int, batch: int, width: float) -> Callable[[], None]:
    """An epoch of step 2 on so many pairs."""
    given, made = lesson("depth", count, SIZE), fabric()

    def go() -> None:
        target = student(width)
        goal = objective("cmd", given.bank.array.shape[-1], target.dim)
        distill(
            made, target, target, goal, given.bank, given.views, given.pairs, DistillConfig(batch_size=batch), 1,
            seed=0, session=Session(),
        )  # fmt: skip

    return go


class Head(torch.nn.Module):
    """A linear layer as a task's head, and its loss."""

    spatial = False

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(256, classes)

    def forward(self, features: object) -> torch.Tensor:
        return self.linear(features.pooled)  # type: ignore[attr-defined]

    loss = staticmethod(F.cross_entropy)


def solved(classes: float) -> Callable[[], None]:
    """A linear head at each penalty, on 2,000 labels of so many classes."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    labels = torch.from_numpy(rng.integers(int(classes), size=2000))
    centres = torch.randn(int(classes), 256, generator=generator)
    features = CachedFeatures((centres[labels] + 2 * torch.randn(2000, 256, generator=generator),))

    def go() -> None:
        torch.manual_seed(0)
        head = Head(int(classes))
        for strength in L2_STRENGTHS:
            _solve(head, head, features, labels, strength)  # type: ignore[arg-type]
        right = (head(features.features()).argmax(1) == labels).float().mean()
        require(float(right) > 0.5, f"a head learns {classes:g} classes")

    return go
