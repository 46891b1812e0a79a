"""``cmcd predict``: files as classes with probabilities, or as masks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from .options import DEBUG, JSON, QUIET, opt

if TYPE_CHECKING:
    from rich.table import Table

    from ..predicting import Predictions, Predictor

SHOWN = 3
"""So many classes of a file are in the table; all are in CSV and JSON."""


@click.command(short_help="Files as classes with probabilities, or as masks.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@opt("--evaluation", type=click.IntRange(0), metavar="N", help="Take the encoder and head of evaluations/N.")
@opt("--task", metavar="NAME", help="Take those of this task.")
@opt("--labels", metavar="N|F%", help="Take those of this label budget.  [default: the most labels]")
@opt(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Classes: a .csv or .json. Masks: their folder.  [default: RUN/predictions/N]",
)
@JSON
@QUIET
@DEBUG
def predict(
    run: Path, paths: tuple[str, ...], evaluation: int | None, task: str | None, labels: str | None, out: Path | None,
    as_json: bool, quiet: bool, debug: bool,
) -> int:  # fmt: skip
    """Say what each file shows, by the head that step 3 trained on few labels.

    A PATH is a file of the target's modality, or a folder of them. By default the head is the distilled encoder's with
    the most labels; among those with as many, the best on val.

    \b
    cmcd predict runs/my-run scan.png
    cmcd predict runs/my-run scans/ --labels 5 --out classes.csv
    cmcd predict runs/my-run scans/ --task segmentation --out masks/
    """  # fmt: skip
    from ..catalog import load
    from ..predicting import open_predictor, predict_with
    from .console import Terminal

    with Terminal(quiet=quiet, results_to_stderr=as_json) as terminal:
        predictor = open_predictor(run, evaluation, task, labels, load())
        terminal.note(predictor.title)
        masks = predictor.task.spatial
        out = run / "predictions" / str(predictor.number) if masks and out is None else out
        place = _place(out, predictor)
        found = predict_with(predictor, paths, terminal)
    values = _masks(found, place) if masks and place else [_classes(found, at) for at in range(len(found.keys))]
    if as_json:
        about = {key: found.about[key] for key in ("number", "encoder", "task", "protocol", "labels")}
        click.echo(json.dumps({"evaluation": about, "files": values}, indent=2, ensure_ascii=False))
    else:
        terminal.out.print(predictions_table(values, found))
    if place is not None:
        if not masks:
            _write(values, found, place)
        terminal.note(f"written to {place}")
    return 0


def _place(out: Path | None, predictor: Predictor) -> Path | None:
    """Where to, checked before any work is done."""
    from ..errors import ConfigError
    from ..files import made_folder

    if out is None:
        return None
    if predictor.task.spatial:
        if out.suffix in (".csv", ".json", ".png") or out.is_file():
            raise ConfigError(f"--out {out}: masks are PNGs, one a file", "Name a folder.")
        return made_folder(out)
    if out.suffix not in (".csv", ".json"):
        raise ConfigError(f"--out {out}: expected a name that ends in .csv or .json")
    if out.suffix == ".csv" and predictor.classes is None:
        raise ConfigError(f"--out {out}: {predictor.entry['task']} predicts no classes", "Name a .json file.")
    made_folder(out.parent)
    return out


def _classes(found: Predictions, at: int) -> dict[str, Any]:
    """One file's class and probabilities, most probable first; of other tasks whatever they predict."""
    row, key = found.rows[at], found.keys[at]
    if found.classes is None or not {"class", "probability"} <= set(row):
        return {"file": key, **{name: value.tolist() for name, value in row.items()}}
    shares = dict(zip(found.classes, row["probability"].tolist(), strict=True))
    label = found.labels[at]
    order = sorted(shares, key=lambda name: -shares[name])
    return {"file": key, "class": label, "probability": shares[label], "probabilities": {n: shares[n] for n in order}}


def _masks(found: Predictions, folder: Path) -> list[dict[str, Any]]:
    """Write each mask, and what its ids mean; which classes take how much of each."""
    import numpy as np

    from ..errors import ConfigError
    from ..files import write_json
    from ..report.mask_png import write_mask

    if any("mask" not in row for row in found.rows):
        raise ConfigError(
            f"the task {found.about['task']} predicts {', '.join(found.rows[0])}, and no mask",
            "cmcd_core.predict gives it as arrays.",
        )
    names = dict(enumerate(found.classes or ()))
    out = []
    for key, row, name in zip(found.keys, found.rows, mask_names(found.keys), strict=True):
        write_mask(row["mask"], folder / name)
        ids, counts = np.unique(row["mask"], return_counts=True)
        shares = {
            names.get(i, str(i)): n / row["mask"].size for i, n in zip(ids.tolist(), counts.tolist(), strict=True)
        }
        order = sorted(shares, key=lambda one: -shares[one])
        out.append({"file": key, "mask": str(folder / name), "shares": {one: shares[one] for one in order}})
    write_json(folder / "classes.json", names)
    return out


def mask_names(keys: Sequence[str]) -> list[str]:
    """``scans/a.tiff`` -> ``a.png``; where two would be alike, the folder's name too, and then a number.

    >>> mask_names(["x/a.png", "y/a.png", "b.png", "b.tif"])
    ['x-a.png', 'y-a.png', 'b.png', 'b-2.png']
    """
    stems = [PurePath(key).stem for key in keys]
    longer = [
        f"{PurePath(key).parent.name}-{stem}" if stems.count(stem) > 1 and PurePath(key).parent.name else stem
        for key, stem in zip(keys, stems, strict=True)
    ]
    taken: set[str] = set()
    out = []
    for name in longer:
        free = next(one for one in (name, *(f"{name}-{n}" for n in range(2, len(keys) + 2))) if one not in taken)
        taken.add(free)
        out.append(f"{free}.png")
    return out


def _write(values: Sequence[dict[str, Any]], found: Predictions, path: Path) -> None:
    from ..errors import ConfigError
    from ..files import write_json, write_text

    if path.suffix == ".json":
        write_json(path, list(values))
        return
    if values and "probabilities" not in values[0]:
        raise ConfigError(f"--out {path}: {found.about['task']} predicts no classes", "Name a .json file.")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "class", "probability", *(f"p({name})" for name in found.classes or ())])
    for value in values:
        shares = [value["probabilities"][name] for name in found.classes or ()]
        writer.writerow([value["file"], value["class"], value["probability"], *shares])
    write_text(path, text.getvalue())


def predictions_table(values: Sequence[dict[str, Any]], found: Predictions) -> Table:
    """A row a file: its most probable classes, the largest of its mask, or what the task says of it."""
    from rich.markup import escape
    from rich.table import Table

    title = f"{found.about['task']}, evaluation {found.about['number']}"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("shows", overflow="fold")
    for value in values:
        shares = value.get("probabilities") or value.get("shares")
        if shares is None:
            text = ", ".join(f"{name} {each}" for name, each in value.items() if name != "file")
        else:
            text = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:SHOWN])
        table.add_row(escape(value["file"]), escape(text))
    return table
