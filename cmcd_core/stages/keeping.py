"""When a training's checkpoints are written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol

from lightning_fabric import Fabric
from torch import Tensor

from ..processes import agreed, meet, several
from .standing import Standing
from .waiting import Waiting
from .watch import Watch

SECONDS = 600.0
"""A killed process loses no more than so much of a long epoch."""


class CheckpointStore(Protocol):
    """Where a training's state is kept between sessions."""

    def save(self, epoch: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None: ...

    def latest(self, digest: str, note: Callable[[str], None]) -> tuple[dict[str, Tensor], dict[str, Any]] | None: ...


class Keeping:
    """Writes a training's checkpoints: after each epoch, every ten minutes, and before a signal ends it.

    Without a store nothing is written, and signals do not wait. Of several processes one has the store, and a signal
    to any of them ends them all after the same step.
    """

    def __init__(self, fabric: Fabric, store: CheckpointStore | None, digest: str, standing: Standing) -> None:
        self._fabric, self._store, self._digest, self._standing = fabric, store, digest, standing
        self._signals, self._written = Waiting(), time.monotonic()

    def __enter__(self) -> Keeping:
        if self._store or several(self._fabric):
            self._signals.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._signals.__exit__()
        if kind is None or issubclass(kind, Exception):
            self._signals.deliver()  # Ctrl-C reaches loader workers too: that they died is not what went wrong

    def epoch_done(self) -> None:
        """An epoch is done."""
        self._save()
        self._deliver(agreed(self._fabric, self._signals.kept or 0))

    def step_done(self, watch: Watch) -> None:
        """A step is done; what is not finite is not saved."""
        waited, signal = time.monotonic() - self._written > SECONDS, agreed(self._fabric, self._signals.kept or 0)
        if (waited and self._store) or signal:
            watch.look()
            self._save()
            self._deliver(signal)

    def _deliver(self, signal: int) -> None:
        if signal:
            meet(self._fabric)  # whoever ends early is taken for one that failed, and the writer ended with it
            self._signals.deliver(signal)

    def _save(self) -> None:
        if self._store:
            number = len(self._standing.losses) + (self._standing.steps > 0)
            meta = {"digest": self._digest, **self._standing.meta()}
            self._store.save(number, self._standing.tensors(), meta)
            self._written = time.monotonic()
