"""From outputs to scores: the task's metrics, averaged over label draws, with intervals that are paired."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..data.targets import upsampled
from ..errors import DataError, PluginError
from ..interfaces.encoder import Encoder
from ..interfaces.task import Task
from .labelled import Labelled, Splits

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

BOOTSTRAPS = 200
States = Mapping[tuple[str, str], Tensor]


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


@dataclass(frozen=True)
class Judged:
    """What the metrics need of one split's outputs, sample by sample.

    Attributes:
        outputs: (n, …) outputs; spatial tasks keep ``states`` instead, since maps at the masks' size fill a memory.
        states: (n, …) of each metric's state; they add up over samples.
        predictions: What people look at.
    """

    outputs: Tensor | None
    targets: Tensor | None
    states: States
    predictions: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.outputs) if self.outputs is not None else len(next(iter(self.states.values())))


class Draw(NamedTuple):
    """One label subset: the head, the test split as it judges it, what was picked on val, and the score there."""

    head: nn.Module
    test: Judged
    chosen: float
    val: float


@torch.no_grad()
def judge(task: Task, splits: Splits, part: Labelled, outputs: Iterable[Tensor]) -> Judged:
    """Read a split's outputs, batch by batch in its order."""
    if not task.spatial:
        whole = torch.cat([output.float().cpu() for output in outputs])
        return Judged(whole, part.targets.at(np.arange(len(part))), {}, task.predict(whole))
    metrics = dict(own_metrics(task, splits).items())
    for name, metric in metrics.items():
        _require_sums(name, metric)
    rows: dict[tuple[str, str], list[Tensor]] = {}
    predictions: dict[str, list[Tensor]] = {}
    position = 0
    for batch in outputs:
        seen = upsampled(batch.float().cpu(), torch.empty(1, part.views.size, part.views.size))
        for name, value in task.predict(seen).items():
            predictions.setdefault(name, []).append(value)
        for output in batch.float().cpu():
            target = part.targets.own(position)[None]
            for name, metric in metrics.items():
                metric.reset()
                metric.update(upsampled(output[None], target), target)
                for state in metric._defaults:
                    rows.setdefault((name, state), []).append(getattr(metric, state).clone())
            position += 1
    return Judged(
        None,
        None,
        {key: torch.stack(values) for key, values in rows.items()},
        {name: torch.cat(values) for name, values in predictions.items()},
    )


def check_metrics(task: Task, classes: Sequence[str] | None) -> None:
    """Refuse before any training what could not be scored after it.

    Raises:
        DataError: There are too few classes.
        PluginError: A spatial task's metrics do not add up over samples.
    """
    for name, metric in task.metrics(classes).items():
        if task.spatial:
            _require_sums(name, metric)


def _require_sums(name: str, metric: Metric) -> None:
    for state, reduce in metric._reductions.items():
        if not isinstance(metric._defaults[state], Tensor) or getattr(reduce, "__name__", "") != "dim_zero_sum":
            raise PluginError(
                f"metric {name!r}: a spatial task's metrics need states that are sums over samples, and "
                f"{state!r} is none"
            )


@torch.no_grad()
def values(
    task: Task,
    splits: Splits,
    parts: Sequence[Judged],
    rows: Tensor | None = None,
    metrics: MetricCollection | None = None,
) -> dict[str, float]:
    """All of the task's metrics over the samples at ``rows`` (default: all) of each part, taken together.

    ``metrics``: Those to use again; making them takes longer than using them.
    """
    metrics = metrics or own_metrics(task, splits)
    metrics.reset()
    if parts[0].outputs is not None:
        chosen = slice(None) if rows is None else rows
        outputs = [part.outputs[chosen] for part in parts if part.outputs is not None]
        targets = [part.targets[chosen] for part in parts if part.targets is not None]
        metrics.update(torch.cat(outputs), torch.cat(targets))
        return _with_primary(task, {name: float(value) for name, value in metrics.compute().items()})
    out: dict[str, float] = {}
    for name, metric in metrics.items():
        for state in metric._defaults:
            every = [part.states[name, state] for part in parts]
            total = sum((each if rows is None else each[rows]).sum(0) for each in every)
            setattr(metric, state, total)
        metric._update_count = 1  # else torchmetrics warns that it was never updated
        value: Any = metric.compute()
        out |= {key: float(each) for key, each in (value if isinstance(value, dict) else {name: value}).items()}
    return _with_primary(task, out)


