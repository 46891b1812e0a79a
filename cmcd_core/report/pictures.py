"""Pictures of predictions: a confusion matrix, confident mistakes, and sheets of masks; legible in grey, safe for
colour-blind eyes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from ..files import replacing
from .charts import cut

PALETTE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
    "#999999", "#661100", "#44AA99", "#882255", "#DDCC77", "#332288", "#117733", "#AA4499",
)  # fmt: skip
"""Okabe and Ito's eight colours, then grey and Tol's muted ones; more classes begin again."""
UNKNOWN = "#FFFFFF"
LONGEST = 14
"""Letters of a class name on an axis."""

no_formulas = matplotlib.rc_context({"text.parse_math": False})
"""Decorates what draws: what lies between two dollars in a name of the data is that name, not a formula."""


@dataclass(frozen=True)
class Shown:
    """One test sample, for people: (H, W, 3) uint8 pictures by modality, and what it was taken for."""

    key: str
    pictures: Mapping[str, np.ndarray]
    title: str = ""
    truth: np.ndarray | None = None
    predicted: np.ndarray | None = None


@no_formulas
def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Rows: what it is; columns: what it was taken for, as shares of the row.

    Args:
        truth, predicted: (n,) class ids.
    """
    count = len(classes)
    counts = np.zeros((count, count))
    np.add.at(counts, (truth, predicted), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(14.0, 2.4 + 0.34 * count)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    names = [cut(name, LONGEST) for name in classes]
    every = max(1, count // 40)
    axes.set_xticks(range(0, count, every), names[::every], rotation=90, fontsize="small")
    axes.set_yticks(range(0, count, every), names[::every], fontsize="small")
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    if count <= 15:
        for row, column in np.argwhere(counts > 0):
            dark = shares[row, column] > 0.5
            axes.text(
                column, row, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize="small",
                color="white" if dark else "black",
            )  # fmt: skip
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="share of the row")
    _save(figure, path)


@no_formulas
def mistakes_sheet(samples: Sequence[Shown], path: Path) -> None:
    """The most confident mistakes: each sample's pictures in a column of their own, what it was taken for above."""
    kinds = list(dict.fromkeys(kind for sample in samples for kind in sample.pictures))
    figure = Figure(figsize=(1.7 * len(samples) + 0.4, 1.7 * len(kinds) + 0.9), layout="constrained")
    for column, sample in enumerate(samples):
        for row, kind in enumerate(kinds):
            axes = figure.add_subplot(len(kinds), len(samples), row * len(samples) + column + 1)
            _picture(axes, sample.pictures.get(kind))
            if row == 0:
                axes.set_title(sample.title, fontsize="x-small")
            if column == 0:
                axes.set_ylabel(kind, fontsize="small")
            if row == len(kinds) - 1:
                axes.set_xlabel(cut(sample.key, 20), fontsize="xx-small")
    _save(figure, path)


@no_formulas
def mask_sheet(samples: Sequence[Shown], classes: Sequence[str], ignore: int, path: Path) -> None:
    """A row a sample: its pictures, the true mask, the predicted one; classes in the legend."""
    kinds = list(dict.fromkeys(kind for sample in samples for kind in sample.pictures))
    columns = [*kinds, "truth", "prediction"]
    colours = ListedColormap([*(PALETTE[number % len(PALETTE)] for number in range(len(classes))), UNKNOWN])
    figure = Figure(figsize=(1.9 * len(columns), 1.6 * len(samples) + 0.9), layout="constrained")
    for row, sample in enumerate(samples):
        for column, kind in enumerate(columns):
            axes = figure.add_subplot(len(samples), len(columns), row * len(columns) + column + 1)
            mask = {"truth": sample.truth, "prediction": sample.predicted}.get(kind)
            if mask is None:
                _picture(axes, sample.pictures.get(kind))
            else:
                ids = np.where(mask == ignore, len(classes), mask)
                _picture(axes, None)
                axes.imshow(ids, cmap=colours, vmin=-0.5, vmax=len(classes) + 0.5, interpolation="nearest")
            if row == 0:
                axes.set_title(kind, fontsize="small")
            if column == 0:
                axes.set_ylabel(cut(sample.key, 20), fontsize="xx-small")
    names = [*(cut(name, 24) for name in classes), "not labelled"]
    handles = [Patch(facecolor=colours(n), edgecolor="0.4", label=name) for n, name in enumerate(names)]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize="x-small", frameon=False
    )
    _save(figure, path)


@no_formulas
def retrieval_sheet(rows: Sequence[Sequence[Shown]], path: Path) -> None:
    """A row a query: the query, framed, then what was found for it, nearest first; titles above, keys below."""
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(1.6 * columns + 0.3, 2.0 * len(rows) + 0.2), layout="constrained")
    for number, row in enumerate(rows):
        for column, one in enumerate(row):
            axes = figure.add_subplot(len(rows), columns, number * columns + column + 1)
            _picture(axes, next(iter(one.pictures.values())))
            axes.set_title(one.title, fontsize="small")
            axes.set_xlabel(_end(one.key, 22), fontsize="xx-small")
            if column == 0:
                axes.spines[:].set(color="black", linewidth=2)
            elif one.key == row[0].key:  # the query's own partner
                axes.spines[:].set(color=PALETTE[3], linewidth=2)
    _save(figure, path)


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) uint8 as JPEG, at a quality that keeps thin lines."""
    with replacing(path) as partial:
        Image.fromarray(picture).save(partial, format="JPEG", quality=92, subsampling=0)


def _picture(axes: Axes, picture: np.ndarray | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("0.8")
    if picture is not None:
        axes.imshow(picture, interpolation="nearest")


def _end(name: str, longest: int) -> str:
    """Of a path, the end says most."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
