"""Signals that wait for the end of a step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE = 1.0
"""Seconds within which a second signal is the first one, heard twice: from the terminal and from a launcher."""


class Waiting:
    """Inside, Ctrl-C and SIGTERM are kept until :meth:`deliver`; a second one is delivered at once.

    In the middle of a step the weights and the optimiser's state do not belong together, so nothing can be saved there.
    A signal that nobody handles ends the process as ever, and outside the main thread nothing is changed.
    """

    def __init__(self) -> None:
        self.kept: int | None = None
        self._heard = 0.0
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

    def deliver(self, elsewhere: int = 0) -> None:
        """Hand the signal that was kept, if there is one, to whoever handled it before.

        Args:
            elsewhere: One that another process of the run has heard; 0: none.
        """
        number, self.kept = self.kept or elsewhere, None
        if number:
            self._before.get(number, signal.default_int_handler)(number, None)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        if self.kept is None:
            self.kept, self._heard = number, time.monotonic()
        elif time.monotonic() - self._heard > ONE:
            self._before[number](number, frame)
