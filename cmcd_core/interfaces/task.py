"""Downstream tasks: what the target encoder is evaluated on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
        spatial: Its target follows the geometry of the views (masks).
    """

    primary: ClassVar[str]
    target_name: ClassVar[str]
    spatial: ClassVar[bool] = False

    @abstractmethod
    def target(self, value: Any) -> Tensor:
        """One of ``Sample.targets`` -> a tensor of one constant shape (masks: native size)."""

    @abstractmethod
    def stratum(self, target: Tensor) -> int | None:
        """The class for "N labels a class" and kNN; None: N samples in all."""

    @abstractmethod
    def head(self, encoder: Encoder, classes: Sequence[str] | None) -> nn.Module:
        """A module from :class:`Features` to the task's output."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Scalar mean loss of a batch."""

    @abstractmethod
    def predict(self, output: Tensor) -> Mapping[str, Tensor]:
        """Output -> named predictions, one row a sample, for people and predictions.npz."""

    @abstractmethod
    def metrics(self, classes: Sequence[str] | None) -> MetricCollection:
        """Metrics updated with ``(output, target)``, each in [0, 1]."""
