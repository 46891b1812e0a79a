"""``cmcd distance --forecast``: what distillation would bring, before any training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import configuration

if TYPE_CHECKING:
    from rich.table import Table

    from ..forecasting import Prospect
    from ..theory.forecast import Forecast, Recorded

QUESTIONS = {
    "gain": "distilled − scratch",
    "more_pairs": "twice the pairs add",
    "more_labels": "twice the labels add",
}
WHY = {
    "no better than a constant": "a forecast does no better than a constant guess",
    "too few data sets": "it would rest on fewer than five data sets",
}
SHOWN = 6


def forecast(
    run: Path | None, data: str | None, flags: dict[str, Any], assignments: tuple[str, ...], as_json: bool
) -> int:
    """Measure, foretell, print.

    Args:
        run: A folder whose step 1 is done; None: ``flags["teachers"]``.
        flags: source, target, teachers, teacher_architecture, labels, classes.
    """
    from ..catalog import load
    from ..config import STEPS, RunConfig
    from ..resolve import resolve
    from .console import Terminal

    classes = flags.pop("classes")
    resolved = resolve(RunConfig.from_mapping(_values(run, data, flags, assignments)), load(), STEPS)

    # Only now torch: a typo costs no seconds.
    from ..forecasting import labels_a_class, prospect
    from ..theory.forecast import forecast as foretell
    from ..theory.forecast import nearest_runs, recorded_runs
    from ..workbench import Workbench, make_fabric

    with Terminal(quiet=as_json, results_to_stderr=False) as terminal:
        bench = Workbench.of(resolved, make_fabric(resolved.config.run)[0], terminal, terminal.note)
        found = prospect(bench, classes)
        budgets = {budget: labels_a_class(bench, budget, found.classes) for budget in resolved.config.evaluate.labels}
    runs = recorded_runs()
    told = {budget: foretell(found.features(labels), runs) for budget, labels in budgets.items()}
    beside = {budget: nearest_runs(found.features(labels), runs, SHOWN) for budget, labels in budgets.items()}
    if as_json:
        click.echo(json.dumps(_as_json(found, told, beside), indent=2))
        return 0
    both = f"{bench.source.name} and {bench.target.name}"
    terminal.out.print(f"{both}: {found.looked_at} of {found.pairs} training pairs looked at, nothing trained")
    for budget, forecasts in told.items():
        terminal.out.print(f"\n{budget} labels" + ("" if budget.endswith("%") else " a class"), highlight=False)
        for line in answers(forecasts):
            terminal.out.print(line, soft_wrap=True, highlight=False)
        terminal.out.print(beside_table(found, budgets[budget], beside[budget]))
    return 0


def _values(run: Path | None, data: str | None, flags: dict[str, Any], assignments: tuple[str, ...]) -> dict[str, Any]:
    from ..errors import ConfigError
    from ..grammar import read_toml

    base: dict[str, Any] = {}
    if run is not None:
        if not (run / "source" / "config.json").is_file() or not (run / "config.toml").is_file():
            raise ConfigError(
                f"{run}: no run whose step 1 is done",
                "Name the folder of a `cmcd pretrain`, or pass --teacher instead.",
            )
        base = read_toml(run / "config.toml")
        base.get("pretrain", {}).pop("teacher_architecture", None)
        flags["teachers"] = flags["teachers"] or (str(run / "source"),)
    return configuration(base, flags, data, assignments)


def answers(forecasts: Sequence[Forecast]) -> Iterator[str]:
    """Each question with its number, or why there is none; then what helps more."""
    for one in forecasts:
        question = QUESTIONS[one.outcome]
        error = (
            f"off by {_points(one.error)} on data sets left out, a constant guess by {_points(one.constant_error)}; "
            f"{one.runs} recorded cases of {one.data_sets} data sets"
        )
        if number := one.number:
            yield (
                f"{question}: {_signed(number.value)} points [{_signed(number.low)}, {_signed(number.high)}], "
                f"above 0 with a chance of {number.chance:.0%} ({error})"
            )
        elif one.verdict == "unlike the recorded runs":
            yield f"{question}: don't know. {'; '.join(one.reasons)} ({error})"
        else:
            low, middle, high = one.recorded
            why = WHY[one.verdict]
            yield (
                f"{question}: no number, as {why} ({error}). Recorded: "
                f"{_signed(low)} to {_signed(high)}, half of them above {_signed(middle)}"
            )
    yield from _what_helps(forecasts)


def _what_helps(forecasts: Sequence[Forecast]) -> Iterator[str]:
    """Only where both numbers are there, and their intervals do not overlap, is one said to help more."""
    numbers = {one.outcome: one.number for one in forecasts}
    pairs, labels = numbers.get("more_pairs"), numbers.get("more_labels")
    if pairs is None or labels is None:
        return
    if pairs.low > labels.high or labels.low > pairs.high:
        yield f"more {'pairs' if pairs.low > labels.high else 'labels'} would help more"
    else:
        yield "more pairs or more labels: the intervals overlap, so that neither is sure to help more"


def beside_table(found: Prospect, labels: float, runs: Sequence[Recorded]) -> Table:
    """What was measured, above the recorded runs most like it."""
    from rich.table import Table

    table = Table(title="measured here, and the recorded runs nearest to it", title_justify="left")
    table.add_column("data")
    columns = ("pairs", "labels", "classes", "explained", "partner rank", "CKA", "distilled", "scratch")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_row("here", *_shown(found.features(labels)), "", "", style="bold")
    for one in runs:
        reached = (f"{one.distilled:.3f}", f"{one.scratch:.3f}")
        table.add_row(f"{one.data}, {one.about}", *_shown(one.features), *reached)
    return table


def _shown(features: Any) -> list[str]:
    counts = [f"{2 ** features[name]:.0f}" for name in ("pairs", "labels", "classes")]
    return counts + [f"{features[name]:.2f}" for name in ("explained", "partner_rank", "dependence")]


def _as_json(found: Prospect, told: dict[str, list[Forecast]], beside: dict[str, list[Recorded]]) -> dict[str, Any]:
    return {
        "measured": asdict(found),
        "forecasts": {budget: [asdict(one) for one in forecasts] for budget, forecasts in told.items()},
        "nearest": {budget: [asdict(one) for one in runs] for budget, runs in beside.items()},
    }


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"