def own_metrics(task: Task, splits: Splits) -> MetricCollection:
    """The task's metrics of what this process has: others of the run, which take no part in step 3, are not asked."""
    from torchmetrics import Metric

    metrics = task.metrics(splits.classes)
    for part in metrics.modules():
        if isinstance(part, Metric):
            part.distributed_available_fn = lambda: False
    return metrics


def _with_primary(task: Task, found: dict[str, float]) -> dict[str, float]:
    if task.primary not in found:
        raise PluginError(f"the task ranks by {task.primary!r}, and its metrics are {', '.join(found)}")
    return found


@torch.no_grad()
def score(
    task: Task, splits: Splits, part: Labelled, outputs: Iterable[Tensor], metrics: MetricCollection | None = None
) -> float:
    """The task's primary metric of a split's outputs, batch by batch in its order: what choices on val are made by.

    ``metrics``: Those to use again.
    """
    metrics, position = metrics or own_metrics(task, splits), 0
    if not task.spatial:
        return values(task, splits, [judge(task, splits, part, outputs)], metrics=metrics)[task.primary]
    metrics.reset()
    for batch in outputs:
        targets = [part.targets.own(position + number) for number in range(len(batch))]
        position += len(batch)
        for shape in {target.shape for target in targets}:  # usually one: all pictures are of one size
            alike = [number for number, target in enumerate(targets) if target.shape == shape]
            together = torch.stack([targets[number] for number in alike])
            metrics.update(upsampled(batch[alike].float().cpu(), together), together)
    return _with_primary(task, {name: float(value) for name, value in metrics.compute().items()})[task.primary]


def summarise(
    task: Task,
    splits: Splits,
    draws: Sequence[Draw],
    subsets: Sequence[np.ndarray],
    seed: int,
    encoder: Encoder | None = None,
) -> Scores:
    """Means over draws, and their intervals: draws and test samples are both resampled, with common seeds."""
    metrics = own_metrics(task, splits)
    each = [values(task, splits, [draw.test], metrics=metrics) for draw in draws]
    known = [name for name in each[0] if not any(math.isnan(one[name]) for one in each)]  # not of a class without test
    if task.primary not in known:
        raise DataError(
            f"{task.primary} of the test split is not a number",
            "Check that its targets say something: what is ignored everywhere cannot be scored.",
        )
    count, tests = len(draws[0].test), [draw.test for draw in draws]
    means = {name: float(np.mean([one[name] for one in each])) for name in known}
    whole = values(task, splits, tests, metrics=metrics)
    # Shares of right answers may be taken over all draws at once, at a tenth of the cost; a mean of ratios (IoU) not.
    together = all(abs(whole[name] - means[name]) < 1e-6 for name in known)
    over_rows, over_draws = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    replicates: dict[str, list[float]] = {name: [] for name in known}
    for _ in range(BOOTSTRAPS):
        picked = [tests[n] for n in torch.randint(len(draws), (len(draws),), generator=over_draws).tolist()]
        rows = torch.randint(count, (count,), generator=over_rows)
        parts = [picked] if together else [[one] for one in picked]
        found = [values(task, splits, part, rows, metrics) for part in parts]
        for name in known:
            numbers = [one[name] for one in found if not math.isnan(one[name])]
            replicates[name].append(float(np.mean(numbers)) if numbers else math.nan)
    ends = {name: np.nanquantile(several, [0.025, 0.975]) for name, several in replicates.items()}
    return Scores(
        n_train=round(float(np.mean([len(rows) for rows in subsets]))),
        n_test=count,
        draws=len(draws),
        metrics=means,
        intervals={name: (float(low), float(high)) for name, (low, high) in ends.items()},
        replicates=torch.tensor(replicates[task.primary]),
        per_draw=tuple(one[task.primary] for one in each),
        head=draws[0].head,
        predictions=draws[0].test.predictions,
        val=float(np.mean([draw.val for draw in draws])),
        chosen=tuple(draw.chosen for draw in draws),
        encoder=encoder,
    )
