"""``cmcd report``: a run's page again, or several runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import printable
from .options import DEBUG, opt

COMPARISON = Path("comparison.html")


@click.command(short_help="report.html of a run; several runs: one page that compares them.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@opt(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html",
    help="Where to.  [default: RUN/report.html; of several runs ./comparison.html]",
)  # fmt: skip
@DEBUG
def report(runs: tuple[Path, ...], out: Path | None, debug: bool) -> int:
    """Write the report of RUN from what lies in its folder: neither data nor plugins are needed.

    Several runs give one page: where their configurations differ, their scores with intervals, their curves and costs.
    Runs that differ in nothing but the seed are taken together. The folder of a `cmcd compare` stands for its runs.

    \b
    cmcd report runs/my-run
    cmcd report runs/a runs/b runs/c --out abc.html
    """  # fmt: skip
    from ..report.writing import write_pages

    click.echo(printable(f"report: {write_pages(runs, out, COMPARISON)}"))
    return 0
