"""PACS (Li et al. 2017): seven classes in four domains; a photo and a sketch of one class are a pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmcd_core import DataError

from .folder.row import SPLITS, Row, counted
from .known import PICTURES, KnownLoader, files_by_class, split_rows
from .layouts import PACSOptions
from .roots import root_of


class PACSLoader(KnownLoader):
    """Expected:

        photo/dog/056_0001.jpg    art_painting/dog/…    cartoon/dog/…    sketch/dog/5281.png

    The domains share no thing, so pairs are two things of one class. Each domain is split by itself; within a class
    and a split, the sketches in a drawn order are dealt to the photos in theirs, over and over where there are fewer.
    """

    name = "PACS"
    expected = "photo/CLASS/NAME.jpg and sketch/CLASS/NAME.png"
    pairs = "label"

    def __init__(self, options: PACSOptions) -> None:
        root = root_of(options, "pacs")
        domains = {"image": options.image, "sketch": options.sketch}
        split = {modality: _domain(root, modality, folder, options) for modality, folder in domains.items()}
        rows, left_out = _dealt(split["sketch"], split["image"], options.split_seed)
        if not any(len(row.files) == 2 for row in rows):
            raise DataError(f"{root}: {options.image}/ and {options.sketch}/ have no class in common.")
        sizes = ", ".join(f"{sum(row.split == name for row in rows)} {name}" for name in SPLITS)
        notes = [
            f"Pairs are of one class, dealt here: {sizes} (seed {options.split_seed}, each domain split by itself)."
        ]
        if left_out:
            notes.append(f"Left out: {counted(left_out, 'drawing')} whose class has no photo in their split.")
        self._fill(root, rows, notes=notes)


def _domain(root: Path, modality: str, folder: str, options: PACSOptions) -> list[Row]:
    rows = [
        Row(f"{label}/{file.stem}", {modality: file.relative_to(root).as_posix()}, label=label)
        for label, file in files_by_class(root / folder, PICTURES)
    ]
    if not rows:
        raise DataError(f"{root / folder} holds no pictures.", f"Expected {folder}/CLASS/NAME.jpg.")
    split_rows(rows, options, folder)
    return rows


def _dealt(sketches: Sequence[Row], photos: Sequence[Row], seed: int) -> tuple[list[Row], int]:
    """A row a sketch, with a photo of its class and split, and how many sketches have none and are left out; photos
    that are left over get rows of their own."""
    rng = np.random.default_rng([seed, 0xAC5])
    decks: dict[tuple[str | None, str | None], list[Row]] = defaultdict(list)
    for photo in photos:
        decks[photo.split, photo.label].append(photo)
    for deck in decks.values():
        deck[:] = [deck[number] for number in rng.permutation(len(deck))]
    dealt: dict[tuple[str | None, str | None], int] = defaultdict(int)
    rows = []
    left_out = 0
    for number in rng.permutation(len(sketches)):
        sketch = sketches[number]
        place = (sketch.split, sketch.label)
        if place in decks:
            photo = decks[place][dealt[place] % len(decks[place])]
            dealt[place] += 1
            rows.append(Row(sketch.key, {**photo.files, **sketch.files}, label=sketch.label, split=sketch.split))
        else:
            left_out += 1
    for place, deck in decks.items():
        rows += [
            Row(f"{Path(photo.files['image']).parts[0]}/{photo.key}", photo.files, label=photo.label, split=photo.split)
            for photo in deck[dealt[place] :]
        ]
    return sorted(rows, key=lambda row: row.key), left_out
