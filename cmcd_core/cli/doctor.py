"""``cmcd doctor``: what this machine has, what cmcd chooses on it, and what will hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from .machine import Finding


@click.command(short_help="What this machine has, and what will hurt.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(as_json: bool) -> int:
    """What this machine has and what cmcd chooses on it; exit code 0 whatever is wrong with it.

    A line that begins with "problem:" says what will hurt and what to do about it.
    """
    import json
    import warnings

    report: dict[str, Any] = {}
    problems: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # packages complain on import, about each other
        for label, look in looks().items():
            found = guarded(label, look)
            report[label] = found.values
            problems += found.problems
            if not as_json:
                for number, line in enumerate(found.lines):
                    click.echo(f"{'' if number else label:<13}{line}")
    if as_json:
        click.echo(json.dumps({**report, "problems": problems}, indent=2, ensure_ascii=False))
        return 0
    click.echo("")
    for problem in problems:
        click.echo(f"problem: {problem}")
    if not problems:
        click.echo("no problems found")
    return 0


def guarded(label: str, look: Callable[[], Finding]) -> Finding:
    """One look; if it fails, that is what was found."""
    from ..errors import one_line
    from .machine import Finding

    try:
        return look()
    except Exception as error:
        return Finding(["unknown"], problems=[f"{label}: could not be looked at ({one_line(error)})"])


def looks() -> dict[str, Callable[[], Finding]]:
    """What is looked at, in the order in which it is shown: quick things first."""
    from . import installation, machine

    return {
        "python": machine.python,
        "cores": machine.cores,
        "memory": machine.memory,
        "cache": installation.cache,
        "environment": installation.environment,
        "plugins": installation.plugins,
        "packages": installation.packages,
        "extras": installation.extras,
        "sound": installation.sound,
        "devices": machine.devices,
        "choices": machine.choices,
    }
