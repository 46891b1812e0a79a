"""Checks of a task."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..files import write_tensors
from ..interfaces.encoder import Features
from ..interfaces.task import Task
from .findings import Check, Skipped, Subject, once, raised, require
from .lesson import TinyEncoder
from .views import generators_at

COUNT, CLASSES, SIDE = 12, ("one", "two", "three"), 16
EPS = 1e-6


class TaskSubject(Subject):
    """A task, and a few samples of its target with features for them."""

    @once
    def built(self) -> Task:
        """The task."""
        task = self.part.build(self.options)
        require(isinstance(task, Task), f"build returns a {type(task).__name__}", "Return a cmcd_core.Task.")
        for name in ("primary", "target_name"):
            value = getattr(task, name, None)
            require(isinstance(value, str) and bool(value), f"{name} is {value!r}", "Set it: a name.")
        unknown = ", ".join(sorted(set(task.needs) - {"dense", "pyramid"}))
        require(not unknown, f"needs names {unknown}", 'It may name "dense" and "pyramid".')
        return task  # type: ignore[no-any-return]

    @once
    def values(self) -> Sequence[Any]:
        """COUNT values that target reads: those given, again and again, or generated ones."""
        if self.samples is not None:
            require(len(self.samples) > 0, "samples are given, but none of this task")
            return [self.samples[number % len(self.samples)] for number in range(COUNT)]
        refusals = []
        for kind, values in _generated(self.built.target_name):
            try:
                for value in values:
                    self.built.target(value)
            except Exception as error:
                refusals.append(f"{kind}: {raised(error, self.plugin.module)}")
            else:
                return values
        name = self.part.name
        raise Skipped(
            f"no sample: target reads none of what was generated ({refusals[0]}; …)",
            f"Pass samples={{{name!r}: [...]}} to check_plugin: values as they are in Sample.targets.",
        )

    @once
    def targets(self) -> Tensor:
        """(COUNT, …) of one shape."""
        out = [self.built.target(value) for value in self.values]
        for target in out:
            require(isinstance(target, Tensor), f"target gives a {type(target).__name__}", "Return a torch.Tensor.")
        shapes = {tuple(target.shape) for target in out}
        if not self.built.spatial:
            said = " and ".join(map(str, sorted(shapes)))
            require(len(shapes) == 1, f"target gives shapes {said}", "Return one constant shape.")
        else:
            require(all(len(shape) == 2 for shape in shapes), "target gives no (H, W)", "A spatial target is a map.")
            out = [F.interpolate(t[None, None].float(), (SIDE, SIDE))[0, 0].to(t.dtype) for t in out]
        return torch.stack(out)

    @once
    def classes(self) -> Sequence[str] | None:
        """As data sets name them for labels and masks; what the task finds for other targets."""
        found = self.built.find_classes(list(self.targets))
        if found is None and self.samples is None and self.built.target_name in ("label", "mask"):
            return CLASSES
        return found

    @once
    def encoder(self) -> TinyEncoder:
        """What the head is for."""
        with generators_at(0):
            return TinyEncoder(16, 8)

    @once
    def features(self) -> Features:
        """Of COUNT samples, with dense and pyramid maps."""
        with generators_at(1):
            features: Features = self.encoder(torch.rand(COUNT, 1, SIDE, SIDE))
        return features

    def head(self, name: str = "head") -> nn.Module:
        """A new one."""
        with generators_at(2):
            head = getattr(self.built, name)(self.encoder, self.classes)
        require(isinstance(head, nn.Module), f"{name} gives a {type(head).__name__}", "Return a torch.nn.Module.")
        return head  # type: ignore[no-any-return]

    @once
    def output(self) -> Tensor:
        """(COUNT, …) of the head; a spatial task's at the targets' size."""
        output = self.head()(self.features)
        require(isinstance(output, Tensor), f"the head gives a {type(output).__name__}", "Return a torch.Tensor.")
        shape = tuple(output.shape)
        require(shape[:1] == (COUNT,), f"the head gives {shape} for {COUNT} samples", "Return one row a sample.")
        if self.built.spatial:
            require(len(shape) == 4, f"the head gives {shape}", "A spatial task's output is (N, K, h, w).")
            return F.interpolate(output, (SIDE, SIDE), mode="bilinear")
        return output  # type: ignore[no-any-return]


def _generated(name: str) -> Iterator[tuple[str, list[Any]]]:
    """Targets of each kind there is; those that the name says come first."""
    draws = np.random.default_rng(0)
    kinds: dict[str, tuple[str, list[Any]]] = {
        "label": ("class ids", [number % len(CLASSES) for number in range(COUNT)]),
        "mask": ("masks of class ids", [draws.integers(len(CLASSES), size=(20, 24), dtype=np.uint8)] * COUNT),
        "number": ("numbers in [0, 1]", [number / (COUNT - 1) for number in range(COUNT)]),
        "vector": ("vectors of 4 numbers", list(draws.uniform(size=(COUNT, 4)))),
        "text": ("texts", [f"text {number}" for number in range(COUNT)]),
    }
    order = [name] if name in kinds else ["number", "vector"]
    for kind in dict.fromkeys([*order, *kinds]):
        yield kinds[kind]


def builds(subject: TaskSubject) -> None:
    """And says what it reads and ranks by."""
    assert subject.built.primary


def reads_targets(subject: TaskSubject) -> None:
    """The same each time, and accepts them."""
    task = subject.built
    for value, target in zip(subject.values, [task.target(value) for value in subject.values], strict=True):
        require(torch.equal(task.target(value), target), "target gives something else the second time")
        if subject.classes:
            task.check(target, subject.classes)
    assert len(subject.targets)


def has_strata(subject: TaskSubject) -> None:
    """A class for "5 labels a class", or None."""
    for target in subject.targets:
        stratum = subject.built.stratum(target)
        whole = stratum is None or (isinstance(stratum, int) and not isinstance(stratum, bool))
        require(whole, f"stratum gives {stratum!r}", "Return int(target), or None.")


def has_heads(subject: TaskSubject) -> None:
    """From Features to one row a sample, on a frozen encoder and in fine-tuning."""
    assert len(subject.output)
    deeper = subject.head("finetune_head").train()(subject.features)
    require(len(deeper) == COUNT, f"finetune_head gives {len(deeper)} rows for {COUNT} samples")


def has_a_loss(subject: TaskSubject) -> None:
    """The head learns from it, and so does the encoder in fine-tuning."""
    for name in ("head", "finetune_head"):
        head = subject.head(name).train()
        with generators_at(1):
            features = subject.encoder(torch.rand(COUNT, 1, SIDE, SIDE))
        loss = subject.built.loss(head(features), subject.targets)
        shape = tuple(loss.shape)
        require(not shape, f"loss gives shape {shape}", "Return the batch's mean: one number.")
        require(bool(torch.isfinite(loss)), f"the loss is {float(loss)}")
        subject.encoder.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        grads = {key: p.grad for key, p in head.named_parameters() if p.requires_grad}
        idle = [key for key, grad in grads.items() if grad is None]
        require(not idle, f"{name}: no gradient for {', '.join(idle)}")
        require(all(bool(torch.isfinite(g).all()) for g in grads.values() if g is not None), f"{name}: NaN gradients")
        learns = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in subject.encoder.parameters())
        require(learns, f"{name}: no gradient reaches the encoder", "Use features.pooled or its maps, not detached.")


def predicts(subject: TaskSubject) -> None:
    """For people, and for predictions.npz."""
    said = subject.built.predict(subject.output.detach())
    require(isinstance(said, Mapping) and bool(said), f"predict gives a {type(said).__name__}", "Return names -> rows.")
    for name, rows in said.items():
        require(isinstance(rows, Tensor), f"predict: {name!r} is a {type(rows).__name__}", "Return tensors.")
        require(len(rows) == COUNT, f"predict: {name!r} has {len(rows)} rows for {COUNT} samples")


def has_metrics(subject: TaskSubject) -> None:
    """From 0 to 1, higher is better, whatever the output; NaN where there was nothing to measure."""
    with generators_at(3):
        noise = torch.randn_like(subject.output)
    for output in (subject.output.detach(), noise, 100 * noise, torch.zeros_like(noise)):
        scores = _scores(subject.built, output, subject)
        primary = subject.built.primary
        require(primary in scores, f"primary is {primary!r}, and the metrics are {', '.join(scores)}")
        for name, value in scores.items():
            inside = value != value or -EPS <= value <= 1 + EPS
            require(inside, f"metric {name!r} is {value:g}", "Bring it into [0, 1]; what is unbounded can be clipped.")
        require(scores[primary] == scores[primary], f"the primary metric {primary!r} is NaN")


def _scores(task: Task, output: Tensor, subject: TaskSubject) -> dict[str, float]:
    metrics = task.metrics(subject.classes)
    scores: dict[str, float] = {}
    for name, metric in metrics.items():
        if task.spatial:
            _adds_up(name, metric)
        metric.update(output, subject.targets)
        value: Any = metric.compute()
        scores |= {key: float(each) for key, each in (value if isinstance(value, dict) else {name: value}).items()}
    return scores


def _adds_up(name: str, metric: Any) -> None:
    sums = [getattr(reduce, "__name__", "") == "dim_zero_sum" for reduce in metric._reductions.values()]
    require(
        all(sums),
        f"metric {name!r} has a state that is no sum over samples",
        'A spatial task\'s metrics: add_state(…, dist_reduce_fx="sum").',
    )


def saves_its_head(subject: TaskSubject) -> None:
    """By ``state_dict``, through a .safetensors file."""
    first, second = subject.head().eval(), subject.head().eval()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "head.safetensors"
        write_tensors(file, first.state_dict())
        second.load_state_dict(load_file(file))
    with torch.no_grad():
        require(torch.allclose(first(subject.features), second(subject.features)), "the loaded head gives other output")


CHECKS: tuple[Check, ...] = (
    ("build gives a Task that says what it reads and ranks by", builds),
    ("target is deterministic and gives tensors", reads_targets),
    ("stratum gives a class or None", has_strata),
    ("the heads give one row a sample", has_heads),
    ("the loss is finite, with gradients for head and encoder", has_a_loss),
    ("predict gives one row a sample", predicts),
    ("metrics are within [0, 1], and primary is one of them", has_metrics),
    ("its head gives equal output once saved and loaded", saves_its_head),
)
