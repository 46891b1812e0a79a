"""Each check of an objective, with an objective that fails it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcd_core import ConfigError, Encoder, Features, Objective, Widths
from cmcd_core.catalog import Plugin
from cmcd_core.conformance.findings import Finding
from cmcd_core.conformance.objective import CHECKS, ObjectiveSubject
from cmcd_core.plugin import ObjectivePlugin, Options

About = Callable[..., Finding]


class Good(Objective):
    """Regression by a linear head."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.widths = widths
        self.head = nn.Linear(widths.target, widths.source)

    def forward(self, source: Features, target: Features) -> Tensor:
        return F.mse_loss(self.head(target.pooled).float(), source.pooled)

    def embed(self, source: Features, target: Features) -> Any:
        return source.pooled, self.head(target.pooled)


def subject(objective: Callable[[Widths], Any]) -> ObjectiveSubject:
    def build(options: Options, widths: Widths) -> Any:
        return objective(widths)

    part = ObjectivePlugin(name="case", summary="A case.", options=Options, build=build)
    return ObjectiveSubject(Plugin("case", "unknown", "unknown", "ok", module=__name__), part)


class Drawing(Good):
    """Compares some rows, drawn anew each time."""

    def forward(self, source: Features, target: Features) -> Tensor:
        chosen = torch.rand(len(source.pooled)).topk(4 if len(source.pooled) > 4 else 1).indices
        return F.mse_loss(self.head(target.pooled)[chosen].float(), source.pooled[chosen])


class Queued(Good):
    """Its first batch meets an empty queue."""

    queue: Tensor

    def __init__(self, widths: Widths) -> None:
        super().__init__(widths)
        self.register_buffer("queue", torch.zeros(0, widths.source))
        self.register_load_state_dict_pre_hook(self.resize)
        self.waiting = self.queue

    @staticmethod
    def resize(module: nn.Module, state: Mapping[str, Tensor], *_: Any) -> None:
        module.queue = torch.empty_like(state["queue"])

    def forward(self, source: Features, target: Features) -> Tensor:
        self.waiting = source.pooled
        if not len(self.queue):
            return target.pooled.sum() * 0 + sum(p.sum() * 0 for p in self.parameters())
        return (torch.cdist(self.head(target.pooled).float(), self.queue)).mean()

    def after_step(self) -> None:
        self.queue = torch.cat([self.queue, self.waiting])


class Dense(Good):
    needs = frozenset({"dense", "momentum"})

    def __init__(self, widths: Widths) -> None:
        super().__init__(widths)
        self.head = nn.Linear(widths.target_dense, widths.source_dense)

    def forward(self, source: Features, target: Features) -> Tensor:
        assert target.dense is not None
        assert source.dense is not None
        assert target.momentum is not None
        mapped = self.head(target.dense.flatten(2).transpose(1, 2)).float()
        return F.mse_loss(mapped, source.dense.flatten(2).transpose(1, 2))

    def embed(self, source: Features, target: Features) -> None:
        return None


@pytest.mark.parametrize("objective", [Good, Drawing, Queued, Dense])
@pytest.mark.parametrize("title", [title for title, _ in CHECKS])
def test_good_ones(about: About, objective: type[Objective], title: str) -> None:
    finding = about(CHECKS, subject(objective), title)
    assert (finding.outcome, finding.why) == ("ok", "")


class Greedy(Good):
    needs = frozenset({"dense", "labels"})


class NoHead(Good):
    def __init__(self, widths: Widths) -> None:
        if widths.source != widths.target:
            raise ConfigError("the widths differ", "Take another one.")
        super().__init__(widths)


class Square(Good):
    def __init__(self, widths: Widths) -> None:
        super().__init__(widths)
        self.head = nn.Linear(widths.source, widths.source)


class OnlyDifferent(Good):
    def forward(self, source: Features, target: Features) -> Tensor:
        assert self.widths.source != self.widths.target
        return super().forward(source, target)


class Rows(Good):
    def forward(self, source: Features, target: Features) -> Tensor:
        return (self.head(target.pooled) - source.pooled).square().mean(dim=1)


class Infinite(Good):
    def forward(self, source: Features, target: Features) -> Tensor:
        return super().forward(source, target) / 0


class Number(Good):
    def forward(self, source: Features, target: Features) -> Any:
        return float(super().forward(source, target))


class Detached(Good):
    def forward(self, source: Features, target: Features) -> Tensor:
        return F.mse_loss(self.head(target.pooled.detach()), source.pooled)


