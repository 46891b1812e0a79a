"""Scores of masks, updated with (logits, masks); their states add up over pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryPrecisionRecallCurve, MulticlassConfusionMatrix

THRESHOLDS = 99


class MaskScores(MulticlassConfusionMatrix):
    """``miou``, ``pixel_accuracy`` and ``iou_<class>`` over all pixels of all pictures.

    mIoU is the mean over the classes that occur, in the masks or in the predictions; a class that does not is NaN.
    """

    def __init__(self, classes: Sequence[str], ignore: int) -> None:
        super().__init__(len(classes), ignore_index=ignore, validate_args=False)
        self.names = tuple(classes)

    def update(self, output: Tensor, target: Tensor) -> None:
        # torch's argmax over a middle dimension takes three times as long.
        super().update(output.max(dim=1).indices, target)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        counts = self.confmat.double()
        right, union = counts.diag(), counts.sum(0) + counts.sum(1) - counts.diag()
        iou = right / union  # 0/0 where a class occurs nowhere
        scores = {"miou": iou.nanmean(), "pixel_accuracy": right.sum() / counts.sum().clamp_min(1)}
        return scores | {f"iou_{name}": value for name, value in zip(self.names, iou, strict=True)}


class BestF(BinaryPrecisionRecallCurve):
    """``best_f``: F of the second of two classes at the best of 99 thresholds, one for all pictures.

    As boundary benchmarks do (their "ODS"), the threshold is picked on the pictures that are scored; pixels count where
    they are, with no tolerance for a boundary that lies beside.
    """

    def __init__(self, ignore: int) -> None:
        thresholds = torch.linspace(0.01, 0.99, THRESHOLDS)
        super().__init__(thresholds=thresholds, ignore_index=ignore, validate_args=False)

    def update(self, output: Tensor, target: Tensor) -> None:
        super().update(output.float().softmax(dim=1)[:, 1], target)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        counts = self.confmat.double()  # (T, truth, prediction)
        hits, all_positive = counts[:, 1, 1], counts[:, 1].sum(1) + counts[:, :, 1].sum(1)
        return {"best_f": (2 * hits / all_positive.clamp_min(1)).max()}


def segmentation_metrics(classes: Sequence[str], ignore: int) -> MetricCollection:
    """MaskScores, and BestF where there are two classes."""
    metrics: dict[str, Metric | MetricCollection] = {"masks": MaskScores(classes, ignore)}
    if len(classes) == 2:
        metrics["boundary"] = BestF(ignore)
    return MetricCollection(metrics, compute_groups=False)
