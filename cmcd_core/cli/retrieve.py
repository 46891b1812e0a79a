"""``cmcd retrieve``: a query of one modality, and the nearest of the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import DEBUG, JSON, QUIET, data, opt

if TYPE_CHECKING:
    from rich.table import Table

    from ..retrieving import Retrieved


@click.command(short_help="Queries of one modality, and the nearest of the other.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True)
@data("What is looked among.  [default: the run's own data]")
@opt(
    "--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True, help="Which split of it."
)
@opt(
    "--side",
    type=click.Choice(["target", "source"]),
    default="target",
    show_default=True,
    help="Whose modality the queries are of.",
)
@opt("--k", type=click.IntRange(1), default=5, show_default=True, metavar="N", help="How many are found for each.")
@opt("--sheet", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.png", help="Draw them.")
@JSON
@QUIET
@DEBUG
def retrieve(
    run: Path, queries: tuple[str, ...], data: str | None, split: Any, side: Any, k: int, sheet: Path | None,
    as_json: bool, quiet: bool, debug: bool,
) -> int:  # fmt: skip
    """Find the samples of a split whose other modality is nearest to each QUERY.

    A QUERY is a file or a folder of the target's modality (--side source: of the source's), or the key of one of the
    split's samples. Both are compared by cosine in the space of the run's trained objective; where it has none, target
    features are taken to the source's by a linear map that is fitted on the run's training pairs.

    \b
    cmcd retrieve runs/my-run scan.png --k 5 --sheet found.png
    cmcd retrieve runs/my-run --side source photo.jpg --data others/
    """  # fmt: skip
    from ..files import made_folder
    from ..retrieving import retrieve as find
    from .console import Terminal

    if sheet is not None:
        made_folder(sheet.parent, "--sheet")
    with Terminal(quiet=quiet, results_to_stderr=as_json) as terminal:
        found = find(run, queries, data=data, split=split, side=side, k=k, sheet=sheet, progress=terminal)
    if as_json:
        click.echo(json.dumps(as_values(found), indent=2, ensure_ascii=False))
    else:
        terminal.out.print(found_table(found))
    if sheet is not None:
        terminal.note(f"sheet: {sheet}")
    return 0


def as_values(found: Retrieved) -> dict[str, Any]:
    """JSON-ready."""
    hits = zip(found.queries, found.keys, found.similarities.tolist(), strict=True)
    return {
        "space": found.space,
        "query_modality": found.modalities[0],
        "found_modality": found.modalities[1],
        "gallery": {"samples": found.gallery[0], "data": found.gallery[1]},
        "queries": [
            {"query": query, "found": [{"key": key, "cosine": near} for key, near in zip(keys, cosines, strict=True)]}
            for query, keys, cosines in hits
        ],
    }


def found_table(found: Retrieved) -> Table:
    """A row a sample that was found; the query beside its first."""
    from rich.markup import escape
    from rich.table import Table

    asked, answered = found.modalities
    count, where = found.gallery
    table = Table(
        title=escape(f"{asked} -> {answered}, among {count} ({where}), in {found.space} space"), title_justify="left"
    )
    table.add_column(f"query ({asked})", overflow="fold")
    table.add_column("rank", justify="right")
    table.add_column(f"found ({answered})", overflow="fold")
    table.add_column("cosine", justify="right")
    for query, keys, cosines in zip(found.queries, found.keys, found.similarities.tolist(), strict=True):
        for rank, (key, near) in enumerate(zip(keys, cosines, strict=True), start=1):
            own = " (its own)" if key == query else ""
            table.add_row(escape(query) if rank == 1 else "", str(rank), escape(f"{key}{own}"), f"{near:.3f}")
    return table
