"""Accuracies of a classifier, updated with (logits, class ids)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy


class BalancedAccuracy(Metric):
    """Mean recall over the classes that occur among the targets.

    torchmetrics' macro accuracy counts a class without any target as 0 as soon as it is predicted once, which
    punishes small test sets; scikit-learn's balanced accuracy, and this one, leave such classes out.
    """

    full_state_update = False
    higher_is_better = True
    hits: Tensor
    totals: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        for name in ("hits", "totals"):
            self.add_state(name, torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        right = target[output.argmax(dim=1) == target]
        self.hits += torch.bincount(right, minlength=self.classes)
        self.totals += torch.bincount(target, minlength=self.classes)

    def compute(self) -> Tensor:
        present = self.totals > 0
        return (self.hits[present] / self.totals[present]).mean()


def recognition_metrics(classes: int) -> MetricCollection:
    """top1, balanced_accuracy, and top5 where it is not always right."""
    metrics: dict[str, Metric | MetricCollection] = {
        "top1": MulticlassAccuracy(classes, average="micro"),
        "balanced_accuracy": BalancedAccuracy(classes),
    }
    if classes > 5:
        metrics["top5"] = MulticlassAccuracy(classes, top_k=5, average="micro")
    return MetricCollection(metrics)
