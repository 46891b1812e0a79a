"""Step 3: what few labels of the target modality are worth, on the frozen encoder and from scratch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..data.digest import digest, list_digest, raw_digest
from ..data.seeds import seeded
from ..data.views import Views
from ..errors import DataError
from ..interfaces.encoder import Encoder, Features
from ..interfaces.loader import Sample
from ..interfaces.task import Task

L2_STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3)
"""Candidates for the linear head's penalty on unit-variance features, strongest first; chosen on val."""
BOOTSTRAPS = 200


@dataclass(frozen=True)
class Labelled:
    """One split for step 3: views of one modality that have the task's target."""

    views: Views
    rows: np.ndarray
    targets: Tensor
    strata: tuple[int | None, ...]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self) -> Iterator[Tensor]:
        """Whole pictures, ready for an encoder, in the order of ``targets``."""
        return self.views.chunks(rows=self.rows)


def labelled(samples: Sequence[Sample], views: Views, task: Task) -> Labelled:
    """The views whose samples carry the task's target; positions, targets and classes."""
    rows, targets = [], []
    for position, row in enumerate(views.decoded.rows.tolist()):
        if (value := samples[row].targets.get(task.target_name)) is not None:
            rows.append(position)
            targets.append(task.target(value))
    if not rows:
        raise DataError(f"no sample of this split has a {task.target_name!r}")
    keys = tuple(samples[views.decoded.rows[row]].key for row in rows)
    return Labelled(views, np.asarray(rows), torch.stack(targets), tuple(map(task.stratum, targets)), keys)


@dataclass(frozen=True)
class Splits:
    """Train, val and test of one modality and task, and the classes' names."""

    train: Labelled
    val: Labelled
    test: Labelled
    classes: tuple[str, ...] | None

    @property
    def digest(self) -> str:
        """Of every view and target: scores of other data are other scores."""
        parts = (self.train, self.val, self.test)
        return digest(
            [
                [
                    p.views.decoded.digest,
                    p.views.size,
                    p.rows.tolist(),
                    list_digest(p.keys),
                    raw_digest(p.targets.numpy()),
                ]
                for p in parts
            ]
        )


@dataclass(frozen=True)
class Scores:
    """One encoder under one protocol and label budget.

    Attributes:
        metrics: Means over label draws, in [0, 1].
        intervals: 95 % intervals of those means, by bootstrap over test samples and label draws.
        replicates: (BOOTSTRAPS,) of the primary metric, paired between encoders by their common seed.
        per_draw: The primary metric of each draw.
        head: The head of the first draw.
        encoder: The encoder trained with it, where one was.
        predictions: The first draw's, for the test split.
        val: Mean of the primary metric on val, at what was picked there: for tuning, as it is optimistic.
        chosen: What was picked on val in each draw.
    """

    n_train: int
    n_test: int
    draws: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    replicates: Tensor
    per_draw: tuple[float, ...]
    head: nn.Module
    predictions: Mapping[str, Tensor]
    val: float = 0.0
    chosen: tuple[float, ...] = ()
    encoder: Encoder | None = field(default=None)


class Draw(NamedTuple):
    """One label subset: the head, its output for the test split, what was picked on val, and the score there."""

    head: nn.Module
    output: Tensor
    chosen: float
    val: float


class Standardised(nn.Module):
    """A head behind the features' standardisation (their training mean and deviation, no labels used)."""

    def __init__(self, head: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.head = head
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, features: Features) -> Tensor:
        pooled = (features.pooled - self.mean) / self.std
        output: Tensor = self.head(Features(pooled=pooled))
        return output


@torch.no_grad()
def pooled_features(encoder: Encoder, part: Labelled) -> Tensor:
    """(n, D) float32 on the CPU, encoder in eval mode, whole pictures."""
    encoder.eval()
    return torch.cat([encoder(batch).pooled.float().cpu() for batch in part.batches()])


