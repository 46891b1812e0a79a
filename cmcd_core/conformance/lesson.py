"""A distillation in miniature: two tiny encoders, a few pairs, and what the core hands an objective of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.seeds import seeded
from ..interfaces.encoder import Encoder, Features
from ..interfaces.objective import Objective
from ..plugin import Widths
from .findings import require

DIFFERENT = Widths(source=12, target=8, source_dense=10, target_dense=6)
EQUAL = Widths(source=8, target=8, source_dense=6, target_dense=6)
PAIRS, UNPAIRED, STEPS, ROWS = 48, 8, 20, 12
GRID = 2
SIDE = 16


class TinyEncoder(Encoder):
    """(N, 1, H, W) -> pooled, dense and pyramid features by two convolutions and a linear map."""

    def __init__(self, dim: int, dense_dim: int) -> None:
        super().__init__()
        self.channels, self.dim, self.dense_dim, self.pyramid_dims = 1, dim, dense_dim, (4,)
        self.early = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.late = nn.Sequential(nn.Conv2d(4, dense_dim, 3, 2, 1), nn.BatchNorm2d(dense_dim), nn.ReLU())
        self.last = nn.Linear(dense_dim, dim)

    def forward(self, x: Tensor) -> Features:
        early = self.early(x)
        dense = self.late(early)
        return Features(pooled=self.last(dense.mean(dim=(2, 3))), dense=dense, pyramid=(early,))


@dataclass(frozen=True)
class Lesson:
    """One objective, attached, with encoders and pairs; equal seeds give equal lessons.

    Attributes:
        x, y: (PAIRS, 1, SIDE, SIDE) what the source and the target see of each pair.
    """

    source: TinyEncoder
    target: TinyEncoder
    objective: Objective
    x: Tensor
    y: Tensor

    def features(self, rows: Tensor) -> tuple[Features, Features]:
        """(n,) rows of the pairs -> both sides' features, the source's detached, as step 2 hands them over."""
        with torch.no_grad():
            given = self._reduced(self.source(self.x[rows]), rows)
        learnt = self._reduced(self.target(self.y[rows]), rows)
        if "momentum" in self.objective.needs:
            learnt = replace(learnt, momentum=learnt.pooled.detach() + 0.01)
        return given, learnt

    def loss(self, rows: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Raises:
            Failed: It is no single finite number.
        """
        loss: Tensor = self.objective(*self.features(torch.arange(ROWS) if rows is None else rows))
        require(isinstance(loss, Tensor), f"forward gives a {type(loss).__name__}", "Return a scalar torch.Tensor.")
        shape = tuple(loss.shape)
        require(not shape, f"forward gives shape {shape}", "Return the batch's mean: one number.")
        require(
            bool(torch.isfinite(loss)), f"the loss is {float(loss)}", "Look for log(0), 0/0 and exp of large values."
        )
        return loss

    def train(self, steps: int) -> None:
        """A few steps of training, as the core takes them."""
        parameters = [*self.target.parameters(), *self.objective.parameters()]
        optimizer = torch.optim.SGD([p for p in parameters if p.requires_grad], lr=0.01)
        for step in range(steps):
            loss = self.loss((torch.arange(ROWS) + step * ROWS) % PAIRS)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            broken = any(p.grad is not None and not bool(torch.isfinite(p.grad).all()) for p in parameters)
            require(not broken, "a gradient is NaN or infinite", "Look for sqrt and norm at 0: add a small number.")
            optimizer.step()
            self.objective.after_step()

    def _reduced(self, features: Features, rows: Tensor) -> Features:
        """Only what the objective needs, and what is known of the pairs; groups of two share one source item."""
        needs = self.objective.needs
        dense = features.dense if "dense" in needs else None
        return Features(
            pooled=features.pooled,
            dense=None if dense is None else F.adaptive_avg_pool2d(dense, GRID),
            pyramid=features.pyramid if "pyramid" in needs else None,
            index=rows,
            group=rows // 2,
            weight=torch.ones(len(rows)),
        )


def lesson(make: Callable[[Widths], Any], widths: Widths, *, attach: bool = True, seed: int = 0) -> Lesson:
    """A new lesson; ``make`` builds the objective, its weights from ``seed``. All else is always the same.

    Raises:
        Failed: It builds something else, or needs what there is not.
    """
    with seeded(0):
        source = TinyEncoder(widths.source, widths.source_dense).requires_grad_(False).eval()
        target = TinyEncoder(widths.target, widths.target_dense)
        x = torch.rand(PAIRS + UNPAIRED, 1, SIDE, SIDE)
        y = 1 - x + 0.1 * torch.rand_like(x)
    with seeded(seed):
        objective = make(widths)
        require(
            isinstance(objective, Objective),
            f"build returns a {type(objective).__name__}",
            "Return a cmcd_core.Objective.",
        )
        unknown = ", ".join(sorted(set(objective.needs) - {"dense", "momentum", "pyramid"}))
        require(not unknown, f"needs names {unknown}", 'It may name "dense", "pyramid" and "momentum".')
        made = Lesson(source, target, objective, x, y)
        if attach:
            rows = torch.arange(PAIRS + UNPAIRED)
            with torch.no_grad():
                bank = replace(made._reduced(source(x), rows), weight=None, pyramid=None)
            objective.attach(source, target, bank=bank, pairs=PAIRS, steps=STEPS)
    return made