class Constant(Good):
    def forward(self, source: Features, target: Features) -> Tensor:
        return source.pooled.mean()


class SteepAtZero(Good):
    def forward(self, source: Features, target: Features) -> Tensor:
        return (0 * super().forward(source, target)).sqrt()


class Keeping(Good):
    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        self.teacher = source


class Idle(Good):
    def __init__(self, widths: Widths) -> None:
        super().__init__(widths)
        self.temperature = nn.Parameter(torch.ones(()))


class Shifted(Good):
    def forward(self, source: Features, target: Features) -> Tensor:
        return F.mse_loss(self.head(target.pooled).float(), source.pooled) + source.pooled[0].square().sum()


class Variance(Good):
    def forward(self, source: Features, target: Features) -> Tensor:
        spread = self.head(target.pooled).float()[1:].std(dim=0)
        return super().forward(source, target) + spread.mean()


class DoubleOnly(Good):
    def forward(self, source: Features, target: Features) -> Tensor:
        assert self.head(target.pooled).dtype == torch.float32
        return super().forward(source, target)


class Moody(Good):
    seen = 0

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        Moody.seen += 1
        self.register_buffer("mood", torch.tensor(float(Moody.seen)))


class Forgetful(Good):
    def __init__(self, widths: Widths) -> None:
        super().__init__(widths)
        self.steps = 0

    def forward(self, source: Features, target: Features) -> Tensor:
        return super().forward(source, target) * (1 + self.steps)

    def after_step(self) -> None:
        self.steps += 1


class BankOnly(Good):
    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        assert bank is not None
        self.centre = bank.pooled.mean(dim=0)

    def embed(self, source: Features, target: Features) -> Any:
        return source.pooled - getattr(self, "centre", 0), self.head(target.pooled)


class Late(Good):
    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        self.register_buffer("centre", torch.zeros(self.widths.source))


class TwoSpaces(Good):
    def embed(self, source: Features, target: Features) -> Any:
        return source.pooled, target.pooled


class NotANumber(Good):
    def diagnostics(self) -> Mapping[str, float]:
        return {"fine": 1.0, "kl": float("nan")}


@pytest.mark.parametrize(
    ("objective", "title", "why"),
    [
        (lambda widths: nn.Linear(1, 1), "the loss is one finite number where source", "build returns a Linear"),
        (Greedy, "the loss is one finite number where source", "needs names labels"),
        (NoHead, "the loss is one finite number where source", "the widths differ"),
        (Square, "the loss is one finite number where source", "RuntimeError: mat1 and mat2 shapes"),
        (OnlyDifferent, "the loss is one finite number where the widths are equal", "AssertionError"),
        (Rows, "the loss is one finite number where source", "forward gives shape (12,)"),
        (Infinite, "the loss is one finite number where source", "the loss is inf"),
        (Number, "the loss is one finite number where source", "forward gives a float"),
        (Detached, "gradients reach", "no gradient reaches the target's features"),
        (Constant, "gradients reach", "RuntimeError"),
        (SteepAtZero, "gradients reach", "NaN or infinite"),
        (Keeping, "its own parameters", "it keeps an encoder's parameters: teacher."),
        (Idle, "its own parameters", "no gradient for temperature"),
        (Shifted, "the loss does not depend on the order", "when the batch's pairs come in another order"),
        (Variance, "a batch of two", "the loss is nan"),
        (DoubleOnly, "it works with bfloat16", "AssertionError"),
        (Moody, "attach is", "attach gives another mood"),
        (Forgetful, "it goes on alike", "after its state was saved and loaded"),
        (BankOnly, "its saved state", "embed gives something else"),
        (Late, "its saved state", "RuntimeError: Error(s) in loading state_dict"),
        (TwoSpaces, "embed gives", "embed gives (12, 12) and (12, 8)"),
        (NotANumber, "diagnostics gives", "kl is no finite number"),
    ],
)
def test_what_is_caught(about: About, objective: Callable[[Widths], Any], title: str, why: str) -> None:
    finding = about(CHECKS, subject(objective), title)
    assert finding.outcome == "failed"
    assert why in finding.why


def test_what_fits_equal_widths_only_is_checked_on_these(about: About) -> None:
    assert about(CHECKS, subject(NoHead), "gradients reach").outcome == "ok"
    assert subject(NoHead).widths == Widths(source=8, target=8, source_dense=6, target_dense=6)
