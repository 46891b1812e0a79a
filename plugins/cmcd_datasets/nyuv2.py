"""NYU Depth V2 (Silberman et al. 2012): 1,449 labelled pictures of indoor scenes with depth; 795 train, 654 test."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cmcd_core import DataError

from . import nyu_mat
from .computed import computed, ids_from_one, png
from .folder.row import MASK, Row
from .known import PICTURES, KnownLoader, split_rows
from .layouts import NYU_MAT, NYUOptions
from .roots import root_of

NAMES_40 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
"""The 40 classes of Gupta et al. 2013, from id 1 on; 0 is none."""


class NYULoader(KnownLoader):
    """Expected, either the file of the data set's page (`pip install 'cmcd[hdf5]'`):

        nyu_depth_v2_labeled.mat
        splits.mat                 trainNdxs, testNdxs; without it, splits are made here, scene by scene
        classMapping40.mat         mapClass: 894 classes -> 40; without it there are no masks

    or single files, depth in 16-bit millimetres, masks with ids from 1 to 40 and 0 for none:

        train/rgb/0003.png    train/depth/0003.png    train/labels_40/0003.png    test/…
        train/depth_raw/0003.png   the sensor's own depth, which raw_depth takes

    In the first, the type of the scene is the label.
    """

    name = "NYU Depth V2"
    expected = "nyu_depth_v2_labeled.mat, or train/rgb/NAME.png and train/depth/NAME.png"
    aligned = frozenset({"image", "depth"})

    def __init__(self, options: NYUOptions) -> None:
        given = root_of(options, "nyuv2")
        mat = given if given.name == NYU_MAT else given / NYU_MAT
        self._contents: nyu_mat.Contents | None = None
        if mat.is_file():
            self._from_mat(mat, options)
        else:
            rows = _rows(given, options)
            notes = split_rows(rows, options, self.name)
            classes = NAMES_40 if any(row.mask for row in rows) else ()
            self._fill(given, rows, mask_classes=classes, notes=notes)

    def read(self, field: str, file: Path) -> Any:
        """Arrays of the .mat, or masks whose ids count from 1; other files as they are."""
        if self._contents is not None:
            return self._contents.view(field, int(file.name))
        return computed(file, "from one", partial(_mask, file)) if field == MASK else file

    def modality_options(self, modality: str) -> dict[str, str]:
        if modality != "depth":
            return {}
        return {"unit": "m" if self._contents is not None else "mm"}

    def _from_mat(self, mat: Path, options: NYUOptions) -> None:
        folder = mat.parent
        contents = nyu_mat.Contents(mat, folder / "classMapping40.mat", raw_depth=options.raw_depth)
        self._contents = contents
        rows, notes = contents.rows(folder / "splits.mat")
        notes += split_rows(rows, options, self.name, "scene")
        self._fill(folder, rows, mask_classes=NAMES_40 if contents.has_masks else (), notes=notes)


def _rows(root: Path, options: NYUOptions) -> list[Row]:
    depth = "depth_raw" if options.raw_depth else "depth"
    rows = []
    for split in ("train", "test"):
        if (root / split / "depth").is_dir() and not (root / split / depth).is_dir():
            hint = "Put the sensor's own depth there, or leave out data.raw_depth."
            raise DataError(f"{root / split / depth} is not there, and data.raw_depth asks for it.", hint)
        files = {name: _by_stem(root, f"{split}/{name}") for name in ("rgb", depth, "labels_40")}
        for stem in sorted(files["rgb"].keys() | files[depth].keys()):
            views = {"image": files["rgb"].get(stem), "depth": files[depth].get(stem)}
            there = {modality: file for modality, file in views.items() if file is not None}
            rows.append(Row(f"{split}/{stem}", there, mask=files["labels_40"].get(stem), split=split))
    return rows


def _by_stem(root: Path, folder: str) -> dict[str, str]:
    files = sorted((root / folder).glob("*")) if (root / folder).is_dir() else []
    return {file.stem: f"{folder}/{file.name}" for file in files if file.suffix.lower() in PICTURES}


def _mask(file: Path) -> bytes:
    with Image.open(file) as picture:
        labels: npt.NDArray[Any] = np.asarray(picture)
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.max() > len(NAMES_40):
        expected = "Expected grey pictures of ids from 0 to 40."
        raise DataError(f"{labels.dtype} of shape {labels.shape}, up to {labels.max()}", expected)
    return png(ids_from_one(labels))
