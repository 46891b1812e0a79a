"""Segmentation: one class a pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcd_core import ConfigError, DataError, Encoder, Task

from . import SegmentationOptions
from .heads import Decoder, LinearMaps, resized
from .masks import read_mask

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class Segmentation(Task):
    """Cross-entropy over the pixels; ranked by mean intersection over union."""

    primary = "miou"
    target_name = "mask"
    spatial = True
    needs = frozenset({"dense", "pyramid"})

    def __init__(self, options: SegmentationOptions) -> None:
        self.options = options

    def target(self, value: Any) -> Tensor:
        """A mask (file, bytes or array of class ids) -> (H, W) uint8."""
        return read_mask(value)

    def check(self, target: Tensor, classes: Sequence[str] | None) -> None:
        if wrong := [
            value for value in ids_of(target) if value >= len(names(classes)) and value != self.options.ignore
        ]:
            raise DataError(
                f"the mask holds class {wrong[0]}, and the data set names {len(names(classes))} classes",
                f"Ids count from 0; {self.options.ignore} is ignored (task.segmentation.ignore). Name every class in "
                "mask_classes.txt.",
            )

    def find_classes(self, targets: Iterable[Tensor]) -> Sequence[str] | None:
        """class 0, class 1, … up to the highest id that occurs."""
        ids: set[int] = set()
        for target in targets:
            ids |= set(ids_of(target))
        highest = max(ids - {self.options.ignore}, default=-1)
        return [f"class {number}" for number in range(highest + 1)] if highest > 0 else None

    def stratum(self, target: Tensor) -> None:
        """A picture is of no one class: label budgets count pictures."""

    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        dims = self._dims(encoder)
        return LinearMaps(dims if self.options.levels == "pyramid" else dims[-1:], len(names(classes)))

    def finetune_head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        return Decoder(self._dims(encoder), len(names(classes)), self.options.width)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """(N, K, h, w) logits and (N, H, W) masks -> scalar; logits are brought to the masks' size."""
        truth = target.long()
        known = truth != self.options.ignore
        logits = resized(output.float(), target)
        if not known.any():
            return logits.sum() * 0
        weight = self._class_weights(truth[known], logits.shape[1]) if self.options.balance != "none" else None
        return F.cross_entropy(logits, truth, weight=weight, ignore_index=self.options.ignore)

    def predict(self, output: Tensor) -> Mapping[str, Tensor]:
        """(N, K, H, W) logits -> ``mask`` (N, H, W) uint8 class ids."""
        return {"mask": output.max(dim=1).indices.to(torch.uint8)}

    def metrics(self, classes: Sequence[str] | None) -> MetricCollection:
        from .metrics import segmentation_metrics

        return segmentation_metrics(names(classes), self.options.ignore)

    def _dims(self, encoder: Encoder) -> tuple[int, ...]:
        if not encoder.dense_dim:
            raise ConfigError(
                "segmentation needs an encoder with a dense map, and this one has pooled features only",
                "Take another --student (most timm architectures have maps).",
            )
        return (*encoder.pyramid_dims, encoder.dense_dim)

    def _class_weights(self, ids: Tensor, classes: int) -> Tensor:
        """(K,) of mean 1 over the pixels: by the classes' shares among these pixels."""
        shares = torch.bincount(ids, minlength=classes).float() / len(ids)
        power = 0.5 if self.options.balance == "sqrt" else 1.0
        weights = shares.clamp_min(1e-6).pow(-power)
        return weights / (weights * shares).sum()


def ids_of(mask: Tensor) -> list[int]:
    """The class ids that occur, in order."""
    return torch.bincount(mask.flatten().long()).nonzero().flatten().tolist()


def names(classes: Sequence[str] | None) -> Sequence[str]:
    """The classes' names.

    Raises:
        DataError: There are fewer than two.
    """
    if classes is None or len(classes) < 2:
        raise DataError(
            f"segmentation needs at least two classes, and the data set names {len(classes or ())}",
            "Name them in mask_classes.txt, one a line, in the order of the ids in the masks; or leave the task out.",
        )
    return classes
