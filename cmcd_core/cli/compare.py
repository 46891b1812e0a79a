"""``cmcd compare``: objectives × seeds × label budgets on one data set."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .options import DEBUG, DISTILL, EVALUATE, QUIET, SETTINGS, SOURCE, TARGET, configuration, data, opt, options

if TYPE_CHECKING:
    from rich.table import Table

    from .console import Terminal

OBJECTIVES = (
    opt("--objectives", required=True, multiple=True, metavar="A,B,…", help="Objectives to compare: cmd,cmc,l2."),
    opt("--seeds", type=click.IntRange(1), default=3, show_default=True, metavar="N", help="Seeds, from --seed on."),
    opt("--reference", metavar="NAME", help="What differences are taken to.  [default: the first objective]"),
    opt("--grid", multiple=True, metavar="KEY=V1,V2", help="Try each value of a key with each objective."),
    opt("--tune", "trials", type=click.IntRange(0), default=0, metavar="N",
        help="Tune each objective by N trials on val first (needs cmcd[tune])."),
    opt("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Runs side by side."),
    opt("--backend", type=click.Choice(["loky", "dask"]), default="loky", show_default=True,
        help="loky: processes here; dask: the workers of DASK_SCHEDULER_ADDRESS, or of a local cluster (needs "
        "cmcd[dask])."),
    opt("--cell", metavar="I/N", help="Run part I of N of the runs, as a task of a SLURM array; needs --out. The same "
        "command with --resume and without --cell then finishes and summarises."),
)  # fmt: skip
OUTPUT = (
    opt("--dry-run", is_flag=True, help="Check everything, list what would be compared, and stop."),
    opt("--json", "as_json", is_flag=True, help="Print compare.json on stdout, all else on stderr."),
    QUIET,
    DEBUG,
)
COLUMNS = (
    "encoder", "modality", "protocol", "task", "labels", "n_train", "n_test", "metric", "seeds", "mean", "low", "high",
    "over", "difference", "difference_low", "difference_high",
)  # fmt: skip


@click.command(short_help="Objectives side by side: means, intervals, paired differences.")
@options(
    *OBJECTIVES, SOURCE, TARGET, data("The data.  [default: the demo]"), *DISTILL[1:], *EVALUATE, *SETTINGS, *OUTPUT
)
def compare(
    objectives: tuple[str, ...],
    seeds: int,
    reference: str | None,
    grid: tuple[str, ...],
    trials: int,
    jobs: int,
    backend: Literal["loky", "dask"],
    cell: str | None,
    data: str | None,
    file: Path | None,
    assignments: tuple[str, ...],
    resume: bool,
    **flags: Any,
) -> int:
    """Compare objectives on one data set, over seeds and label budgets.

    All that can be shared is made once: decoded data, step 1, the source's features, the baselines. Killed at any
    moment, `--out DIR --resume` goes on where it was. DIR then holds compare.json, compare.csv and compare.png.

    \b
    cmcd compare --target sketch --data pairs/ --objectives cmd,cmc,l2 --seeds 3 --labels 20
    cmcd compare --target depth --objectives cmd --grid distill.lr=0.002,0.005,0.01
    cmcd compare --target depth --objectives cmd,cmc --out runs/c --cell $SLURM_ARRAY_TASK_ID/6
    """  # fmt: skip
    from ..cells import Spread
    from ..comparing import Comparison, variants
    from ..config import RunConfig
    from ..grammar import read_toml
    from ..run_folder import new_run_folder
    from .console import Terminal
    from .execute import Stopped, folder_to_go_on_in, stopped_by_signals

    part, out = _part(cell, flags["out"]), flags.pop("out")
    if resume:
        out = folder_to_go_on_in(out, "--resume")
    wanted = variants([one.strip() for listed in objectives for one in listed.split(",") if one.strip()], grid)
    base = configuration(read_toml(file) if file else {}, flags, data, assignments)
    base["objective"] = {k: table for k, table in base.get("objective", {}).items() if k != "expression"}
    RunConfig.from_mapping(base, str(file or ""))
    terminal = Terminal(quiet=flags["quiet"], results_to_stderr=flags["as_json"])
    spread = Spread(backend, jobs)
    comparison = Comparison(
        base, wanted, reference or wanted[0].name, seeds, out or Path("runs"), spread, trials, terminal
    )
    with terminal:
        comparison.check()
    if not (out or flags["dry_run"]):  # not before all is known to be right
        comparison.out = out = new_run_folder("compare")
    count = len(wanted) * seeds
    terminal.note(f"{len(wanted)} objectives × {seeds} seeds = {count} runs, folder {out or 'runs/<time>-compare'}")
    if flags["dry_run"]:
        for variant in wanted:
            terminal.out.print(variant.name, soft_wrap=True, markup=False)
        return 0
    with terminal, stopped_by_signals() as stopped:
        try:
            values = comparison.go_part(*part) if part else comparison.go(resume=resume)
        except (KeyboardInterrupt, Stopped):
            terminal.close()
            where = shlex.quote(str(out))
            terminal.err.out(f"interrupted; go on with the same command, --out {where} and --resume", highlight=False)
            return 143 if stopped() else 130
    if part:
        return _part_done(values, terminal, as_json=flags["as_json"])
    _write(values, out)
    if flags["as_json"]:
        click.echo((out / "compare.json").read_text(encoding="utf-8"), nl=False)
    terminal.out.print(comparison_table(values))
    for name, problem in values["failed"].items():
        terminal.out.print(f"failed: {name}: {problem}", soft_wrap=True, markup=False)
    terminal.out.print(f"folder: {out} (compare.json, compare.csv, compare.png)", soft_wrap=True, markup=False)
    return 1 if values["failed"] else 0


def _part(cell: str | None, out: Path | None) -> tuple[int, int] | None:
    """``--cell 2/6`` as numbers.

    Raises:
        ConfigError: It is something else, or has no folder to share with the other parts.
    """
    from ..errors import ConfigError

    if cell is None:
        return None
    numbers = re.fullmatch(r"(\d+)/(\d+)", cell)
    part, parts = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if not 1 <= part <= parts:
        raise ConfigError(f"--cell {cell}: expected I/N, from 1/N to N/N", "In an array: #SBATCH --array=1-N.")
    if out is None:
        raise ConfigError(f"--cell {cell}: where do all parts write to?", "Name one folder for all of them with --out.")
    return part, parts


def _part_done(values: Mapping[str, Any], terminal: Terminal, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(values))
    for name, problem in values["failed"].items():
        terminal.out.print(f"failed: {name}: {problem}", soft_wrap=True, markup=False)
    runs = len(values["cells"])
    terminal.out.print(f"{runs - len(values['failed'])} of {runs} runs of this part are done", markup=False)
    return 1 if values["failed"] else 0


def _write(values: Mapping[str, Any], out: Path) -> None:
    """compare.csv and compare.png beside compare.json."""
    from ..files import write_text
    from ..report.compare_plot import compare_plot

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in values["rows"]:
        low, high = row["interval"]
        flat = {**row, "seeds": len(row["seeds"]), "low": low, "high": high, "difference": None}
        if apart := row.get("difference"):
            ends = dict(zip(("difference_low", "difference_high"), apart["interval"], strict=True))
            flat |= {"over": apart["over"], "difference": apart["value"], **ends}
        writer.writerow(flat)
    write_text(out / "compare.csv", text.getvalue())
    compare_plot(values, out / "compare.png")


def comparison_table(values: Mapping[str, Any]) -> Table:
    """Each objective and baseline under each budget: mean, interval, and the paired difference to the reference."""
    from rich.markup import escape
    from rich.table import Table

    rows = sorted(
        values["rows"], key=lambda row: (row["task"], row["n_train"], row["encoder"] == "source", -row["mean"])
    )
    measured = " and ".join(dict.fromkeys(f"{row['task']} {row['metric']}" for row in rows))
    title = f"{measured} on test, {values['seeds']} seeds; differences are paired, to {values['reference']}"
    several = len({row["task"] for row in rows}) > 1
    table = Table(title=escape(title), title_justify="left")
    ways = len({row["protocol"] for row in rows} - {"supervised"}) > 1
    kinds = [name for name, shown in (("task", several), ("protocol", ways)) if shown]
    for column in ("encoder", *kinds, "labels", "mean  [95 %]", "difference, points  [95 %]"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        low, high = row["interval"]
        apart = ""
        if found := row.get("difference"):
            ends = [f"{end * 100:+.1f}" for end in found["interval"]]
            apart = f"{found['value'] * 100:+.1f}  [{ends[0]}, {ends[1]}]"
        table.add_row(
            escape(row["encoder"] if row["encoder"] != "source" else f"source (sees {row['modality']})"),
            *(row[name] for name in kinds),
            f"{row['labels']} ({row['n_train']})",
            escape(f"{row['mean']:.3f}  [{low:.3f}, {high:.3f}]"),
            escape(apart),
            style="bold" if row["encoder"] == values["reference"] else None,
        )
    return table
