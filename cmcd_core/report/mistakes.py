"""The section of predictions: confusion matrix and confident mistakes, or masks, true and predicted."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from .answer import Answer
from .blocks import Block, Figure, Figures, Folded, Section, Sheet, Strip, Table, Tile, address_of
from .charts import confusion, cut
from .evidence import Evaluated, Evidence
from .mask_png import IGNORED, palette_picture
from .pictures import PALETTE, UNKNOWN
from .svg import element
from .words import counted, labels, percent


def predictions(run: Evidence, found: Answer) -> Iterator[Section]:
    """Of the headline's evaluation in the open, of the others folded; nothing where no picture can be made."""
    blocks: list[Block] = []
    folded: list[Block] = []
    for one in sorted(run.evaluated, key=lambda one: one.entry["digest"] != found.entry.get("digest")):
        shown = list(_blocks(run, one))
        entry = one.entry
        if not shown:
            continue
        if entry["digest"] == found.entry.get("digest"):
            blocks += shown
        else:
            folded.append(Folded(f"{entry['task']}, {entry['protocol']}, {labels(entry)}: {_score(one)}", shown))
    if blocks or folded:
        lead = f"The distilled {run.target} encoder on the test split, with the first of its label draws."
        yield Section("predictions", "Where it errs", lead, [*blocks, *folded])


def _score(one: Evaluated) -> str:
    return f"{one.entry['primary']} {percent(one.entry['metrics'][one.entry['primary']])}"


def _blocks(run: Evidence, one: Evaluated) -> Iterator[Block]:
    known = one.predictions
    if {"key", "class", "probability", "target"} <= known.keys() and one.classes:
        yield from _classes(run, one)
    elif {"key", "mask", "target"} <= known.keys() and one.classes:
        yield from _masks(run, one)


def _classes(run: Evidence, one: Evaluated) -> Iterator[Block]:
    truth, taken = one.predictions["target"], one.predictions["class"]
    right = int((truth == taken).sum())
    chart, width = confusion(truth, taken, one.classes, f"Confusion matrix of {len(one.classes)} classes")
    caption = (
        f"{right:,} of {counted(len(truth), 'test sample')} are right. Rows are what a sample is, columns what it was "
        "taken for; the darker, the larger the share of the row."
    )
    title = f"{one.entry['protocol']}, {labels(one.entry)}: {_score(one)}"
    yield Figures([Figure(title, chart, caption, width)], "wide")
    if pairs := _confused(truth, taken, one.classes):
        yield Table("Most often confused", ["is", "taken for", "samples", "of its class"], pairs, words=2)
    rows = {str(key): row for row, key in enumerate(one.predictions["key"].tolist())}
    strips = []
    for shown in one.pictures:
        if (row := rows.get(str(shown["key"]))) is None:
            continue
        sure = float(one.predictions["probability"][row].max())
        said = f"is {one.classes[truth[row]]}, taken for {one.classes[taken[row]]}, {sure:.0%} sure"
        strips.append(Strip(said, _pictured(run, one, shown)))
    if strips:
        caption = "The wrong answers that it is most sure of. Where a label is wrong, it is often here."
        yield Sheet("Confident mistakes", caption, strips, narrow=True)


def _confused(truth: np.ndarray, taken: np.ndarray, classes: Sequence[str]) -> list[list[str]]:
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (truth, taken), 1)
    of = counts.sum(1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:5]
    pairs = [divmod(int(at), len(classes)) for at in order]
    return [
        [cut(classes[a], 40), cut(classes[b], 40), str(counts[a, b]), percent(counts[a, b] / of[a])]
        for a, b in pairs
        if counts[a, b]
    ]


def _pictured(run: Evidence, one: Evaluated, shown: Mapping[str, Any]) -> list[Tile]:
    """A sample's pictures."""
    return [
        Tile(address_of(one.folder / "pictures" / str(file), run.path), f"{name} of {shown['key']}", [str(name)])
        for name, file in shown["pictures"].items()
    ]


def _masks(run: Evidence, one: Evaluated) -> Iterator[Block]:
    rows = {str(key): row for row, key in enumerate(one.predictions["key"].tolist())}
    both = [
        np.where(one.predictions[of] >= len(one.classes), IGNORED, one.predictions[of]) for of in ("target", "mask")
    ]
    strips = []
    for shown in one.pictures:
        if (row := rows.get(str(shown["key"]))) is None:
            continue
        tiles = _pictured(run, one, shown)
        for name, masks in zip(("truth", "prediction"), both, strict=True):
            tiles.append(Tile(_mask(masks[row]), f"{name} of {shown['key']}", [name]))
        strips.append(Strip(str(shown["key"]), tiles))
    if strips:
        caption = f"{one.entry['protocol']}, {labels(one.entry)}. Samples are evenly spaced over the test split."
        key = _colours(one.classes, np.unique(np.concatenate(both)))
        yield Sheet(f"Masks: {_score(one)}", caption, strips, key)
    shares = [name for name in one.entry["metrics"] if name != one.entry["primary"]]
    if shares:
        cells = [[name, percent(one.entry["metrics"][name])] for name in shares]
        yield Folded("Scores of each class", [Table(f"{one.entry['protocol']}", ["metric", "score"], cells)])


def _mask(ids: np.ndarray) -> str:
    """(H, W) class ids, ``IGNORED`` where nothing is said, as a data: URI."""
    file = io.BytesIO()
    palette_picture(ids).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _colours(classes: Sequence[str], present: np.ndarray) -> Markup:
    """What the masks' colours are."""
    known = [int(number) for number in present if number < len(classes)]
    entries = [(classes[number], PALETTE[number % len(PALETTE)]) for number in known]
    entries += [("not labelled", UNKNOWN)] if IGNORED in present else []
    items = []
    for name, colour in entries:
        box = element("rect", x=4, y=2, width=20, height=12, fill=colour, class_="frame")
        swatch = element("svg", box, viewBox="0 0 28 16", aria_hidden="true", class_="swatch")
        items.append(element("li", swatch, name))
    return element("ul", *items, class_="legend")
