"""The layout without metadata: one folder a modality, found and walked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cmcd_core import DataError

from .row import MASK, SPLIT_ALIASES, SPLITS, is_modality_folder, is_split_folder, listing, split_meant

LAYOUTS = (
    "Expected metadata.csv (columns such as image_file_name, depth_file_name), or one folder a modality with files of "
    "the same names: image/0001.jpg and depth/0001.png; class and train/val/test folders are understood."
)
_NO_DATA = re.compile(r"(readme|licen[cs]e)(\.(md|txt|rst))?|thumbs\.db|desktop\.ini", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class File:
    """One file of one modality.

    Attributes:
        modality: Its folder.
        split: The split folder above or below that, if any.
        place: Path below both, without suffix: what files are paired by.
        path: Path below the data set's folder.
    """

    modality: str
    split: str | None
    place: str
    path: str

    @property
    def stem(self) -> str:
        return self.place.rpartition("/")[2]

    @property
    def folder(self) -> str | None:
        """The class folder, where it lies in one."""
        return self.place.split("/", 1)[0] if "/" in self.place else None


def find_files(root: Path) -> tuple[list[File], list[str]]:
    """All files of all modalities (masks too), in a fixed order, and notes about what was passed over."""
    tops = subfolders(root)
    files, ignored = _below_splits(root, tops)
    if not files:
        files, ignored = _modality_folders(root, tops, "")
        files = _splits_inside(files)
    if not files:
        found = f" (its subfolders: {listing(tops)})" if tops else ""
        raise DataError(f"{root} holds no data{found}.", _rename(ignored) + LAYOUTS)
    return files, [f"Folders that are no modality were passed over: {listing(ignored)}."] if ignored else []


def subfolders(folder: Path) -> list[str]:
    """Names of the subfolders that are not hidden, sorted; links are followed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not e.name.startswith((".", "__")) and e.is_dir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from error


def _below_splits(root: Path, tops: list[str]) -> tuple[list[File], list[str]]:
    """root/train/image/…: split folders that hold the modality folders. No files where that is not the layout."""
    files: list[File] = []
    ignored = [name for name in tops if not is_split_folder(name)]
    for split in filter(is_split_folder, tops):
        found, passed = _modality_folders(root, subfolders(root / split), f"{split}/")
        if found and split not in SPLITS:
            raise _misnamed_split(root / split)
        files += [File(f.modality, split, f.place, f.path) for f in found]
        ignored += [f"{split}/{folder}" for folder in passed]
    return files, ignored


def _modality_folders(root: Path, names: list[str], above: str) -> tuple[list[File], list[str]]:
    files: list[File] = []
    ignored = []
    for name in names:
        if name != MASK and not is_modality_folder(name):
            ignored.append(name)
            continue
        for place in walk(root / above / name):
            files.append(File(name, None, os.path.splitext(place)[0], f"{above}{name}/{place}"))
    return files, ignored


def _splits_inside(files: list[File]) -> list[File]:
    """root/image/train/…, told from classes by this: all first folders are splits ("train" is a vehicle too)."""
    first = {folder for f in files if (folder := f.folder)}
    if not first or not all(map(is_split_folder, first)):
        return files
    moved = []
    for f in files:
        split, _, place = f.place.partition("/")
        if split not in SPLITS:
            hint = "Where some files lie in train/val/test folders, all of them must."
            if split in SPLIT_ALIASES and place:
                raise _misnamed_split(Path(f.path.split("/")[0]) / split)
            raise DataError(f"{f.path} lies in no train, val or test folder, unlike other files here.", hint)
        moved.append(File(f.modality, split, place, f.path))
    return moved


def walk(folder: Path) -> Iterator[str]:
    """Paths of the files below, with '/', sorted; hidden files and the like are no data. Links are followed."""
    yield from _walk(str(folder), "", frozenset())


def _walk(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    here = os.stat(folder)
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        return  # a link to a folder above: nothing new
    try:
        with os.scandir(folder) as entries:
            listed = sorted((e.name, e.is_dir(), e.is_file()) for e in entries if not e.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from error
    for name, is_folder, is_file in listed:
        if is_folder:
            yield from _walk(os.path.join(folder, name), f"{prefix}{name}/", above | {identity})
        elif is_file and not _NO_DATA.fullmatch(name):
            yield prefix + name


def _misnamed_split(folder: Path) -> DataError:
    meant = split_meant(folder.name)
    return DataError(f"{folder}: split folders are named train, val and test.", f"{meant}Rename the folder.")


def _rename(ignored: list[str]) -> str:
    return f"Folder names are small letters, digits and _: rename {listing(ignored)}. " if ignored else ""
