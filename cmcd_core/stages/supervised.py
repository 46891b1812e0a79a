"""Step 3 by training whole networks on the same few labels: fine-tuning, and the baseline from scratch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..data.geometry import Geometry, draw_geometry
from ..data.seeds import seeded
from ..interfaces.encoder import Encoder
from ..interfaces.task import Task
from ..interfaces.timm_encoder import TimmEncoder
from ..progress import Progress
from .evaluate import CHUNK, Subsets
from .labelled import Labelled, Splits
from .scoring import Draw, Judged, Scores, judge, score, summarise
from .training import Plan, Session, batch_seed, fit, shuffled_batches, steps_an_epoch

BATCH, MASKS = 64, 16
"""Samples a step; of masks, whose every pixel is an example, so many."""
FULL, MORE = 50, 4
"""Fewer labels than ``FULL`` make cheap steps: a training gets up to ``MORE`` times as many. So does one on masks."""
LOOKS = 10
"""How often a training is scored on val; its best state counts."""
PATIENCE = 4
"""A training ends once so many looks in a row brought nothing better, from the middle on."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How whole networks are trained on labels.

    Attributes:
        steps: Optimiser steps at least; up to ``MORE`` times as many where they are cheap.
        epochs: Epochs at least: many labels get more steps.
        lrs: Learning rates tried on val in the first draw of each budget.
        layer_decays: Tried with each: every earlier layer learns at so many times the rate of the next; 1: all alike.
        crop_min, flip: Augmentation.
    """

    steps: int
    epochs: int
    lrs: tuple[float, ...]
    layer_decays: tuple[float, ...]
    weight_decay: float
    crop_min: float
    flip: bool


class Pace(NamedTuple):
    """How fast the layers learn: one of the combinations that a recipe tries."""

    lr: float
    layer_decay: float


class Supervised(nn.Module):
    """Encoder, head and the task's loss."""

    def __init__(self, encoder: Encoder, head: nn.Module, task: Task) -> None:
        super().__init__()
        self.encoder, self.head, self.task = encoder, head, task

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return self.task.loss(self.head(self.encoder(x)), target)

    def judged(self, splits: Splits, part: Labelled) -> Judged:
        """A split's outputs in eval mode, as the metrics read them."""
        self.eval()
        return judge(self.task, splits, part, self.outputs(part))

    def outputs(self, part: Labelled) -> Iterator[Tensor]:
        """The head's output for a split, batch by batch."""
        with torch.no_grad():
            for batch in part.batches(CHUNK):
                yield self.head(self.encoder(batch))


def supervised(
    fabric: Fabric,
    start: Callable[[int], Encoder],
    task: Task,
    splits: Splits,
    subsets: Subsets,
    recipe: TrainingRecipe,
    *,
    seed: int,
    progress: Progress,
    title: str,
) -> Iterator[tuple[str, Scores]]:
    """Train encoder and head on each subset. The learning rate and its decay are picked on val in the first draw of
    each budget, the number of steps on val in every draw: the same validation split that tunes the linear heads.

    Args:
        start: The encoder to start from (a new one, or a copy), from a seed.
    """

    def one(rows: np.ndarray, pace: Pace, draw: int) -> tuple[float, Supervised]:
        encoder = start(seed + draw).to(fabric.device)
        with seeded(seed + draw):
            head = task.finetune_head(encoder, splits.classes).to(fabric.device)
        module = Supervised(encoder, head, task).to(memory_format=torch.channels_last)
        return _train(fabric, module, splits, rows, pace, recipe, seed + draw)

    paces = _paces(recipe, start(seed))
    for budget, draws in subsets.items():
        with progress.track(f"{title}, {budget} labels", len(draws) + len(paces) - 1) as advance:
            best: tuple[float, Supervised, Pace] | None = None
            for pace in paces:
                reached, module = one(draws[0], pace, 0)
                if best is None or reached > best[0]:
                    best = (reached, module, pace)
                advance(1, f"learning rate {pace.lr:g}, layer decay {pace.layer_decay:g}")
            assert best is not None
            reached, first, pace = best
            results = [Draw(first.head, first.judged(splits, splits.test), pace.lr, reached)]
            for draw, rows in enumerate(draws[1:], start=1):
                reached, module = one(rows, pace, draw)
                results.append(Draw(module.head, module.judged(splits, splits.test), pace.lr, reached))
                advance(1, f"draw {draw + 1} of {len(draws)}")
        yield budget, summarise(task, splits, results, draws, seed, encoder=first.encoder)


