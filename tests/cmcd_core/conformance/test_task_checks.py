"""Each check of a task, with a task that fails it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from cmcd_core import DataError, Encoder, Features, Task
from cmcd_core.catalog import Plugin
from cmcd_core.conformance.findings import Finding, run_checks
from cmcd_core.conformance.task import CHECKS, CLASSES, TaskSubject
from cmcd_core.plugin import Options, TaskPlugin

About = Callable[..., Finding]


class Head(nn.Module):
    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, out)

    def forward(self, features: Features) -> Tensor:
        return self.layer(features.pooled)


class Good(Task):
    """Classes."""

    primary = "top1"
    target_name = "label"

    def target(self, value: Any) -> Tensor:
        if not isinstance(value, int):
            raise DataError("no class")
        return torch.tensor(value)

    def stratum(self, target: Tensor) -> Any:
        return int(target)

    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        assert classes == CLASSES
        return Head(encoder.dim, len(CLASSES))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target)

    def predict(self, output: Tensor) -> Any:
        return {"class": output.argmax(dim=1)}

    def metrics(self, classes: Sequence[str] | None) -> MetricCollection:
        return MetricCollection({"top1": MulticlassAccuracy(len(CLASSES), average="micro")})


def subject(task: Callable[[], Any], samples: Any = None) -> TaskSubject:
    def build(options: Options) -> Any:
        return task()

    part = TaskPlugin(name="case", summary="A case.", options=Options, build=build)
    return TaskSubject(Plugin("case", "unknown", "unknown", "ok", module=__name__), part, {}, samples)


@pytest.mark.parametrize("title", [title for title, _ in CHECKS])
def test_a_good_one(about: About, title: str) -> None:
    finding = about(CHECKS, subject(Good), title)
    assert (finding.outcome, finding.why) == ("ok", "")


class NoPrimary(Good):
    primary = ""


class Hungry(Good):
    needs = frozenset({"momentum"})


class Plain(Good):
    def target(self, value: Any) -> Any:
        return value


class Random(Good):
    def target(self, value: Any) -> Tensor:
        return super().target(value) + torch.rand(())


class Ragged(Good):
    def target(self, value: Any) -> Tensor:
        return super().target(value).expand(value + 1)


class Strict(Good):
    def check(self, target: Tensor, classes: Sequence[str] | None) -> None:
        raise DataError("never good enough")


class TensorStratum(Good):
    def stratum(self, target: Tensor) -> Any:
        return target


class Unheaded(Good):
    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> Any:
        return Head(encoder.dim, 3).forward


class Summed(Good):
    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        class Sum(Head):
            def forward(self, features: Features) -> Tensor:
                return super().forward(features).sum(dim=0)

        return Sum(encoder.dim, 3)


class FewRows(Good):
    def finetune_head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        class Half(Head):
            def forward(self, features: Features) -> Tensor:
                return super().forward(features)[::2]

        return Half(encoder.dim, 3)


class RowLoss(Good):
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, reduction="none")


class Infinite(Good):
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return super().loss(output, target) / 0


class Deaf(Good):
    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        class Closed(Head):
            def forward(self, features: Features) -> Tensor:
                return self.layer(features.pooled.detach())

        return Closed(encoder.dim, 3)


class Idle(Good):
    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        head = Head(encoder.dim, 3)
        head.register_parameter("spare", nn.Parameter(torch.ones(2)))
        return head


class OneAnswer(Good):
    def predict(self, output: Tensor) -> Any:
        return {"class": output.mean(dim=0)}


class Words(Good):
    def predict(self, output: Tensor) -> Any:
        return {"class": ["cup"] * len(output)}


class NoAnswer(Good):
    def predict(self, output: Tensor) -> Any:
        return {}


class Distance(MeanMetric):
    def update(self, output: Tensor, target: Tensor) -> None:  # type: ignore[override]
        super().update((output.sum(dim=1) - target).abs())


class Unbounded(Good):
    def metrics(self, classes: Sequence[str] | None) -> MetricCollection:
        return MetricCollection({"top1": Distance()})


class OtherName(Good):
    primary = "miou"


class Nothing(Distance):
    def compute(self) -> Tensor:
        return torch.tensor(float("nan"))


class NaNPrimary(Good):
    def metrics(self, classes: Sequence[str] | None) -> MetricCollection:
        return MetricCollection({"top1": Nothing()})


class Forgetful(Good):
    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        class Salted(Head):
            def forward(self, features: Features) -> Tensor:
                return super().forward(features) + self.salt

        head = Salted(encoder.dim, 3)
        self.made = getattr(self, "made", 0) + 1
        head.salt = float(self.made)
        return head


@pytest.mark.parametrize(
    ("task", "title", "why"),
    [
        (dict, "build gives", "build returns a dict"),
        (NoPrimary, "build gives", "primary is ''"),
        (Hungry, "build gives", "needs names momentum"),
        (Plain, "target is", "TypeError"),
        (Random, "target is", "something else the second time"),
        (Ragged, "target is", "target gives shapes (1,) and (2,) and (3,)"),
        (Strict, "target is", "never good enough"),
        (TensorStratum, "stratum gives", "stratum gives tensor(0)"),
        (Unheaded, "the heads give", "head gives a method"),
        (Summed, "the heads give", "the head gives (3,) for 12 samples"),
        (FewRows, "the heads give", "finetune_head gives 6 rows"),
        (RowLoss, "the loss is", "loss gives shape (12,)"),
        (Infinite, "the loss is", "the loss is inf"),
        (Deaf, "the loss is", "head: no gradient reaches the encoder"),
        (Idle, "the loss is", "head: no gradient for spare"),
        (OneAnswer, "predict gives", "'class' has 3 rows for 12 samples"),
        (Words, "predict gives", "'class' is a list"),
        (NoAnswer, "predict gives", "predict gives a dict"),
        (Unbounded, "metrics are", "metric 'top1' is"),
        (OtherName, "metrics are", "primary is 'miou', and the metrics are top1"),
        (NaNPrimary, "metrics are", "the primary metric 'top1' is NaN"),
        (Forgetful, "its head gives", "the loaded head gives other output"),
    ],
)
def test_what_is_caught(about: About, task: Callable[[], Any], title: str, why: str) -> None:
    finding = about(CHECKS, subject(task), title)
    assert finding.outcome == "failed"
    assert why in finding.why


class Masks(Good):
    """Classes of places."""

    target_name = "mask"
    spatial = True
    needs = frozenset({"dense"})

    def target(self, value: Any) -> Tensor:
        return torch.as_tensor(value).long()

    def stratum(self, target: Tensor) -> None:
        return None

    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        class Maps(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Conv2d(encoder.dense_dim, 3, 1)

            def forward(self, features: Features) -> Tensor:
                return self.layer(features.dense)

        return Maps()

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(F.interpolate(output, target.shape[1:]), target)


class Listing(MulticlassAccuracy):
    def __init__(self) -> None:
        super().__init__(3, average="micro")
        self.add_state("outputs", [], dist_reduce_fx="cat")


class UnsummedMasks(Masks):
    def metrics(self, classes: Sequence[str] | None) -> MetricCollection:
        return MetricCollection({"top1": Listing()})


class FlatMasks(Masks):
    def target(self, value: Any) -> Tensor:
        return super().target(value).flatten()


@pytest.mark.parametrize("title", [title for title, _ in CHECKS])
def test_a_spatial_one(about: About, title: str) -> None:
    finding = about(CHECKS, subject(Masks), title)
    assert (finding.outcome, finding.why) == ("ok", "")


@pytest.mark.parametrize(
    ("task", "title", "why"),
    [(UnsummedMasks, "metrics are", "a state that is no sum"), (FlatMasks, "target is", "no (H, W)")],
)
def test_what_is_caught_of_spatial_ones(about: About, task: type[Task], title: str, why: str) -> None:
    finding = about(CHECKS, subject(task), title)
    assert finding.outcome == "failed"
    assert why in finding.why


class Dates(Good):
    """Reads nothing that is generated."""

    target_name = "date"

    def target(self, value: Any) -> Tensor:
        if not isinstance(value, Mapping):
            raise TypeError("a date is year and day")
        return torch.tensor(value["day"] % 3)

    def find_classes(self, targets: Any) -> Sequence[str]:
        return CLASSES


def test_no_sample_is_no_failure() -> None:
    findings = {f.check: f for f in run_checks(CHECKS, subject(Dates), "task")}
    assert "failed" not in {finding.outcome for finding in findings.values()}
    first = findings["target is deterministic and gives tensors"]
    assert first.outcome == "skipped"
    assert "TypeError: a date is year and day" in first.why
    assert "samples={'case': [...]}" in first.hint


def test_given_samples_are_used() -> None:
    findings = run_checks(CHECKS, subject(Dates, [{"day": 5}, {"day": 7}]), "task")
    assert {finding.outcome for finding in findings} == {"ok"}
