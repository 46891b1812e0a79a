"""Recognition: one class a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcd_core import DataError, Encoder, Features, Task

from . import RecognitionOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class LinearHead(nn.Module):
    """A linear layer on pooled features."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, classes)

    def forward(self, features: Features) -> Tensor:
        logits: Tensor = self.linear(features.pooled)
        return logits


class Recognition(Task):
    """Cross-entropy over the classes; ranked by top-1 accuracy."""

    primary = "top1"
    target_name = "label"

    def __init__(self, options: RecognitionOptions) -> None:
        self.options = options

    def target(self, value: Any) -> Tensor:
        """A class id -> int64 scalar."""
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
            raise DataError(f"{value!r} is not a class id", "A label is an integer, 0 for the first class.")
        return torch.tensor(int(value), dtype=torch.int64)

    def check(self, target: Tensor, classes: Sequence[str] | None) -> None:
        if classes and int(target) >= len(classes):
            raise DataError(f"class {int(target)}, but there are {len(classes)} classes", "Ids count from 0.")

    def stratum(self, target: Tensor) -> int | None:
        return int(target)

    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        return LinearHead(encoder.dim, _count(classes))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, label_smoothing=self.options.label_smoothing)

    def predict(self, output: Tensor) -> Mapping[str, Tensor]:
        """(N, K) logits -> ``class`` (N,) and ``probability`` (N, K)."""
        return {"class": output.argmax(dim=1), "probability": output.float().softmax(dim=1)}

    def metrics(self, classes: Sequence[str] | None) -> MetricCollection:
        from .metrics import recognition_metrics

        return recognition_metrics(_count(classes))


def _count(classes: Sequence[str] | None) -> int:
    if classes is None or len(classes) < 2:
        raise DataError(
            f"recognition needs at least two classes, and the data set names {len(classes or ())}",
            "Leave this task out, or name the classes (a folder each, a label column, or classes.txt).",
        )
    return len(classes)
