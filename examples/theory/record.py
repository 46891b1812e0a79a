"""A table of recorded runs for `cmcd distance --forecast`, from finished runs.

    python examples/theory/record.py sweeps/demo sweeps/real runs/ --out cmcd_core/theory/recorded_runs.csv

Every run below these folders that trained from scratch too is taken: a sweep's cells, or any other. Its pairs are
looked at as the forecast will look at them: before any training, through its source encoder.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cmcd_core import RunConfig, load_run
from cmcd_core.catalog import load
from cmcd_core.config import STEPS
from cmcd_core.forecasting import Prospect, prospect
from cmcd_core.grammar import read_toml
from cmcd_core.progress import Progress
from cmcd_core.resolve import resolve
from cmcd_core.workbench import Workbench, make_fabric

MEASURED = ("explained", "partner_rank", "dependence")
COLUMNS = ("data", "about", "seed", "pairs", "labels", "classes", *MEASURED, "distilled", "scratch", "objective")
CELL = re.compile(r"(?P<data>.+)-(?P<ladder>clean|noise|blur|quantise|drop|shuffle|pairs)-(?P<level>[\d.]+)-s\d+")


def seen(folder: Path) -> Prospect:
    """What a cell's pairs look like before any training."""
    values = read_toml(folder / "config.toml")
    values["pretrain"] = {"teacher": [str(folder / "source")]}
    resolved = resolve(RunConfig.from_mapping(values), load(), STEPS)
    silent = Progress()
    return prospect(Workbench.of(resolved, make_fabric(resolved.config.run)[0], silent, silent.note))


def origin(folder: Path) -> tuple[str, str]:
    """The data set, and what was done to it: a sweep's cell says both in its name."""
    if cell := CELL.fullmatch(folder.name):
        spoilt = cell["ladder"] not in ("clean", "pairs")
        return cell["data"], f"{cell['ladder']} {float(cell['level']):g}" if spoilt else "clean"
    config = read_toml(folder / "config.toml")
    root = config["data"].get("root")
    return (Path(root).name if root else f"demo_{config['target']['name']}"), "clean"


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """One a label budget of a run's linear evaluation."""
    result = load_run(folder).values
    accuracy: dict[tuple[str, str], float] = {}
    labels: dict[str, float] = {}
    for entry in result["evaluations"]:
        compared = entry["encoder"] in ("distilled", "scratch") and entry["protocol"] in ("linear", "supervised")
        if compared and "top1" in entry["metrics"]:  # other tasks have no accuracy
            accuracy[entry["encoder"], entry["labels"]] = entry["metrics"]["top1"]
            labels[entry["labels"]] = entry["n_train"] / entry["classes"]
    found = seen(folder)
    data, about = origin(folder)
    for budget, a_class in labels.items():
        if not {("distilled", budget), ("scratch", budget)} <= accuracy.keys():
            continue
        yield {
            "data": data,
            "about": about,
            "seed": result["seed"],
            "pairs": found.pairs,
            "labels": round(a_class, 2),
            "classes": found.classes,
            **{name: f"{getattr(found, name):.4f}" for name in MEASURED},
            "distilled": f"{accuracy['distilled', budget]:.4f}",
            "scratch": f"{accuracy['scratch', budget]:.4f}",
            "objective": result["objective"],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    table: list[dict[str, Any]] = []
    for file in sorted(file for folder in options.folders for file in folder.rglob("result.json")):
        if "scratch" in {entry["encoder"] for entry in load_run(file.parent).evaluations}:
            table += rows(file.parent)
            print(file.parent.name, flush=True)
    table.sort(key=lambda row: (row["data"], row["about"], row["seed"], row["pairs"], row["labels"]))
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
