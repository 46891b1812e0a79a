"""Downstream tasks: what the target encoder is evaluated on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from .encoder import Encoder

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class Task(ABC):
    """A head, a loss and metrics over one of ``Sample.targets``.

    Attributes:
        primary: Name of the metric to rank by; higher is better.
        target_name: Which of ``Sample.targets`` it reads.
        spatial: Its target follows the geometry of the views (masks): targets are (H, W), outputs (N, K, h, w).
            Outputs are brought to the target's own size before metrics see them, one sample at a time; the metrics'
            states must be sums.
        needs: What its heads read beyond pooled features: ``"dense"``, ``"pyramid"``; spatial tasks get both.
    """

    primary: ClassVar[str]
    target_name: ClassVar[str]
    spatial: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def target(self, value: Any) -> Tensor:
        """One of ``Sample.targets`` -> a tensor of one constant shape (masks: native size)."""

    def check(self, target: Tensor, classes: Sequence[str] | None) -> None:
        """Refuse a target that does not fit the classes, by DataError. Default: all fit."""
        return

    def find_classes(self, targets: Iterable[Tensor]) -> Sequence[str] | None:
        """Names for the classes of a data set that names none, from all its targets. Default: None."""
        return None

    @abstractmethod
    def stratum(self, target: Tensor) -> int | None:
        """The class for "N labels a class" and kNN; None: N samples in all."""

    @abstractmethod
    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        """A module from :class:`Features` to the task's output: what is trained on a frozen encoder."""

    def finetune_head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        """The same for trainings of the whole network; it may be deeper. Default: :meth:`head`."""
        return self.head(encoder, classes)

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Scalar mean loss of a batch."""

    @abstractmethod
    def predict(self, output: Tensor) -> Mapping[str, Tensor]:
        """Output -> named predictions, one row a sample, for people and predictions.npz."""

    @abstractmethod
    def metrics(self, classes: Sequence[str] | None) -> MetricCollection:
        """Metrics updated with ``(output, target)``, each in [0, 1]."""
