"""Signals that wait for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Waiting:
    """Inside, Ctrl-C and SIGTERM are kept until :meth:`deliver`; a second one is delivered at once.

    In the middle of a step the weights and the optimiser's state do not belong together, so nothing can be saved there.
    A signal that nobody handles ends the process as ever, and outside the main thread nothing is changed.
    """

    def __init__(self) -> None:
        self.kept: int | None = None
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> Waiting:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._keep)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def deliver(self) -> None:
        """Hand the signal that was kept, if there is one, to whoever handled it before."""
        number, self.kept = self.kept, None
        if number is not None:
            self._before[number](number, None)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        if self.kept is not None:
            self._before[number](number, frame)
        self.kept = number
