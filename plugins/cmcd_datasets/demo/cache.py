"""Rendering a split once, and finding it again on disk.

A split lies in one folder of plain .npy files, memory-mapped on use. The folder's name is a digest of
everything that decides its bytes; it appears by a single rename, so that a killed or a racing process never
leaves half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import modalities, sound
from .render import SIZE, render
from .scenes import SceneBatch, sample_scene

GENERATOR_VERSION = 8  # raise it with every change of the pictures: it is part of the cache's key
CHUNK = 8  # scenes rendered together: their buffers stay in the processor's cache
STALE = 3600.0  # seconds after which a temporary folder belongs to a dead process

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the bytes of a rendered split."""

    seed: int
    split: str
    count: int
    noise: float

    @property
    def digest(self) -> str:
        text = json.dumps([GENERATOR_VERSION, self.seed, self.split, self.count, float(self.noise)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _layout(count: int) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    return {
        "image": ((count, SIZE, SIZE, 3), np.uint8),
        "depth": ((count, SIZE, SIZE), np.uint16),
        "sketch": ((count, SIZE, SIZE), np.uint8),
        "audio": ((count, modalities.SAMPLES), np.int16),
        "label": ((count,), np.uint8),
        "mask": ((count, SIZE, SIZE), np.uint8),
    }


def render_scenes(seed: int, split: str, indices: range, noise: float) -> dict[str, Array]:
    """Image, depth, sketch, audio, label and mask of some scenes, a row a scene."""
    batch = SceneBatch.of([sample_scene(seed, split, index) for index in indices])
    draws = modalities.Draws.of(seed, split, indices)
    buffers = render(batch)
    return {
        "image": modalities.image(batch, buffers, draws),
        "depth": modalities.depth(buffers, draws, noise),
        "sketch": modalities.sketch(buffers, draws, noise),
        "audio": sound.strike(batch, draws, noise),
        "label": np.array([scene.label for scene in batch.scenes], dtype=np.uint8),
        "mask": modalities.mask(batch, buffers),
    }


def _workers() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def render_split(recipe: Recipe, folder: Path, chunk: int = CHUNK) -> None:
    """Render into .npy files in an existing folder; numpy lets go of the GIL, so threads share the work."""
    arrays = {name: _blank(folder / f"{name}.npy", *layout) for name, layout in _layout(recipe.count).items()}

    def work(start: int) -> None:
        indices = range(start, min(start + chunk, recipe.count))
        for name, rows in render_scenes(recipe.seed, recipe.split, indices, recipe.noise).items():
            arrays[name][indices.start : indices.stop] = rows

    with ThreadPoolExecutor(_workers()) as pool:
        for _ in pool.map(work, range(0, recipe.count, chunk)):
            pass
    for array in arrays.values():
        array.flush()


def _blank(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.memmap[Any, np.dtype[Any]]:
    """Zeros in a file, mapped. They are written, not left as a hole: a mapped hole that finds the disk full later kills
    the process by a signal."""
    np.save(path, np.zeros(shape, dtype))
    return np.lib.format.open_memmap(path, mode="r+")


def _open(folder: Path, count: int) -> dict[str, Array] | None:
    """The arrays of a rendered split; None where one is missing, cut short or of another shape."""
    arrays: dict[str, Array] = {}
    try:
        for name, (shape, dtype) in _layout(count).items():
            array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if array.shape != shape or array.dtype != dtype:
                return None
            arrays[name] = array
    except (OSError, ValueError, EOFError):
        return None
    return arrays


def _sweep(parent: Path) -> None:
    """Remove what killed processes left behind."""
    for leftover in parent.glob(".partial-*"):
        try:
            if time.time() - leftover.stat().st_mtime > STALE:
                shutil.rmtree(leftover, ignore_errors=True)
        except OSError:
            continue


def rendered(recipe: Recipe, parent: Path) -> Mapping[str, Array]:
    """The arrays of a split (see `render_scenes`), memory-mapped and read-only.

    They are rendered into `parent` at the first call, and again where the cache is damaged.
    """
    if recipe.count == 0:  # an empty file cannot be memory-mapped
        return {name: np.zeros(shape, dtype) for name, (shape, dtype) in _layout(0).items()}
    final = parent / f"{recipe.split}-{recipe.digest}"
    arrays = _open(final, recipe.count)
    if arrays is not None:
        return arrays
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    fresh = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
    try:
        render_split(recipe, fresh)
        for _ in range(8):
            try:
                fresh.rename(final)  # refused where a non-empty folder is in the way
            except OSError:
                arrays = _open(final, recipe.count)
                if arrays is not None:  # another process was first: the same bytes
                    return arrays
                _set_aside(final, parent)
                continue
            arrays = _open(final, recipe.count)
            if arrays is not None:
                return arrays
        raise OSError(f"the demo data could not be written to {final}")
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _set_aside(damaged: Path, parent: Path) -> None:
    """Take a damaged folder out of the way; by a rename first, since another process may do the same."""
    away = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
    try:
        damaged.rename(away / "damaged")
    except OSError:
        if damaged.is_file():
            damaged.unlink(missing_ok=True)
    finally:
        shutil.rmtree(away, ignore_errors=True)
