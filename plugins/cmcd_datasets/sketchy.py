"""The Sketchy database (Sangkloy et al. 2016): 12,500 photos of 125 classes, about six sketches of each."""

from __future__ import annotations

from pathlib import Path

from cmcd_core import ConfigError, DataError

from .folder.row import Row, counted
from .known import PICTURES, KnownLoader, files_by_class, lines_of, split_rows
from .layouts import SketchyOptions, sketchy_root
from .roots import root_of


class SketchyLoader(KnownLoader):
    """Expected, in the folder, in 256x256/ or in rendered_256x256/256x256/:

        photo/tx_000000000000/airplane/n02691156_10151.jpg
        sketch/tx_000000000000/airplane/n02691156_10151-1.png

    A sketch's name is its photo's, with "-" and a number. Where info/testset.txt (or testset.txt) is there, in the
    folder or beside 256x256/, its photos are test; otherwise splits are made here, photo by photo.
    """

    name = "Sketchy"
    expected = "photo/tx_…/CLASS/NAME.jpg and sketch/tx_…/CLASS/NAME-1.png"

    def __init__(self, options: SketchyOptions) -> None:
        given = root_of(options, "sketchy")
        root = sketchy_root(given)
        if root is None:
            raise DataError(f"{given} holds no photo/tx_… and sketch/tx_… folders.", f"Expected {self.expected}.")
        rows, notes = _rows(root, options, _dropped(given, options))
        tested = _listed(given, "testset.txt")
        for row in rows:
            row.split = None if tested is None else "test" if _photo_stem(row) in tested else "train"
        notes += split_rows(rows, options, self.name)
        self._fill(root, rows, notes=notes)


def _rows(root: Path, options: SketchyOptions, dropped: set[str]) -> tuple[list[Row], list[str]]:
    photos = {file.stem: (label, file) for label, file in files_by_class(root / "photo" / options.photo, PICTURES)}
    rows, used, orphans = [], set(), 0
    for label, sketch in files_by_class(root / "sketch" / options.sketch, PICTURES):
        stem = sketch.stem.rpartition("-")[0]
        if sketch.stem in dropped:
            continue
        files = {"sketch": sketch.relative_to(root).as_posix()}
        if stem in photos:
            files = {"image": photos[stem][1].relative_to(root).as_posix(), **files}
            used.add(stem)
        else:
            orphans += 1
        rows.append(Row(f"{label}/{sketch.stem}", files, label=label))
    for stem, (label, photo) in photos.items():
        if stem not in used:
            rows.append(Row(f"{label}/{stem}", {"image": photo.relative_to(root).as_posix()}, label=label))
    notes = [f"No photo is here for {counted(orphans, 'row')} of sketches."] if orphans else []
    return rows, notes


def _photo_stem(row: Row) -> str:
    return Path(row.files["image"]).stem if "image" in row.files else Path(row.files["sketch"]).stem.rpartition("-")[0]


def _dropped(given: Path, options: SketchyOptions) -> set[str]:
    found: set[str] = set()
    for reason in options.drop:
        listed = _listed(given, f"invalid-{reason}.txt")
        if listed is None:
            raise ConfigError(f"data.drop: info/invalid-{reason}.txt is not there.", f"Put it below {given}.")
        found |= listed
    return found


def _listed(given: Path, name: str) -> set[str] | None:
    """The stems of the files that a list of the database's info folder names; None where it is not there."""
    for above in (given, given.parent, given.parent.parent):
        for folder in (above / "info", above / "info-06-04" / "info", above):
            if (folder / name).is_file():
                return {Path(line.replace("\\", "/")).name.partition(".")[0] for line in lines_of(folder / name)}
    return None
