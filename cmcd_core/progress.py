"""How long work tells of itself. The command line shows it with rich; a library call is silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int, str], None]
"""``advance(steps, detail)``: so many steps more are done; ``detail`` is shown beside the bar."""


class Progress:
    """Silent progress; the command line overrides both methods."""

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Advance]:
        """A bar of ``total`` steps for as long as the block runs."""
        yield lambda steps, detail: None

    def note(self, text: str) -> None:
        """One sentence that the user should read."""
