"""Epochs' numbers as curves for TensorBoard, by Fabric's logger: beside metrics.jsonl, never instead of it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

NAME = "tensorboard"


def require_tensorboard() -> None:
    """Ask for the package before anything is trained.

    Raises:
        ConfigError: It is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "--tensorboard needs the package tensorboard, which is not installed",
            "pip install 'cmcd[tensorboard]', or leave it out: metrics.jsonl has the same numbers.",
        )


class Curves:
    """The curves of one run's trainings, a folder of event files each, below ``folder/tensorboard``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loggers: dict[str, TensorBoardLogger] = {}

    def rewind(self, stage: str, epochs: int) -> None:
        """Begin a stage's curves, or go on with them; what they showed from ``epochs`` on is shown no more."""
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        self._end(stage)
        self._loggers[stage] = TensorBoardLogger(self._folder, name=NAME, version=stage, purge_step=epochs)

    def log(self, stage: str, values: Mapping[str, Any]) -> None:
        """One point of each curve: of every number in ``values``, at ``values["epoch"]``."""
        numbers = {name: value for name, value in values.items() if name != "epoch" and isinstance(value, int | float)}
        self._loggers[stage].log_metrics(numbers, step=values["epoch"])
        self._loggers[stage].save()

    def close(self) -> None:
        """End all that is open."""
        for stage in list(self._loggers):
            self._end(stage)

    def _end(self, stage: str) -> None:
        if logger := self._loggers.pop(stage, None):
            logger.finalize("success")
