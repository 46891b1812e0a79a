"""``cmcd data``: what is in a data set, what is wrong with it, and the same in tars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import printable
from .options import DEBUG, JSON, QUIET, opt, options

if TYPE_CHECKING:
    from ..inspection.check import Checked
    from ..inspection.opened import Opened
    from .console import Terminal

ASSIGNMENTS = opt("-o", "--option", "assignments", multiple=True, metavar="data.KEY=VALUE",
                  help="An option of the loader, such as data.label_column=kind.")  # fmt: skip


@click.group(short_help="A data set: check, describe, pack.")
def data() -> None:
    """What is in a data set, what is wrong with it, and the same in tars.

    PATH is a folder, or LOADER:PATH, as for `cmcd run --data`.
    """


@data.command(short_help="What is wrong with it, before any training.")
@click.argument("path")
@options(
    opt("--samples", type=click.IntRange(min=1), metavar="N", help="Look at N samples of each split.  [default: all]"),
    opt("--sheet", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.png",
        help="Where the contact sheet goes.  [default: NAME-sheet.png in the current folder]"),
    opt("--no-sheet", is_flag=True, help="No contact sheet."),
    ASSIGNMENTS, JSON, QUIET, DEBUG,
)  # fmt: skip
def check(
    path: str, samples: int | None, sheet: Path | None, no_sheet: bool, assignments: tuple[str, ...], **flags: Any
) -> int:
    """Read every view and target of PATH, and say what would stop a run (exit code 2) or spoil it (a warning).

    A contact sheet shows some pairs side by side.
    """
    import json

    from ..inspection.check import check as check_data

    opened = opened_set(path, assignments, leniently=True)
    with progress_of(flags) as terminal:
        checked = check_data(opened, samples, terminal)
    picture = None if no_sheet else written_sheet(checked, sheet)
    if flags["as_json"]:
        click.echo(json.dumps({**checked.values, "sheet": picture and str(picture)}, indent=2, ensure_ascii=False))
    else:
        show_check(checked, picture)
    return 2 if checked.problems else 0


@data.command(short_help="What is in it.")
@click.argument("path")
@options(
    opt("--samples", type=click.IntRange(min=1), default=200, metavar="N",
        help="Sizes and ranges are of N samples of each split.  [default: 200]"),
    ASSIGNMENTS, JSON, QUIET, DEBUG,
)  # fmt: skip
def describe(path: str, samples: int, assignments: tuple[str, ...], **flags: Any) -> int:
    """Modalities, counts, classes, sizes, value ranges and pairing of PATH."""
    import json

    from ..inspection.describe import describe as describe_data
    from .described import lines

    opened = opened_set(path, assignments)
    with progress_of(flags) as terminal:
        values = describe_data(opened, samples, terminal)
    if flags["as_json"]:
        click.echo(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        click.echo(printable("\n".join(lines(values))))
    return 0


@data.command(short_help="The same data as tars.")
@click.argument("path")
@click.argument("out", type=click.Path(path_type=Path))
@options(
    opt("--shard-size", type=click.FloatRange(min=0, min_open=True), default=500.0, metavar="MB",
        help="Begin another tar at this size.  [default: 500]"),
    ASSIGNMENTS, QUIET, DEBUG,
)  # fmt: skip
def pack(path: str, out: Path, shard_size: float, assignments: tuple[str, ...], **flags: Any) -> int:
    """Write PATH as WebDataset tars into the new folder OUT, which `--data OUT` then reads as if it were PATH."""
    from ..packing.pack import pack as pack_data

    opened = opened_set(path, assignments)
    with progress_of(flags) as terminal:
        written = pack_data(opened.loader, opened.name, out, shard_size=round(shard_size * 1e6), progress=terminal)
    for note in opened.loader.notes:
        click.echo(printable(note), err=True)
    for split, packed in written.items():
        click.echo(f"{split:<6} {packed.samples:>8} samples  {packed.shards:>5} shards  {packed.size / 1e6:>10,.1f} MB")
    click.echo(f"folder: {out}")
    return 0


def progress_of(flags: dict[str, Any]) -> Terminal:
    """Bars on stderr, unless --quiet."""
    from .console import Terminal

    return Terminal(quiet=flags["quiet"], results_to_stderr=True)


def opened_set(path: str, assignments: tuple[str, ...], *, leniently: bool = False) -> Opened:
    """The data set at PATH, with the loader's options."""
    from ..catalog import load
    from ..errors import ConfigError
    from ..grammar import set_key
    from ..inspection.opened import open_set

    values: dict[str, Any] = {}
    for assignment in assignments:
        set_key(values, assignment)
    if other := sorted(values.keys() - {"data"}):
        raise ConfigError(f"-o {other[0]}: only data.KEY=VALUE is read here", "Modalities are as the data set says.")
    return open_set(path, values.get("data", {}), load(), leniently=leniently)


def written_sheet(checked: Checked, path: Path | None) -> Path | None:
    """The contact sheet's file; None where the current folder, which nobody asked for, cannot be written."""
    import re

    from ..errors import CmcdError
    from ..inspection.sheet import write_sheet

    name = re.sub(r"[^\w-]+", "-", checked.opened.name).strip("-") or "data"
    place = path or Path(f"{name}-sheet.png")
    try:
        write_sheet(checked.opened, checked.looked, place)
    except OSError as error:
        if path is not None:
            raise CmcdError(f"--sheet {path}: cannot be written: {error.strerror or error}") from error
        click.echo(f"no contact sheet: {place.absolute().parent} cannot be written (--sheet FILE.png)", err=True)
        return None
    return place


def show_check(checked: Checked, picture: Path | None) -> None:
    """The findings, in words, worst first."""
    looked = checked.looked
    counts = ", ".join(f"{total} {split}" for split, total in looked.totals.items())
    click.echo(f"{checked.opened.name} ({checked.values['loader']}): {counts}; {', '.join(checked.opened.modalities)}")
    if any(len(samples) < looked.totals[split] for split, samples in looked.samples.items()):
        click.echo(f"looked at {', '.join(f'{len(found)} of {split}' for split, found in looked.samples.items())}")
    for finding in checked.findings:
        click.echo(printable(f"{finding.level}: {finding.text}"))
        for example in finding.examples:
            click.echo(printable(f"    {example}"))
        if finding.count > len(finding.examples) > 0:
            click.echo(f"    … {finding.count - len(finding.examples)} more")
        if finding.advice:
            click.echo(printable(f"  {finding.advice}"))
    warnings = len(checked.findings) - checked.problems
    click.echo(f"{checked.problems or 'no'} problem{'s' * (checked.problems != 1)}, {warnings or 'no'} "
               f"warning{'s' * (warnings != 1)}")  # fmt: skip
    if picture:
        click.echo(f"contact sheet: {picture}")
