"""VGGSound (Chen et al. 2020): ten-second clips of 309 classes; a frame and the sound of each are a pair."""

from __future__ import annotations

import csv
from pathlib import Path

from cmcd_core import DataError

from .folder.row import Row, counted
from .known import PICTURES, SOUNDS, KnownLoader, split_rows
from .layouts import VGGSoundOptions
from .roots import root_of

_VIDEOS = (".mp4", ".mkv", ".webm", ".avi")
_FFMPEG = (
    "Videos are not read here. For each: ffmpeg -ss 5 -i ID.mp4 -frames:v 1 image/ID.jpg, and "
    "ffmpeg -i ID.mp4 -vn -ac 1 audio/ID.flac; ID is as in 0a1b2c3d4e5_000030.mp4."
)


class VGGSoundLoader(KnownLoader):
    """Expected (the data set itself is a list; clips are fetched by each user):

        vggsound.csv                      ID,START,LABEL,train|test   no header
        audio/ID_000030.flac              ID, and START in six digits
        image/ID_000030.jpg               a frame; or image/ID_000030/*.jpg, of which the middle one is taken

    audio/ and image/ may have folders in them, such as train/ and test/. Rows without any file are left out.
    """

    name = "VGGSound"
    expected = "audio/ID_000030.flac and image/ID_000030.jpg, ID and START as in vggsound.csv"

    def __init__(self, options: VGGSoundOptions) -> None:
        root = root_of(options, "vggsound")
        listed = _listed(root / "vggsound.csv")
        sounds, frames = _sounds(root), _frames(root)
        rows = []
        for clip, (video, label, split) in listed.items():
            files = {"image": frames.get(clip), "audio": sounds.get(clip)}
            if there := {name: file for name, file in files.items() if file is not None}:
                rows.append(Row(clip, there, label=label, split=split, group=video))
        if not rows:
            hint = _FFMPEG if _has_videos(root) else f"Expected {self.expected}."
            raise DataError(f"{root}: none of the {len(listed)} clips of vggsound.csv is in audio/ or image/.", hint)
        absent = len(listed) - len(rows)
        notes = [f"Left out: {counted(absent, 'clip')} of vggsound.csv that are not here."] if absent else []
        self._fill(root, rows, notes=[*notes, *split_rows(rows, options, self.name, "video")])


def _listed(file: Path) -> dict[str, tuple[str, str, str]]:
    """Clip -> video, label, split."""
    found: dict[str, tuple[str, str, str]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            for number, cells in enumerate(csv.reader(text), start=1):
                if len(cells) != 4 or not cells[1].isdigit() or cells[3] not in ("train", "test"):
                    expected = "expected ID,START,LABEL,train|test"
                    raise DataError(f"vggsound.csv, row {number}: {','.join(cells)!r}; {expected} ({file}).")
                found[f"{cells[0]}_{int(cells[1]):06d}"] = (cells[0], cells[2], cells[3])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
    return found


def _sounds(root: Path) -> dict[str, str]:
    files = sorted(file for file in (root / "audio").rglob("*") if file.suffix.lower() in SOUNDS)
    return {file.stem: file.relative_to(root).as_posix() for file in files}


def _frames(root: Path) -> dict[str, str]:
    """Clip -> its frame, or the middle one of its folder."""
    files = sorted(file for file in (root / "image").rglob("*") if file.suffix.lower() in PICTURES)
    found = {file.stem: file.relative_to(root).as_posix() for file in files}
    folders: dict[str, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent.name, []).append(file)
    for folder, inside in folders.items():
        found.setdefault(folder, inside[len(inside) // 2].relative_to(root).as_posix())
    return found


def _has_videos(root: Path) -> bool:
    return any(file.suffix.lower() in _VIDEOS for file in root.rglob("*"))
