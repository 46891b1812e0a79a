"""The file of NYU Depth V2: arrays that MATLAB wrote into HDF5, so that the last index comes first."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cmcd_core import ConfigError, DataError

from .computed import Computed, computed, ids_from_one, npy, png, ppm
from .folder.row import MASK, Row

_INSTALL = "pip install 'cmcd[hdf5]'"


class Contents:
    """What the file holds; it is opened for each view, so that threads share no handle.

    Attributes:
        has_masks: classMapping40.mat is there.
    """

    def __init__(self, file: Path, mapping: Path, *, raw_depth: bool) -> None:
        self._file = file
        self._depths = "rawDepths" if raw_depth else "depths"
        self._to_40 = _mapping(mapping) if mapping.is_file() else None
        self._mapped_by = "" if self._to_40 is None else blake2b(self._to_40.tobytes(), digest_size=16).hexdigest()
        self.has_masks = self._to_40 is not None

    def rows(self, splits: Path) -> tuple[list[Row], list[str]]:
        """A row a picture, and sentences for the user."""
        with _opened(self._file, "images", self._depths, "labels") as content:
            count = len(content["images"])
            scenes, types = (_texts(content, name, count) for name in ("scenes", "sceneTypes"))
        official = _official(splits, count) if splits.is_file() else [None] * count
        rows = [
            Row(
                f"{number + 1:04d}",
                {"image": f"image/{number}", "depth": f"depth/{number}"},
                mask=f"mask/{number}" if self.has_masks else None,
                label=types[number],
                split=official[number],
                group=None if scenes[number] is None else re.sub(r"_\d+[a-z]?$", "", str(scenes[number])),
            )
            for number in range(count)
        ]
        notes = [] if self.has_masks else ["No classMapping40.mat is here, so there are no masks."]
        return rows, notes

    def view(self, field: str, number: int) -> Computed:
        """One picture's image (a picture), depth (.npy in metres) or mask (a picture), made when called."""
        made: dict[str, tuple[str, Callable[[], bytes]]] = {
            "image": ("", partial(_image, self._file, number)),
            "depth": (self._depths, partial(_depth, self._file, number, self._depths)),
            MASK: (self._mapped_by, partial(_mask, self._file, number, self._to_40)),
        }
        how, make = made[field]
        return computed(self._file, f"{field} {how} {number}", make)


def _opened(file: Path, *names: str) -> Any:
    """The file, with arrays of these names in it."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(f"{file.name} is an HDF5 file, and h5py is not installed.", _INSTALL) from error
    try:
        content = h5py.File(file, "r")
    except OSError as error:
        raise DataError(f"{file} cannot be read as HDF5: {error}.", "Fetch it again.") from error
    missing = [name for name in names if name not in content]
    if missing:
        content.close()
        raise DataError(f"{file} has no {missing[0]}; expected {', '.join(names)}.", "Is it the labelled file?")
    return content


def _array(file: Path, name: str, number: int) -> npt.NDArray[Any]:
    with _opened(file, name) as content:
        array: npt.NDArray[Any] = content[name][number]
    return array


def _image(file: Path, number: int) -> bytes:
    return ppm(_array(file, "images", number).transpose(2, 1, 0))  # (3, W, H) -> (H, W, 3)


def _depth(file: Path, number: int, name: str) -> bytes:
    return npy(_array(file, name, number).T.astype(np.float32))


def _mask(file: Path, number: int, to_40: npt.NDArray[np.uint8] | None) -> bytes:
    assert to_40 is not None
    return png(ids_from_one(to_40[_array(file, "labels", number).T]))


def _texts(content: Any, name: str, count: int) -> list[str | None]:
    """A cell array of texts: references to arrays of characters; None throughout where there is none."""
    if name not in content:
        return [None] * count
    references = np.ravel(content[name])
    return ["".join(map(chr, np.ravel(content[reference]))) for reference in references]


def _official(file: Path, count: int) -> list[str | None]:
    content = _loaded(file, ("trainNdxs", "testNdxs"))
    splits: list[str | None] = [None] * count
    for split in ("train", "test"):
        for number in np.ravel(content[f"{split}Ndxs"]).astype(int):
            if not 1 <= number <= count:
                raise DataError(f"{file}: {split}Ndxs holds {number}, but there are {count} pictures.")
            splits[number - 1] = split
    return splits


def _mapping(file: Path) -> npt.NDArray[np.uint8]:
    """(895) class of 894 -> class of 40, both from 1 on; 0 stays 0."""
    return np.concatenate([[0], np.ravel(_loaded(file, ("mapClass",))["mapClass"])]).astype(np.uint8)


def _loaded(file: Path, names: tuple[str, ...]) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(file)
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise DataError(f"{file} cannot be read: {error}.", "Fetch it again.") from error
    if missing := [name for name in names if name not in content]:
        raise DataError(f"{file} has no {missing[0]}.", "Is it the file of this data set?")
    return content