def _paces(recipe: TrainingRecipe, encoder: Encoder) -> list[Pace]:
    """All that the recipe tries; of an encoder that learns at one rate, the decays are all one."""
    decays = recipe.layer_decays
    layered = len(decays) == 1 or any(layer_scales(encoder, decay) for decay in decays)
    return [Pace(*pair) for pair in product(recipe.lrs, decays if layered else decays[:1])]


def _train(
    fabric: Fabric, module: Supervised, splits: Splits, rows: np.ndarray, pace: Pace, recipe: TrainingRecipe, seed: int
) -> tuple[float, Supervised]:
    """Train on the labelled rows; return the best val score and the module in that state."""
    batch_size = MASKS if module.task.spatial else BATCH
    per_epoch = steps_an_epoch(len(rows), batch_size)
    steps = recipe.steps * (MORE if module.task.spatial else min(MORE, max(1, FULL / len(rows))))
    epochs = max(1, round(steps / per_epoch), recipe.epochs)
    plan = Plan(epochs=epochs, steps_per_epoch=per_epoch, lr=pace.lr, weight_decay=recipe.weight_decay)
    best: tuple[float, dict[str, Tensor]] | None = None
    done, since = 0, 0

    def look() -> dict[str, float]:
        nonlocal best, done, since
        done += 1
        if done % max(1, epochs // LOOKS) and done < epochs:
            return {}
        module.eval()
        reached = score(module.task, splits, splits.val, module.outputs(splits.val))
        since += 1
        if best is None or reached > best[0]:
            best, since = (reached, copy.deepcopy(module.state_dict())), 0
        return {}

    def keys(epoch: int, number: int) -> list[str]:
        return [splits.train.keys[row] for row in rows[shuffled_batches(len(rows), batch_size, seed, epoch)[number]]]

    fit(
        fabric, module, plan, lambda epoch: _batches(splits.train, module.task, rows, recipe, batch_size, seed, epoch),
        seed=seed, session=Session(), title="supervised", after_epoch=look,
        enough=lambda: since >= PATIENCE and 2 * done >= epochs,
        scales=layer_scales(module.encoder, pace.layer_decay, "encoder."),
        keys=keys,
    )  # fmt: skip
    assert best is not None
    module.load_state_dict(best[1])
    module.eval()
    return best[0], module


def _batches(
    part: Labelled, task: Task, rows: np.ndarray, recipe: TrainingRecipe, batch_size: int, seed: int, epoch: int
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """One epoch; masks follow the crops and mirrorings of their views."""
    for number, chosen in enumerate(shuffled_batches(len(rows), batch_size, seed, epoch)):
        at, drawn = rows[chosen], batch_seed(seed, epoch, number)
        if len(at) == 1:  # BatchNorm needs two: two crops of the only labelled sample
            at = at.repeat(2)
        geometry: Geometry | None = None
        if task.spatial:
            generator = torch.Generator().manual_seed(drawn)
            geometry = draw_geometry(len(at), generator, area_min=recipe.crop_min, flip=recipe.flip)
        x = part.views.augmented(part.rows[at], drawn, area_min=recipe.crop_min, flip=recipe.flip, geometry=geometry)
        targets = part.targets.cropped(at, geometry, part.views.size) if task.spatial else part.targets.at(at)
        yield len(at), (x, targets.to(x.device))


def layer_scales(encoder: Encoder, decay: float, prefix: str = "") -> Mapping[str, float]:
    """Parameter name -> its share of the learning rate: ``decay`` to the power of the layers after it.

    Layers are timm's own groups; other encoders learn at one rate.
    """
    if decay == 1 or not isinstance(encoder, TimmEncoder) or not hasattr(encoder.model, "group_matcher"):
        return {}
    from timm.models import group_parameters

    layers: Mapping[str, int] = group_parameters(encoder.model, encoder.model.group_matcher(coarse=False), reverse=True)
    last = max(layers.values())
    return {f"{prefix}model.{name}": decay ** (last - layer) for name, layer in layers.items()}
