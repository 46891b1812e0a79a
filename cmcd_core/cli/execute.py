"""What ``cmcd run`` and the commands of single steps share: plan or run, show the result, exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ..catalog import load
from ..config import STEPS, RunConfig, Step
from ..errors import ConfigError
from ..pipeline import run as run_method
from ..progress import Progress
from ..resolve import resolve
from ..started import started
from .closing import show
from .console import Terminal


def execute(
    values: Mapping[str, Any],
    where: str,
    flags: Mapping[str, Any],
    *,
    resume: bool,
    extend: bool = False,
    steps: tuple[Step, ...] = STEPS,
) -> int:
    """Run ``steps`` of the configuration ``values`` (from the file ``where``, if any); the exit code."""
    config = RunConfig.from_mapping(values, where)
    catalog = load()
    if started().rank:
        return _followed(config, resume, extend, steps, dry=flags["dry_run"])
    as_json = bool(flags["as_json"])
    terminal = Terminal(quiet=flags["quiet"], results_to_stderr=as_json)
    broken = [plugin.name for plugin in catalog.plugins if plugin.status in ("broken", "incompatible")]
    if broken:
        terminal.note(f"not loaded: {', '.join(broken)} (see `cmcd plugins list`)")
    if flags["dry_run"]:
        from .estimate import estimate

        resolved = resolve(config, catalog, steps)
        terminal.plan(resolved, estimate(resolved))
        return 0
    with terminal, stopped_by_signals() as stopped:
        try:
            result = run_method(
                config, resume=resume, extend=extend, steps=steps, progress=terminal, catalog=catalog,
                announce=terminal.start,
            )  # fmt: skip
        except (KeyboardInterrupt, Stopped):
            terminal.interrupted()
            return 143 if stopped() else 130
    if as_json:
        click.echo(result.folder.joinpath("result.json").read_text(encoding="utf-8"), nl=False)
    show(terminal, result)
    return 0


def _followed(config: RunConfig, resume: bool, extend: bool, steps: tuple[Step, ...], *, dry: bool) -> int:
    """One of several processes: the first one speaks for it."""
    with stopped_by_signals() as stopped:
        try:
            if not dry:
                run_method(config, resume=resume, extend=extend, steps=steps, progress=Progress())
        except (KeyboardInterrupt, Stopped):
            return 143 if stopped() else 130
    return 0


def folder_to_go_on_in(out: Path | None, flag: str) -> Path:
    """The folder of ``--resume`` or ``--extend``."""
    if out is None:
        raise ConfigError(f"{flag}: which run?", "Name its folder with --out.")
    return out


class Stopped(BaseException):
    """SIGTERM: unwinds like Ctrl-C, so that files are closed and the resume command is printed."""


class stopped_by_signals:  # noqa: N801 (used as a with statement)
    """Turn SIGTERM into an exception for as long as the block runs."""

    def __enter__(self) -> Any:
        self.seen = False
        self.before = signal.signal(signal.SIGTERM, self._stop) if sys.platform != "win32" else None
        return lambda: self.seen

    def __exit__(self, *exc: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self.seen:  # a launcher may send what the terminal has sent already
            self.seen = True
            raise Stopped
