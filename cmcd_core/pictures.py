"""What a run draws of its evaluations: the distilled encoder's predictions, and the label-efficiency curve."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .data.arrays import evenly
from .data.decoded import BoundModality, decode_one
from .errors import CmcdError, DataError, printable
from .files import write_json, write_text
from .interfaces.loader import Sample
from .report.compare_plot import compare_plot, of_the_target
from .report.pictures import Shown, confusion_matrix, mask_sheet, mistakes_sheet, write_picture
from .run_folder import RunFolder
from .workbench import Side, Workbench

MISTAKES, MASKS = 8, 6
SIDE = 128
"""Pixels of a picture on a sheet."""
CURVE = "label-efficiency"
COLUMNS = ("task", "data", "encoder", "protocol", "labels", "n_train", "metric", "mean", "low", "high", "draws")


def show_safely(what: str, show: Callable[[], None], note: Callable[[str], None]) -> None:
    """Show something of a result that is there: a fault of it, of a plugin's picture() say, is told and no more.

    Raises:
        OSError: The disk refuses it.
    """
    try:
        show()
    except OSError:
        raise
    except Exception as error:
        reason = error.message if isinstance(error, CmcdError) else f"{type(error).__name__}: {error}"
        note(f"the report will not show {what}: {printable(reason)}")


def draw_predictions(bench: Workbench, folder: Path) -> None:
    """The pictures of one evaluation, from its predictions.npz; none where its task is neither of classes nor masks.

    Args:
        folder: ``evaluations/<n>/``.
    """
    with np.load(folder / "predictions.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    classes = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    samples = {sample.key: sample for sample in bench.samples("evaluate", "test")}
    if {"class", "probability"} <= found.keys() and classes:
        confusion_matrix(found["target"], found["class"], classes, folder / "confusion.png")
        _mistakes(bench, samples, found, classes, folder / "mistakes.png")
    elif "mask" in found and classes:
        chosen = evenly(len(found["key"]), MASKS)
        shown = [
            Shown(key, _pictures(bench, samples[key]), truth=found["target"][row], predicted=found["mask"][row])
            for row, key in ((int(row), str(found["key"][row])) for row in chosen)
        ]
        _keep(shown, folder / "pictures")
        highest = int(found["target"].max())
        mask_sheet(shown, classes, highest if highest >= len(classes) else -1, folder / "sheet.png")


def _mistakes(
    bench: Workbench,
    samples: Mapping[str, Sample],
    found: Mapping[str, np.ndarray],
    classes: Sequence[str],
    path: Path,
) -> None:
    """The wrong predictions with the highest probability; no picture where there is no mistake."""
    wrong = np.flatnonzero(found["class"] != found["target"])
    sureness = found["probability"].max(axis=1)
    worst = wrong[np.argsort(-sureness[wrong], kind="stable")][:MISTAKES]
    shown = []
    for row in worst.tolist():
        key, truth, taken = str(found["key"][row]), classes[found["target"][row]], classes[found["class"][row]]
        title = f"is {truth[:14]}\ntaken for {taken[:14]}\n{sureness[row]:.0%} sure"
        shown.append(Shown(key, _pictures(bench, samples[key]), title))
    if shown:
        mistakes_sheet(shown, path)
        _keep(shown, path.parent / "pictures")


def _keep(shown: Sequence[Shown], folder: Path) -> None:
    """The pictures of a sheet one by one, and ``pictures.json``: whose they are, in the sheet's order."""
    rows = []
    for number, one in enumerate(shown):
        files = {name: f"{number}-{name}.jpg" for name in one.pictures}
        for name, picture in one.pictures.items():
            write_picture(picture, folder / files[name])
        rows.append({"key": one.key, "pictures": files})
    write_json(folder / "pictures.json", rows)


def _pictures(bench: Workbench, sample: Sample) -> dict[str, np.ndarray]:
    """Both modalities of a sample, where it has them and they can be read."""
    out: dict[str, np.ndarray] = {}
    sides: tuple[Side, ...] = ("source", "target")
    for side in sides:
        bound = bench.bound(bench.resolved.places["evaluate"], side)
        if bound.name not in sample.views:
            continue
        try:
            view = decode_one(sample.key, sample.views[bound.name], bound)
        except DataError:  # the source may be broken where only the target was needed
            continue
        out[bound.name] = small_picture(view, bound)
    return out


def small_picture(view: Tensor, bound: BoundModality) -> np.ndarray:
    """(h, w, 3) uint8 of one decoded view (C, H, W), of the size that sheets have."""
    return bound.modality.picture(bound.modality.resize(view, SIDE) if bound.modality.spatial else view)


def draw_curve(folder: RunFolder, entries: Sequence[Mapping[str, Any]]) -> None:
    """``label-efficiency.csv`` and ``.png``: each encoder's metric against the number of labels; nothing where there is
    one budget."""
    rows = []
    for entry in of_the_target(entries):
        name = entry["primary"]
        low, high = ends = entry["intervals"][name]
        rows.append(
            {**entry, "metric": name, "mean": entry["metrics"][name], "interval": ends, "low": low, "high": high}
        )
    counts = {(row["task"], row["data"], row["n_train"]) for row in rows}
    if len(counts) == len({(task, place) for task, place, _ in counts}):
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder.path / f"{CURVE}.csv", text.getvalue())
    compare_plot({"rows": rows}, folder.path / f"{CURVE}.png")
