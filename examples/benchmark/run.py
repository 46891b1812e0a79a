"""The whole benchmark of docs/benchmark.md: every method on every data set, seed by seed, then the results page.

    python examples/benchmark/run.py --data DATA --out runs/benchmark

Each data set and seed is one ``cmcd compare``, which goes on where it was when this command is given again.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import click
from collect import collect
from methods import ALIKE, COMPARED, OURS, RECIPE, RIVALS
from page import write_page

from cmcd_core.presets import preset

HERE = Path(__file__).parent
DATA_SETS = (
    "asl_fingerspelling", "sketchy", "tools_objects", "digits_audio", "tools_seg", "camvid_contour", "bsds500",
)  # fmt: skip
MASKS = ("tools_seg", "camvid_contour", "bsds500")
"""Here the recipe fine-tunes, so its teacher, which it starts from, is fine-tuned too."""


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, metavar="DIR",
              help="Folder of the data sets, one sub-folder each.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where the raw runs go.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Seeds, from 0 on.")
@click.option("--only", metavar="A,B", help="Some data sets.")
@click.option("--methods", default=",".join((*RIVALS, *OURS)), show_default=True, metavar="A,B",
              help="Some distillation methods; those that are done stay.")  # fmt: skip
@click.option("--teacher", default="efficientnet-lite0", show_default=True, help="As cmcd run's.")
@click.option("--control/--no-control", default=True, show_default=True,
              help="Some rivals with the recipe's start and schedule too.")  # fmt: skip
@click.option("--page-only", is_flag=True, help="Run nothing: write the results and the page from what is in --out.")
def main(
    data: Path, out: Path, seeds: int, only: str | None, methods: str, teacher: str, control: bool, page_only: bool
) -> None:
    """Run the benchmark, or what is missing of it."""
    chosen = only.split(",") if only else list(DATA_SETS)
    if unknown := [name for name in chosen if name not in DATA_SETS]:
        raise click.UsageError(f"--only {','.join(unknown)}: expected some of {', '.join(DATA_SETS)}")
    failed = []
    for seed, name in product(range(0 if page_only else seeds), chosen):
        for suffix, words in _asked(methods.split(","), control, masks=name in MASKS):
            folder = out / name / f"seed{seed}{suffix}"
            common = ["-c", str(HERE / f"{name}.toml"), "--data", str(data / name), "--seed", str(seed)]
            if code := _compare(folder, [*common, "--teacher", teacher, *words]):
                failed.append(f"{folder} (exit {code})")
        _write(name, out)
    for name in chosen:
        _write(name, out)
    if failed:
        raise click.ClickException(f"not finished: {'; '.join(failed)}. The same command goes on.")


def _asked(methods: Sequence[str], control: bool, *, masks: bool) -> list[tuple[str, list[str]]]:
    """End of a folder's name and words of ``cmcd compare``, for each comparison of a data set and seed.

    The recipe, whose student may be another network, is by itself, with the rivals that are trained as it is.
    """
    plain = [name for name in methods if name != RECIPE]
    alike = [*([RECIPE] if RECIPE in methods else []), *(ALIKE if control else [])]
    recipe = preset("recommended")
    settings = [f"{part}.{key}={value}" for part in ("distill", "evaluate") for key, value in recipe[part].items()]
    baselines = [word for name in COMPARED for word in ("--baseline", name)]
    apart = ["--baseline", "source" if masks else "none", *(word for each in settings for word in ("-o", each))]
    both = (("", plain, baselines), ("-alike", alike, apart))
    return [(suffix, ["--objectives", ",".join(names), *words]) for suffix, names, words in both if names]


def _compare(folder: Path, words: list[str]) -> int:
    """One ``cmcd compare`` of one seed, from where it was; its exit code."""
    cmcd = Path(sys.executable).with_name("cmcd")
    resume = ["--resume"] if (folder / "compare.toml").exists() else []
    click.echo(str(folder), err=True)
    command = [str(cmcd), "compare", *words, "--seeds", "1", "--reference", "scratch", "--out", str(folder), *resume]
    return subprocess.run(command, check=False).returncode


def _write(name: str, out: Path) -> None:
    collect(out / name, HERE / "results" / f"{name}.json")
    write_page(HERE / "results", HERE.parents[1] / "docs" / "benchmark.md")


if __name__ == "__main__":
    main()
