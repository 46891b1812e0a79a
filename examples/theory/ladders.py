"""Rungs of a ladder: the same real pairs, with less and less that both modalities share.

`blur`, `quantise` and `drop` spoil the target's files in every split; `shuffle` gives a share of the training pairs
another pair's target; `pairs` leaves only so many training pairs. `clean` is the data as they are.
"""

from __future__ import annotations

import csv
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d

Numbers = NDArray[Any]
LEVELS: dict[str, dict[str, tuple[float, ...]]] = {
    "depth": {"blur": (0.06, 0.25), "quantise": (0.1, 0.3), "drop": (0.9, 0.98)},
    "audio": {"blur": (2.0, 8.0), "quantise": (0.3, 1.0), "drop": (0.7, 0.98)},
}
"""Blur: standard deviation, of depth as a share of the picture's side, of sound in samples. Quantise: step, as a share
of 0.7 m, or of the loudest sample. Drop: share of the pixels, or of the samples, that are lost."""
SHUFFLED = (0.5, 1.0)
"""Share of the training pairs that are broken."""
DEPTH_RANGE = 700.0
"""Millimetres that are looked at."""


def levels(ladder: str, modality: str) -> tuple[float, ...]:
    """A ladder's rungs above 0."""
    return SHUFFLED if ladder == "shuffle" else LEVELS[modality][ladder]


def spoilt_depth(ladder: str, level: float, mm: Numbers, generator: np.random.Generator) -> Numbers:
    """(H, W) uint16 millimetres, 0 = missing -> the same, spoilt."""
    seen = mm > 0
    if ladder == "drop":
        return np.where(generator.random(mm.shape) < level, 0, mm).astype(np.uint16)
    if ladder == "quantise":
        step = level * DEPTH_RANGE
        return np.where(seen, np.maximum(1, np.round(mm / step) * step), 0).astype(np.uint16)
    # What is far behind would outshine the rest: it is drawn up first, as an encoder with a near and a far end sees it.
    mm = np.minimum(mm, np.percentile(mm[seen], 5) + DEPTH_RANGE) if seen.any() else mm
    sigma = level * max(mm.shape)
    share = gaussian_filter(seen.astype(np.float64), sigma)
    blurred = gaussian_filter(mm.astype(np.float64), sigma) / np.maximum(share, 1e-6)
    return np.where(share > 0.5, blurred, 0).round().astype(np.uint16)


def spoilt_sound(ladder: str, level: float, samples: Numbers, generator: np.random.Generator) -> Numbers:
    """(n,) samples -> the same, spoilt; never all silent."""
    peak = float(np.abs(samples).max()) or 1.0
    if ladder == "drop":
        kept = generator.random(len(samples)) >= level
        kept[np.abs(samples).argmax()] = True
        return np.asarray(samples * kept)
    if ladder == "quantise":
        return np.round(samples / peak / level) * level * peak
    return np.asarray(gaussian_filter1d(samples, level))


def _spoil_depth(ladder: str, level: float, at: Path, to: Path, generator: np.random.Generator) -> None:
    with Image.open(at) as picture:
        mm = np.asarray(picture).astype(np.uint16)
    Image.fromarray(spoilt_depth(ladder, level, mm, generator)).save(to)


def _spoil_sound(ladder: str, level: float, at: Path, to: Path, generator: np.random.Generator) -> None:
    import soundfile

    samples, rate = soundfile.read(at)
    soundfile.write(to, spoilt_sound(ladder, level, samples, generator), rate)


SPOIL: dict[str, Callable[[str, float, Path, Path, np.random.Generator], None]] = {
    "depth": _spoil_depth,
    "audio": _spoil_sound,
}


@dataclass(frozen=True)
class Pairs:
    """A data set in the `folder` layout.

    Attributes:
        root: Its folder.
        target: The modality to teach.
        most: Rows of a split that are used, evenly spread; None: all.
    """

    root: Path
    target: str
    most: int | None = None

    def rows(self) -> list[dict[str, str]]:
        """The rows of its table that are used."""
        with (self.root / "metadata.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        column = f"{self.target}_file_name"
        used: list[dict[str, str]] = []
        for split in ("train", "val", "test"):
            part = [row for row in rows if row["split"] == split and row[column] and row["image_file_name"]]
            at = np.linspace(0, len(part) - 1, min(len(part), self.most or len(part))).round().astype(int)
            used += [part[index] for index in at]
        return used


def write_rung(pairs: Pairs, ladder: str, level: float, to: Path, seed: int = 0) -> Path:
    """A folder with that rung's pairs; only what is spoilt is written, the rest is named where it lies.

    `labels/` in it has the targets with their labels alone.
    """
    if (to / "metadata.csv").exists():
        return to
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    column, rows = f"{pairs.target}_file_name", pairs.rows()
    generator = np.random.default_rng([seed, 0x1ADD])
    spoils = level > 0 and ladder in LEVELS.get(pairs.target, {})
    for row in rows:
        source, target = pairs.root / row["image_file_name"], pairs.root / row[column]
        row["image_file_name"] = str(source.resolve())
        if spoils:
            place = _place(target, pairs.root)
            (partial / place).parent.mkdir(parents=True, exist_ok=True)
            SPOIL[pairs.target](ladder, level, target, partial / place, generator)
            row[column] = place.as_posix()
        else:
            row[column] = str(target.resolve())
    train = [row for row in rows if row["split"] == "train"]
    if ladder == "shuffle":
        _break(train, column, level, generator)
    if ladder == "pairs" and level:
        kept = generator.permutation(len(train))[: int(level)]
        rows = [train[index] for index in sorted(kept)] + [row for row in rows if row["split"] != "train"]
    _write_table(pairs.root, rows, ["image_file_name", column], partial)
    for row in rows:
        row[column] = str((to / row[column]).resolve())
    _write_table(pairs.root, rows, [column], partial / "labels")
    partial.rename(to)
    return to


def _place(file: Path, root: Path) -> Path:
    """A relative path of its own for each file: the one below the data set's folder, else the one on the disk."""
    file, root = file.resolve(), root.resolve()
    return file.relative_to(root if file.is_relative_to(root) else file.anchor)


def _write_table(root: Path, rows: list[dict[str, str]], columns: list[str], to: Path) -> None:
    to.mkdir(exist_ok=True)
    with (to / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "split", "label", *columns], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    shutil.copy(root / "classes.txt", to / "classes.txt")
    about = (root / "dataset.toml").read_text(encoding="utf-8").splitlines(keepends=True)
    if len(columns) == 1:  # nothing is there to be aligned with
        about = [line for line in about if not line.startswith("aligned")]
    (to / "dataset.toml").write_text("".join(about), encoding="utf-8")


def _break(train: list[dict[str, str]], column: str, share: float, generator: np.random.Generator) -> None:
    """Hand targets on along one cycle, so that nobody in it keeps its own."""
    chosen = generator.permutation(len(train))[: round(share * len(train))]
    given = [train[index][column] for index in np.roll(chosen, 1)]
    for index, name in zip(chosen, given, strict=True):
        train[index][column] = name


def name_of(root: Path) -> str:
    """What the data set calls itself."""
    with (root / "dataset.toml").open("rb") as file:
        return str(tomllib.load(file).get("name", root.name))
