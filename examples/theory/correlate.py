"""Rank correlation of each measured distance with the target's test error, over the cells of a sweep.

python examples/theory/correlate.py examples/theory/cells.csv --data demo_depth --ladder noise --picture demo.png
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Numbers = NDArray[np.float64]
MAIN = "alignment"
"""Chosen before any correlation was looked at: docs/theory-validated.md."""
ALIKE = ("linear_cka", "retrieval_at")
"""Estimates that are larger where the modalities are nearer: their sign is turned."""
NO_DISTANCE = ("uniformity",)
CLEAN = "clean"
REPLICATES = 2000


@dataclass(frozen=True)
class Cells:
    """Cells of one data set's ladders: their errors, distances, seeds and ladders, in the table's order."""

    error: Numbers
    distances: dict[str, Numbers]
    seeds: NDArray[np.int64]
    ladders: tuple[str, ...]
    levels: Numbers

    def of(self, ladder: str) -> Cells:
        """One ladder's; with the data as they are for its first rung, which that of the demo's noise has of its own."""
        kept = np.array([name == ladder or (name == CLEAN and ladder != "noise") for name in self.ladders])
        distances = {name: values[kept] for name, values in self.distances.items()}
        names = tuple(name for name, keep in zip(self.ladders, kept, strict=True) if keep)
        return Cells(self.error[kept], distances, self.seeds[kept], names, self.levels[kept])


@dataclass(frozen=True)
class Correlation:
    """Spearman's, pooled over seeds, its bootstrap interval, and the mean of each seed's own."""

    name: str
    value: float
    low: float
    high: float
    within: float


def read(table: Path, data: str, when: str, labels: str) -> Cells:
    """The cells of one data set; distances have the names of their estimates."""
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["data"] == data]
    if not rows:
        raise SystemExit(f"{table}: no cell of --data {data}")
    prefix = f"{when}_"
    names = [key.removeprefix(prefix) for key in rows[0] if key.startswith(prefix)]
    distances = {}
    for name in names:
        values = np.array([float(row[prefix + name] or "nan") for row in rows])
        if not name.startswith(NO_DISTANCE) and np.isfinite(values).all():
            distances[name] = -values if name.startswith(ALIKE) else values
    return Cells(
        np.array([float(row[f"error_distilled_{labels}"]) for row in rows]),
        distances,
        np.array([int(row["seed"]) for row in rows]),
        tuple(row["ladder"] for row in rows),
        np.array([float(row["level"]) for row in rows]),
    )


def correlations(cells: Cells) -> list[Correlation]:
    """Each distance's, the highest first."""
    found = [_correlation(name, values, cells) for name, values in cells.distances.items()]
    return sorted(found, key=lambda one: -one.value)


def spearman(a: Numbers, b: Numbers) -> Numbers:
    """Rank correlation along the last axis; 0 where either side is constant."""
    x, y = (ranks - ranks.mean(-1, keepdims=True) for ranks in (rankdata(a, axis=-1), rankdata(b, axis=-1)))
    lengths = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return np.asarray((x * y).sum(-1) / np.where(lengths > 0, lengths, 1))


def _correlation(name: str, values: Numbers, cells: Cells) -> Correlation:
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(cells.seeds == seed) for seed in np.unique(cells.seeds)]
    drawn = np.concatenate([generator.choice(own, (REPLICATES, len(own))) for own in members], axis=1)
    low, high = np.quantile(spearman(values[drawn], cells.error[drawn]), [0.025, 0.975])
    within = float(np.mean([spearman(values[own], cells.error[own]) for own in members]))
    return Correlation(name, float(spearman(values, cells.error)), float(low), float(high), within)


def table(found: Sequence[Correlation]) -> str:
    """Markdown."""
    lines = ["| estimate | Spearman [95 %] | within a seed |", "|---|---|---|"]
    for one in found:
        name = f"**`{one.name}`**" if one.name == MAIN else f"`{one.name}`"
        lines.append(f"| {name} | {one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}] | {one.within:+.2f} |")
    return "\n".join(lines)


def draw(cells: Cells, found: Sequence[Correlation], title: str, to: Path) -> None:
    """Left the main distance against the error, right every estimate's correlation."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    ladders = list(dict.fromkeys(cells.ladders))
    for index, ladder in enumerate(ladders):
        own = np.array([name == ladder for name in cells.ladders])
        left.scatter(cells.distances[MAIN][own], cells.error[own], label=ladder, color=f"C{index}", s=26)
        if len(ladders) == 1:
            for x, y, level in zip(cells.distances[MAIN][own], cells.error[own], cells.levels[own], strict=True):
                left.annotate(f"{level:g}", (x, y), textcoords="offset points", xytext=(4, 3), fontsize=7)
    left.set(xlabel=f"{MAIN} of held-out pairs, after distillation", ylabel="test error of the distilled encoder")
    left.legend(frameon=False)
    shown = list(reversed(found))
    middle = np.array([one.value for one in shown])
    reach = np.abs(np.array([[one.low for one in shown], [one.high for one in shown]]) - middle)
    places = np.arange(len(shown))
    right.errorbar(middle, places, xerr=reach, fmt="o", color="0.3", ecolor="0.7", ms=4)
    right.set_yticks(places, [one.name for one in shown], fontsize=7)
    for tick, one in zip(right.get_yticklabels(), shown, strict=True):
        tick.set_fontweight("bold" if one.name == MAIN else "normal")
    right.axvline(0, color="0.8", lw=0.8)
    right.set(xlim=(-1.05, 1.05), xlabel="Spearman with the test error, 95 %")
    figure.suptitle(title)
    figure.savefig(to, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Print the table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--ladder", help="one ladder; default: all of the data set's cells")
    parser.add_argument("--when", choices=["before", "after"], default="after")
    parser.add_argument("--labels", default="5")
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    options = parser.parse_args(arguments)
    cells = read(options.cells, options.data, options.when, options.labels)
    if options.ladder:
        cells = cells.of(options.ladder)
    found = correlations(cells)
    say(f"{options.data}, {options.ladder or 'all ladders'}: {len(cells.error)} cells, {options.when} distillation")
    say(table(found))
    if options.picture:
        draw(cells, found, f"{options.data}, {options.ladder or 'all ladders'}", options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
