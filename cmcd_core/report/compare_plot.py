"""The picture of a comparison: accuracy against labels, readable in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files import replacing

MARKERS = "osD^vP*X<>hp"
GREYS = ("0.0", "0.35", "0.55")
DASHES = ("-", "--", "-.", ":")


def compare_plot(values: Mapping[str, Any], path: Path) -> None:
    """One panel a task: lines over label budgets, or one dot an encoder where there is a single budget.

    Args:
        values: The content of compare.json.
        path: Where the PNG goes.
    """
    matplotlib.rcParams["svg.fonttype"] = "none"
    rows = [row for row in values["rows"] if row["encoder"] != "source"]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    several = len({row["n_train"] for row in rows}) > 1
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    height = 4.2 if several else 1.2 + 0.34 * len(encoders)
    figure = Figure(figsize=(7.2, height * len(tasks)), layout="constrained")
    for number, task in enumerate(tasks):
        axes = figure.add_subplot(len(tasks), 1, number + 1)
        own = [row for row in rows if row["task"] == task]
        (_lines if several else _dots)(axes, own, encoders)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150, format="png")


def _lines(axes: Axes, rows: Sequence[Mapping[str, Any]], encoders: Sequence[str]) -> None:
    for number, encoder in enumerate(encoders):
        points = sorted((row for row in rows if row["encoder"] == encoder), key=lambda row: row["n_train"])
        if not points:
            continue
        x = [row["n_train"] * 1.02 ** (number - len(encoders) / 2) for row in points]  # intervals do not overlap
        axes.errorbar(
            x,
            [row["mean"] for row in points],
            yerr=_ends(points),
            label=encoder,
            marker=MARKERS[number % len(MARKERS)],
            color=GREYS[number % len(GREYS)],
            linestyle=DASHES[number % len(DASHES)],
            capsize=2,
            linewidth=1.2,
        )
    budgets = sorted({(row["n_train"], row["labels"]) for row in rows})
    axes.set_xscale("log")
    axes.set_xticks([count for count, _ in budgets], [f"{count}\n({labels})" for count, labels in budgets])
    axes.minorticks_off()
    axes.set_xlabel("training labels (budget)")
    axes.set_ylabel(f"{rows[0]['task']}: {rows[0]['metric']}, mean and 95 % interval")
    axes.grid(axis="y", color="0.9")
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _dots(axes: Axes, rows: Sequence[Mapping[str, Any]], encoders: Sequence[str]) -> None:
    ordered = sorted(rows, key=lambda row: row["mean"])
    places = range(len(ordered))
    baseline = [row["encoder"] in ("scratch", "untrained") for row in ordered]
    axes.errorbar(
        [row["mean"] for row in ordered],
        places,
        xerr=_ends(ordered),
        fmt="none",
        ecolor="0.4",
        capsize=3,
        linewidth=1.2,
    )
    for place, row, plain in zip(places, ordered, baseline, strict=True):
        axes.plot(row["mean"], place, marker="o", color="white" if plain else "black", markeredgecolor="black")
    axes.set_yticks(list(places), [row["encoder"] for row in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    first = rows[0]
    axes.set_xlabel(f"{first['task']}: {first['metric']}, mean and 95 % interval, {first['n_train']} training labels")
    axes.grid(axis="x", color="0.9")


def _ends(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Lengths of the error bars below and above."""
    return [
        [max(0.0, row["mean"] - row["interval"][0]) for row in rows],
        [max(0.0, row["interval"][1] - row["mean"]) for row in rows],
    ]
