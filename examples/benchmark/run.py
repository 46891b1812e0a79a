"""The whole benchmark of docs/benchmark.md: every method on every data set, seed by seed, then the results page.

    python examples/benchmark/run.py --data DATA --out runs/benchmark

Each data set and seed is one ``cmcd compare``, which goes on where it was when this command is given again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
from collect import collect
from methods import COMPARED, OURS, RIVALS
from page import write_page

HERE = Path(__file__).parent
DATA_SETS = (
    "asl_fingerspelling", "sketchy", "tools_objects", "digits_audio", "tools_seg", "camvid_contour", "bsds500",
)  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, metavar="DIR",
              help="Folder of the data sets, one sub-folder each.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where the raw runs go.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Seeds, from 0 on.")
@click.option("--only", metavar="A,B", help="Some data sets.")
@click.option("--methods", default=",".join((*RIVALS, *OURS)), show_default=True, metavar="A,B",
              help="Some distillation methods; those that are done stay.")  # fmt: skip
@click.option("--teacher", default="efficientnet-lite0", show_default=True, help="As cmcd run's.")
@click.option("--page-only", is_flag=True, help="Run nothing: write the results and the page from what is in --out.")
def main(data: Path, out: Path, seeds: int, only: str | None, methods: str, teacher: str, page_only: bool) -> None:
    """Run the benchmark, or what is missing of it."""
    chosen = only.split(",") if only else list(DATA_SETS)
    if unknown := [name for name in chosen if name not in DATA_SETS]:
        raise click.UsageError(f"--only {','.join(unknown)}: expected some of {', '.join(DATA_SETS)}")
    failed = []
    for seed in range(seeds) if not page_only else ():
        for name in chosen:
            if code := _compare(name, seed, data, out, methods, teacher):
                failed.append(f"{name}, seed {seed} (exit {code})")
            _write(name, out)
    for name in chosen:
        _write(name, out)
    if failed:
        raise click.ClickException(f"not finished: {'; '.join(failed)}. The same command goes on.")


def _compare(name: str, seed: int, data: Path, out: Path, methods: str, teacher: str) -> int:
    folder = out / name / f"seed{seed}"
    cmcd = Path(sys.executable).with_name("cmcd")
    command = [
        str(cmcd), "compare", "-c", str(HERE / f"{name}.toml"), "--data", str(data / name), "--objectives", methods,
        "--seeds", "1", "--seed", str(seed), "--teacher", teacher, "--reference", "scratch",
        *(word for baseline in COMPARED for word in ("--baseline", baseline)), "--out", str(folder),
    ]  # fmt: skip
    resume = ["--resume"] if (folder / "compare.toml").exists() else []
    click.echo(f"{name}, seed {seed}", err=True)
    return subprocess.run([*command, *resume], check=False).returncode


def _write(name: str, out: Path) -> None:
    collect(out / name, HERE / "results" / f"{name}.json")
    write_page(HERE / "results", HERE.parents[1] / "docs" / "benchmark.md")


if __name__ == "__main__":
    main()
