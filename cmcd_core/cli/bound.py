"""``cmcd bound``: a generalisation bound for a run's linear head, term by term."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import DEBUG

if TYPE_CHECKING:
    from rich.table import Table


@click.command(short_help="The generalisation bound of a run's head, term by term.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--labels", metavar="N|F%", help="Label budget of the head.  [default: the largest]")
@click.option(
    "--confidence",
    metavar="P",
    type=click.FloatRange(0.5, 1, max_open=True),
    default=0.95,
    show_default=True,
    help="At which the deviation and the distance hold, each by itself.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the terms as JSON.")
@DEBUG
def bound(run: Path, labels: str | None, confidence: float, as_json: bool, debug: bool) -> int:
    """Bound the error of a linear head in the other modality, from its labelled samples and the measured distance.

    A bound of the shape: empirical risk + complexity of the heads + deviation + distance of the two modalities. Each
    term says whether it is computed or itself bounded; where the sum is 1 or more it says nothing, and the output so.

    \b
    cmcd bound runs/my-run
    cmcd bound runs/my-run --labels 100%
    """  # fmt: skip
    from ..catalog import load
    from ..head_bound import head_bound
    from .console import Terminal

    with Terminal(quiet=as_json, results_to_stderr=False) as terminal:
        found = head_bound(run, load(), labels=labels, confidence=confidence, progress=terminal)
    if as_json:
        values = {
            **found.about, "total": found.bound.total, "vacuous": found.bound.vacuous,
            "guaranteed": found.bound.guaranteed, "terms": [asdict(term) for term in found.bound.terms],
        }  # fmt: skip
        click.echo(json.dumps(values, indent=2))
        return 0
    terminal.out.print(terms_table(found.about, [asdict(term) for term in found.bound.terms]))
    total = f"total {found.bound.total:.3f}"
    said = "vacuous: it is 1 or more, as every error rate is below 1" if found.bound.vacuous else "an error rate"
    terminal.out.print(f"{total} ({said})", soft_wrap=True)
    if not found.bound.guaranteed:
        terminal.out.print("a term is a lower bound of what it stands for, so the total bounds nothing", soft_wrap=True)
    terminal.out.print(f"error on the test split: {found.about['test_error']:.3f}", soft_wrap=True)
    return 0


def terms_table(about: Mapping[str, Any], terms: list[dict[str, Any]]) -> Table:
    """A row a term: value, status, what it rests on."""
    from rich.table import Table

    title = f"{about['encoder']} head on {about['modality']}, {about['labels']} labels ({about['n_train']} samples)"
    table = Table(title=title, title_justify="left")
    for column in ("term", "value", "status", "rests on"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    for term in terms:
        value = "" if term["value"] is None else f"{term['value']:.3f}"
        table.add_row(term["name"], value, term["status"], term["note"])
    return table
