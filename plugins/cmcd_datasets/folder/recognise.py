"""Whether a path is a `folder` data set, told from a few listings."""

from __future__ import annotations

import os
from pathlib import Path

from .row import SPLITS, is_modality_folder
from .table import NAMES

_DEPTH = 3  # image/train/cup/1.jpg


def recognises(path: Path) -> bool:
    """It has metadata, or at least two modality folders with files, below split folders or not."""
    if any(os.path.isfile(path / name) for name in NAMES):
        return True
    tops = _folders(path)
    splits = [name for name in tops if name in SPLITS]
    if splits:
        return any(_modalities(path / name) > 1 for name in splits)
    return _modalities(path) > 1


def _modalities(path: Path) -> int:
    return sum(is_modality_folder(name) and _has_file(path / name, _DEPTH) for name in _folders(path))


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:
        return []


def _has_file(folder: Path, depth: int) -> bool:
    try:
        with os.scandir(folder) as entries:
            inside = []
            for entry in entries:
                if entry.is_file() and not entry.name.startswith("."):
                    return True
                inside.append(entry.name)
    except OSError:
        return False
    return depth > 1 and any(_has_file(folder / name, depth - 1) for name in inside)
