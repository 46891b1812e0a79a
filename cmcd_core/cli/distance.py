"""``cmcd distance``: how far apart are two modalities, for a run's encoders?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import DEBUG, SOURCE, TARGET, TEACHERS, options

if TYPE_CHECKING:
    from rich.table import Table


FORECAST = (
    click.option("--forecast", is_flag=True, help="Before any training: will distillation beat scratch, and by what?"),
    SOURCE,
    TARGET,
    *TEACHERS,
    click.option("--labels", multiple=True, metavar="N|F%", help="--forecast: label budgets.  [default: 5]"),
    click.option("--classes", type=click.IntRange(2), metavar="N", help="--forecast: of pairs that have no labels."),
    click.option(
        "-o", "--option", "assignments", multiple=True, metavar="KEY=VALUE", help="--forecast: any key of a run."
    ),
)


@click.command(short_help="How far apart are two modalities? With directions and intervals.")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--data", metavar="PATH|LOADER:PATH", help="Other pairs than the run's.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="[default: test, or val if that is small]")
@click.option("--before", is_flag=True, help="The student as it was before distillation.")
@click.option("--permutations", type=click.IntRange(0), default=0, metavar="N", help="For the p-value of MMD².")
@options(*FORECAST)
@click.option("--json", "as_json", is_flag=True, help="Print the estimates as JSON.")
@DEBUG
def distance(
    run: Path | None,
    data: str | None,
    split: Any,
    before: bool,
    permutations: int,
    forecast: bool,
    assignments: tuple[str, ...],
    as_json: bool,
    debug: bool,
    **flags: Any,
) -> int:
    """Measure the distance between the source's and the target's features of held-out pairs.

    RUN is a run's folder whose step 2 is done. Every estimate says which side of the truth it is on, raw and with each
    modality's mean taken away. With --forecast nothing needs to be trained but the source encoder: RUN is a folder
    whose step 1 is done, or --teacher names one.

    \b
    cmcd distance runs/my-run
    cmcd distance runs/my-run --before
    cmcd distance --forecast --target depth --data pairs/ --teacher efficientnet-lite0 --labels 5
    """  # fmt: skip
    if forecast:
        _only(split=split, before=before, permutations=permutations)
        from .forecast import forecast as foretell

        return foretell(run, data, flags, assignments, as_json)
    _only(**flags, option=assignments)
    if run is None:
        raise click.UsageError("which run? Name a folder whose step 2 is done, or pass --forecast.")
    return _measure(run, data, split, before, permutations, as_json)


def _only(**given: Any) -> None:
    """Refuse flags that the other way of asking has."""
    names = {"teachers": "teacher"}
    for name, value in given.items():
        if value not in (None, False, (), 0):
            flag = "--" + names.get(name, name).replace("_", "-")
            way = "without" if name in ("split", "before", "permutations") else "with"
            raise click.UsageError(f"{flag} goes {way} --forecast only.")


def _measure(run: Path, data: str | None, split: Any, before: bool, permutations: int, as_json: bool) -> int:
    from ..catalog import load
    from ..errors import DataError
    from ..grammar import parse_data
    from ..latents import LEAST, common_space, estimates, held_out_split
    from ..opened import open_run
    from ..students import student
    from ..teaching import taught_objective
    from ..workbench import frozen
    from .console import Terminal

    with Terminal(quiet=as_json, results_to_stderr=False) as terminal:
        opened = open_run(run, load(), data=dict(parse_data(data)) if data else None, progress=terminal)
        bench, target = opened.bench, opened.target
        if (split := split or held_out_split(bench)) is None:
            raise DataError(f"neither test nor val has {LEAST} pairs", "Name a split: --split train.")
        if before:
            target = frozen(bench, student(bench, opened.folder, opened.source))
        objective = taught_objective(bench, opened.folder, opened.source, target, opened.lesson, trained=not before)
        latents = common_space(bench, split, opened.source, target, objective)
    found = estimates(latents, permutations=permutations)
    if as_json:
        about = {"split": split, "pairs": len(latents.keys), "space": latents.space}
        click.echo(json.dumps({"estimates": found, **about}, indent=2))
        return 0
    title = f"{bench.source.name} and {bench.target.name}: {len(latents.keys)} {split} pairs, in {latents.space} space"
    terminal.out.print(estimates_table(found, title))
    terminal.out.print(
        "A lower bound is sure of its lower end, an upper bound of its upper end for the class it names; a plug-in of "
        "neither. Raw features of two modalities are nearly always told apart: see the centred rows too.",
        soft_wrap=True,
    )
    return 0


def estimates_table(found: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A row an estimator, raw beside centred."""
    from rich.markup import escape
    from rich.table import Table

    from ..report.words import estimated

    table = Table(title=title, title_justify="left")
    for column in ("estimate", "direction"):
        table.add_column(column, overflow="fold")
    for column in ("raw  [95 %]", "centred  [95 %]", "n"):
        table.add_column(column, justify="right", overflow="fold")
    for name in dict.fromkeys(estimate["name"] for estimate in found):
        kinds = {estimate["centred"]: estimate for estimate in found if estimate["name"] == name}
        shown = [escape(estimated(kinds[kind])) if kind in kinds else "" for kind in (False, True)]
        sizes = "/".join(str(kinds[kind]["n"]) for kind in (False, True) if kind in kinds)
        table.add_row(name, next(iter(kinds.values()))["direction"], *shown, sizes)
    return table
