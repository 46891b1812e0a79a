"""The picture of a comparison: accuracy against labels, readable in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files import replacing
from .pictures import no_formulas
from .words import short_name

MARKERS = "osD^vP*X<>hp"
GREYS = ("0.0", "0.35", "0.55")
DASHES = ("-", "--", "-.", ":")

Row = Mapping[str, Any]
Way = tuple[str, str]
"""Encoder and protocol: what one line is of."""


@no_formulas
def compare_plot(values: Mapping[str, Any], path: Path) -> None:
    """One panel a task and data set: lines over label budgets, or one dot an encoder where there is a single budget.
    Nothing where nothing was evaluated.

    Args:
        values: The content of compare.json.
        path: Where the PNG goes.
    """
    rows = of_the_target(values["rows"])
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        panels.setdefault((row["task"], row["data"]), []).append(row)
    if not panels:
        return
    names = _names(rows)
    several = [len({row["n_train"] for row in own}) > 1 for own in panels.values()]
    heights = [
        4.2 if lines else 1.2 + 0.34 * len({_way(row) for row in own})
        for own, lines in zip(panels.values(), several, strict=True)
    ]
    figure = Figure(figsize=(7.2, sum(heights)), layout="constrained")
    every = figure.subplots(len(panels), height_ratios=heights, squeeze=False)[:, 0]
    for axes, (_, place), own, lines in zip(every, panels, panels.values(), several, strict=True):
        (_lines if lines else _dots)(axes, own, names)
        if len({data for _, data in panels}) > 1:
            axes.set_title(short_name(place), fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150, format="png")


def of_the_target(rows: Sequence[Row]) -> list[Row]:
    """Rows or evaluations of the modality that was taught; the source's own are of another, but where both are one."""
    taught = {row["modality"] for row in rows if row["encoder"] != "source"}
    return [row for row in rows if row["modality"] in taught]


def _way(row: Row) -> Way:
    return row["encoder"], row["protocol"]


def _names(rows: Sequence[Row]) -> dict[Way, str]:
    """What each line is called: by its protocol too, where there are several."""
    several = len({row["protocol"] for row in rows} - {"supervised"}) > 1
    return {
        (encoder, protocol): f"{encoder}, {protocol}" if several and protocol != "supervised" else encoder
        for encoder, protocol in map(_way, rows)
    }


def _lines(axes: Axes, rows: Sequence[Row], names: Mapping[Way, str]) -> None:
    for number, (way, name) in enumerate(names.items()):
        points = sorted((row for row in rows if _way(row) == way), key=lambda row: row["n_train"])
        if not points:
            continue
        x = [row["n_train"] * 1.02 ** (number - len(names) / 2) for row in points]  # intervals do not overlap
        axes.errorbar(
            x,
            [row["mean"] for row in points],
            yerr=_ends(points),
            label=name,
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


def _dots(axes: Axes, rows: Sequence[Row], names: Mapping[Way, str]) -> None:
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
    axes.set_yticks(list(places), [names[_way(row)] for row in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    first = rows[0]
    axes.set_xlabel(f"{first['task']}: {first['metric']}, mean and 95 % interval, {first['n_train']} training labels")
    axes.grid(axis="x", color="0.9")


def _ends(rows: Sequence[Row]) -> list[list[float]]:
    """Lengths of the error bars below and above."""
    return [
        [max(0.0, row["mean"] - row["interval"][0]) for row in rows],
        [max(0.0, row["interval"][1] - row["mean"]) for row in rows],
    ]
