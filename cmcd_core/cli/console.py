"""What a person sees while work goes on: bars with an estimate of what is left, notes, how to go on."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import tomli_w
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ..config import STEPS, Step
from ..errors import printable
from ..progress import Advance, Progress

if TYPE_CHECKING:
    from ..resolve import Place, Resolved

TITLES: Mapping[str, str] = {"pretrain": "step 1", "distill": "step 2", "evaluate": "step 3"}
SIGN_OF_LIFE = 60.0
"""Seconds between the lines that stand for a bar where there is no terminal."""


class Terminal(Progress):
    """Bars and notes on stderr, results on stdout. Without a terminal: plain lines, one a minute and one at the end.

    A ``with`` statement takes the bars away however it ends: they hide the cursor.
    """

    def __init__(self, *, quiet: bool, results_to_stderr: bool) -> None:
        self.quiet = quiet
        self.folder: Path | None = None
        self.steps: tuple[Step, ...] = STEPS
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        self.out = Console(stderr=results_to_stderr, highlight=False)
        if not self.out.is_terminal and "COLUMNS" not in os.environ:
            self.out.width = 100
        self.bars: Bars | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self, resolved: Resolved, folder: Path) -> None:
        """Say what is about to happen, on which data, and where it goes."""
        self.folder, self.steps = folder, resolved.steps
        places = dict.fromkeys(resolved.places.values())
        what = resolved.source.name
        if resolved.config.target is not None:
            what = f"{what} -> {resolved.target.name}" if "distill" in resolved.steps else resolved.target.name
        if len(places) == 1:
            data = [f"cmcd: {what} on {_described(next(iter(places)))}"]
        else:
            data = [f"cmcd: {what}", *(f"{TITLES[s]} on {_described(p)}" for s, p in resolved.places.items())]
        objective = f"objective {resolved.expression}, " if "distill" in resolved.steps else ""
        self.note("\n".join([*data, f"{objective}seed {resolved.config.run.seed}, folder {folder}"]))

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Advance]:
        began, last, done, told = time.perf_counter(), "", 0, time.perf_counter()
        if self.quiet:
            yield lambda steps, detail: None
            return
        bars = self._bars()
        task = bars.add_task(title, total=total, detail="")

        def advance(steps: int, detail: str) -> None:
            nonlocal last, done, told
            last, done = detail, done + steps
            bars.update(task, advance=steps, detail=detail)
            if not self.err.is_terminal and time.perf_counter() - told >= SIGN_OF_LIFE:
                told = time.perf_counter()
                self._line(f"{title:<28} {done} of {total}  {detail}".rstrip())

        yield advance
        bars.remove_task(task)
        tail = f"  ({last})" if last else ""
        self._line(f"{title:<28} {time.perf_counter() - began:6.1f} s{tail}")

    def note(self, text: str) -> None:
        if not self.quiet:
            self._line(text)

    def close(self) -> None:
        """Take the bars away."""
        if self.bars is not None:
            self.bars.stop()
            self.bars = None

    def plan(self, resolved: Resolved, estimate: Mapping[str, str]) -> None:
        """``--dry-run``: the configuration on stdout, the estimate on stderr."""
        self.out.out(tomli_w.dumps(resolved.config.to_mapping()), end="", highlight=False)
        for place in dict.fromkeys(resolved.places.values()):
            for note in place.loader.notes:
                self.err.out(note, highlight=False)
        for name, text in estimate.items():
            self.err.out(f"{name:<8} {text}", highlight=False)

    def interrupted(self) -> None:
        """Ctrl-C or SIGTERM: nothing is lost, and how to go on."""
        self.close()
        self.err.out("interrupted; what was done is saved", highlight=False)
        if self.folder is not None:
            folder = shlex.quote(str(self.folder))
            single = f"cmcd {self.steps[-1]} {folder}"
            command = f"cmcd run --out {folder} --resume" if self.steps == STEPS else single
            self.err.out(f"go on with: {command}", highlight=False)

    def _bars(self) -> Bars:
        if self.bars is None:
            columns = (
                TextColumn("{task.description:<28}"),
                BarColumn(24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self.bars = Bars(*columns, console=self.err, transient=True, disable=not self.err.is_terminal)
            self.bars.start()
        return self.bars

    def _line(self, text: str) -> None:
        self.err.print(escape(printable(text)), soft_wrap=True)


def _described(place: Place) -> str:
    if place.part.name == "demo":
        return "the embedded demo data (generated; pass --data for yours)"
    return place.name
