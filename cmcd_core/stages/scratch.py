"""The baseline of step 3: the student's architecture trained from scratch on the same few labels, tuned on val."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..config import DistillConfig, EvaluateConfig
from ..interfaces.encoder import Encoder
from ..interfaces.task import Task
from ..progress import Progress
from .evaluate import Draw, Labelled, Scores, Splits, fresh_head, primary, summarise
from .training import Plan, Session, batch_seed, fit, shuffled_batches, steps_an_epoch

BATCH = 64
LOOKS = 5
"""How often a training is scored on val; its best state counts."""


class Supervised(nn.Module):
    """Encoder, head and the task's loss: what the baseline trains."""

    def __init__(self, encoder: Encoder, head: nn.Module, task: Task) -> None:
        super().__init__()
        self.encoder, self.head, self.task = encoder, head, task

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return self.task.loss(self.head(self.encoder(x)), target)

    @torch.no_grad()
    def outputs(self, part: Labelled) -> Tensor:
        """The head's output for a whole split, in eval mode, on the CPU."""
        self.eval()
        return torch.cat([self.head(self.encoder(batch)).float().cpu() for batch in part.batches()])


def scratch(
    fabric: Fabric,
    fresh: Callable[[int], Encoder],
    task: Task,
    splits: Splits,
    subsets: Mapping[str, Sequence[np.ndarray]],
    config: EvaluateConfig,
    distill: DistillConfig,
    *,
    seed: int,
    progress: Progress,
) -> dict[str, Scores]:
    """Train from scratch on each subset. The learning rate is picked on val in the first draw of each budget,
    the number of steps on val in every draw: the same validation split that tunes the linear heads.

    Args:
        fresh: A new encoder with random weights from a seed.
    """

    def one(rows: np.ndarray, lr: float, draw: int) -> tuple[float, Supervised]:
        encoder = fresh(seed + draw).to(fabric.device)
        head = fresh_head(task, encoder, splits, seed + draw).to(fabric.device)
        module = Supervised(encoder, head, task).to(memory_format=torch.channels_last)
        return _train(fabric, module, splits, rows, lr, config.scratch_steps, distill, seed + draw)

    out = {}
    for budget, draws in subsets.items():
        total = len(draws) + len(config.scratch_lrs) - 1
        with progress.track(f"3 scratch baseline, {budget} labels", total) as advance:
            results = []
            tried = []
            for lr in config.scratch_lrs:
                tried.append((*one(draws[0], lr, 0), lr))
                advance(1, f"learning rate {lr:g}")
            score, module, lr = max(tried, key=lambda item: item[0])
            first = module
            results.append(Draw(module.head, module.outputs(splits.test), lr, score))
            for draw, rows in enumerate(draws[1:], start=1):
                score, module = one(rows, lr, draw)
                results.append(Draw(module.head, module.outputs(splits.test), lr, score))
                advance(1, f"draw {draw + 1} of {len(draws)}")
        out[budget] = summarise(task, splits, results, draws, seed, encoder=first.encoder)
    return out


def _train(
    fabric: Fabric,
    module: Supervised,
    splits: Splits,
    rows: np.ndarray,
    lr: float,
    steps: int,
    distill: DistillConfig,
    seed: int,
) -> tuple[float, Supervised]:
    """Train on the labelled rows; return the best val score and the module in that state."""
    part = splits.train
    per_epoch = steps_an_epoch(len(rows), BATCH)
    plan = Plan(epochs=max(1, steps // per_epoch), steps_per_epoch=per_epoch, lr=lr, weight_decay=distill.weight_decay)
    best: tuple[float, dict[str, Tensor]] | None = None
    done = 0

    def make(epoch: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        for number, chosen in enumerate(shuffled_batches(len(rows), BATCH, seed, epoch)):
            at = rows[chosen]
            x = part.views.augmented(
                part.rows[at], batch_seed(seed, epoch, number), area_min=distill.crop_min, flip=distill.flip
            )
            yield len(at), (x, part.targets[torch.from_numpy(at)].to(x.device))

    def look() -> dict[str, float]:
        nonlocal best, done
        done += 1
        if done % max(1, plan.epochs // LOOKS) and done < plan.epochs:
            return {}
        score = primary(module.task, splits, module.outputs(splits.val), splits.val.targets)
        if best is None or score > best[0]:
            best = (score, copy.deepcopy(module.state_dict()))
        return {}

    fit(fabric, module, plan, make, seed=seed, session=Session(), title="scratch", after_epoch=look)
    assert best is not None
    module.load_state_dict(best[1])
    module.eval()
    return best[0], module
