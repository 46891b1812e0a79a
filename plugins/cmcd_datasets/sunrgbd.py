"""SUN RGB-D (Song et al. 2015): 10,335 pictures of indoor scenes from four depth sensors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cmcd_core import DataError

from .computed import computed, npy
from .folder.row import Row, counted
from .known import PICTURES, KnownLoader, lines_of, split_rows
from .layouts import SUN_SENSORS, SUNOptions
from .roots import root_of

SCENES = (
    "bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor", "dining_area", "dining_room",
    "discussion_area", "furniture_store", "home_office", "kitchen", "lab", "lecture_theatre", "library", "living_room",
    "office", "rest_space", "study_space",
)  # fmt: skip
"""The 19 scenes of the benchmark: those with more than 80 pictures."""
_SPLIT = ("SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat", "traintestSUNRGBD/allsplit.mat", "allsplit.mat")


class SUNLoader(KnownLoader):
    """Expected, in the folder or in SUNRGBD/:

        kv1/NYUdata/NYU0001/image/NYU0001.jpg      also kv2/, realsense/, xtion/, as deep as they are
        kv1/NYUdata/NYU0001/depth/NYU0001.png      16 bits, rotated left by three
        kv1/NYUdata/NYU0001/depth_bfx/NYU0001.png
        kv1/NYUdata/NYU0001/scene.txt

    SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat, in the folder or beside it, gives the official train and test;
    otherwise splits are made here. Masks (SUNRGBD2Dseg.mat) are not read.
    """

    name = "SUN RGB-D"
    expected = "kv2/…/image/NAME.jpg and kv2/…/depth/NAME.png, side by side"
    aligned = frozenset({"image", "depth"})

    def __init__(self, options: SUNOptions) -> None:
        given = root_of(options, "sunrgbd")
        root = given / "SUNRGBD" if (given / "SUNRGBD").is_dir() else given
        rows = [row for folder in _scene_folders(root) if (row := _row(root, folder, options))]
        split = next(
            (file for above in (given, given.parent) for name in _SPLIT if (file := above / name).is_file()), None
        )
        notes = _official(rows, split) if split else []
        self._fill(root, rows, notes=[*notes, *split_rows(rows, options, self.name, "recording")])

    def read(self, field: str, file: Path) -> Any:
        """Depth is turned back to millimetres; the rest is a file."""
        return computed(file, "rotated", partial(_millimetres, file)) if field == "depth" else file

    def modality_options(self, modality: str) -> dict[str, str]:
        return {"unit": "mm"} if modality == "depth" else {}


def unrotated(stored: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """What the files hold -> millimetres: 16 bits rotated right by three."""
    return (stored >> np.uint16(3)) | (stored << np.uint16(13))


def _millimetres(file: Path) -> bytes:
    with Image.open(file) as picture:
        stored = np.asarray(picture)
    if stored.ndim != 2 or stored.dtype.kind not in "ui" or stored.dtype.itemsize == 1 or stored.max() > 0xFFFF:
        raise DataError(f"{stored.dtype} of shape {stored.shape}", "Expected a 16-bit grey PNG, as SUN RGB-D has them.")
    return npy(unrotated(stored.astype(np.uint16)))


def _scene_folders(root: Path) -> list[Path]:
    """Every folder that holds image/, below a sensor's."""
    sensors = [root / sensor for sensor in SUN_SENSORS if (root / sensor).is_dir()]
    return sorted(image.parent for sensor in sensors for image in sensor.rglob("image") if image.is_dir())


def _row(root: Path, folder: Path, options: SUNOptions) -> Row | None:
    key = folder.relative_to(root).as_posix()
    files = {}
    for modality, name in (("image", "image"), ("depth", options.depth)):
        found = sorted(file for file in (folder / name).glob("*") if file.suffix.lower() in PICTURES)
        if found:
            files[modality] = found[0].relative_to(root).as_posix()
    if not files:
        return None
    scene = next(iter(lines_of(folder / "scene.txt")), None) if (folder / "scene.txt").is_file() else None
    label = scene if options.scenes == "all" or scene in SCENES else None
    return Row(key, files, label=label, group=folder.parent.relative_to(root).as_posix() if _is_video(key) else key)


def _is_video(key: str) -> bool:
    """SUN3D's frames lie below their recording: xtion/sun3ddata/PLACE/RECORDING/FRAME."""
    return "sun3ddata" in key.split("/")


def _official(rows: list[Row], file: Path) -> list[str]:
    """Write the official splits into the rows; what they do not name is left out."""
    from scipy.io import loadmat

    try:
        content = loadmat(file)
        listed = {
            _key(str(np.ravel(path)[0])): split
            for split in ("train", "test")
            for path in np.ravel(content[f"all{split}"])
        }
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise DataError(f"{file} cannot be read: {error}.", "Expected SUN RGB-D's alltrain and alltest.") from error
    for row in rows:
        row.split = listed.get(row.key)
    before = len(rows)
    rows[:] = [row for row in rows if row.split]
    if not rows:
        raise DataError(f"{file} names none of the {before} folders here.", "Are sensors' folders named as they were?")
    return (
        [f"Left out: {counted(before - len(rows), 'folder')} that {file.name} does not name."]
        if before > len(rows)
        else []
    )


def _key(path: str) -> str:
    """/n/fs/sun3d/data/SUNRGBD/kv2/…/ -> kv2/…"""
    return path.rpartition("SUNRGBD/")[2].strip("/")