def linear(
    encoder: Encoder, task: Task, splits: Splits, subsets: Mapping[str, Sequence[np.ndarray]], seed: int
) -> dict[str, Scores]:
    """Linear evaluation of a frozen encoder for each label budget, each averaged over its subsets.

    Features are computed once. The penalty is chosen on val in each draw. The encoder is left bit for bit as it was.
    """
    train, val, test = (pooled_features(encoder, part) for part in (splits.train, splits.val, splits.test))
    mean, std = train.mean(0), train.std(0) + 1e-6

    def one_draw(rows: np.ndarray) -> Draw:
        chosen = torch.from_numpy(rows)
        best: tuple[float, nn.Module, float] | None = None
        head = Standardised(fresh_head(task, encoder, splits, seed), mean, std)
        for strength in L2_STRENGTHS:
            _solve(head, task, train[chosen], splits.train.targets[chosen], strength)
            score = primary(task, splits, head(Features(pooled=val)), splits.val.targets)
            if best is None or score > best[0]:
                best = (score, copy.deepcopy(head), strength)
        assert best is not None
        return Draw(best[1], best[1](Features(pooled=test)).detach(), best[2], best[0])

    return {
        budget: summarise(task, splits, [one_draw(rows) for rows in draws], draws, seed)
        for budget, draws in subsets.items()
    }


def _solve(head: Standardised, task: Task, pooled: Tensor, targets: Tensor, strength: float) -> None:
    """Minimise the task's loss plus strength/2·‖w‖² by L-BFGS, from where the head stands (a stronger penalty's)."""
    weights = [p for p in head.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(weights, lr=1.0, max_iter=40, tolerance_grad=1e-4, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = sum((p.square().sum() for p in weights if p.ndim > 1), torch.zeros(()))
        loss = task.loss(head(Features(pooled=pooled)), targets) + strength / 2 * penalty
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def fresh_head(task: Task, encoder: Encoder, splits: Splits, seed: int) -> nn.Module:
    """The task's head, its weights from ``seed``."""
    with seeded(seed):
        return task.head(encoder, splits.classes)


def primary(task: Task, splits: Splits, output: Tensor, targets: Tensor) -> float:
    """The task's primary metric of some outputs."""
    return measure(task, splits, output, targets)[task.primary]


@torch.no_grad()
def measure(task: Task, splits: Splits, output: Tensor, targets: Tensor) -> dict[str, float]:
    """All of the task's metrics of some outputs."""
    metrics = task.metrics(splits.classes)
    metrics.update(output, targets)
    return {name: float(value) for name, value in metrics.compute().items()}


def summarise(
    task: Task,
    splits: Splits,
    draws: Sequence[Draw],
    subsets: Sequence[np.ndarray],
    seed: int,
    encoder: Encoder | None = None,
) -> Scores:
    """Means over draws, and their intervals: draws and test samples are both resampled, with a common seed."""
    targets = splits.test.targets
    each = [measure(task, splits, draw.output, targets) for draw in draws]
    outputs = torch.stack([draw.output for draw in draws])
    generator = torch.Generator().manual_seed(seed)
    replicates: dict[str, list[float]] = {name: [] for name in each[0]}
    for _ in range(BOOTSTRAPS):
        picked = torch.randint(len(draws), (len(draws),), generator=generator)
        rows = torch.randint(len(targets), (len(targets),), generator=generator)
        resampled = outputs[picked][:, rows].flatten(0, 1)
        values = measure(task, splits, resampled, targets[rows].repeat(len(draws), *[1] * (targets.ndim - 1)))
        for name, value in values.items():
            replicates[name].append(value)
    ends = {name: np.quantile(values, [0.025, 0.975]) for name, values in replicates.items()}
    return Scores(
        n_train=round(float(np.mean([len(rows) for rows in subsets]))),
        n_test=len(targets),
        draws=len(draws),
        metrics={name: float(np.mean([one[name] for one in each])) for name in each[0]},
        intervals={name: (float(low), float(high)) for name, (low, high) in ends.items()},
        replicates=torch.tensor(replicates[task.primary]),
        per_draw=tuple(one[task.primary] for one in each),
        head=draws[0].head,
        predictions=task.predict(outputs[0]),
        val=float(np.mean([draw.val for draw in draws])),
        chosen=tuple(draw.chosen for draw in draws),
        encoder=encoder,
    )
