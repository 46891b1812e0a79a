"""Raw data to try a modality on, where nobody gave any; and raw data on their way to another process."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..interfaces.loader import Raw

SIDES = ((72, 96), (80, 80))
"""Height and width of the two pictures of each kind: native sizes differ."""
RATE = 16_000
Taken = Path | bytes | np.ndarray


def generated() -> Iterator[tuple[str, list[Taken]]]:
    """Two raw items of each kind there is, by what the kind is called: arrays first, then files' bytes."""
    arrays = list(_arrays())
    yield from ((name, list[Taken](items)) for name, items in arrays)
    for name, items in arrays:
        for suffix, files in _as_files(items):
            yield f"{name} as {suffix}", list[Taken](files)


def as_bytes(array: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """An array as each kind of file that can hold it, with the suffix of such files."""
    for suffix, (file,) in _as_files([array]):
        yield suffix, file


def _as_files(arrays: Sequence[np.ndarray]) -> Iterator[tuple[str, list[bytes]]]:
    """Suffix -> the arrays as such files; kinds that cannot hold them are passed over."""
    for suffix, write in ((".png", _png), (".npy", _npy), (".wav", _wav)):
        try:
            yield suffix, [write(array) for array in arrays]
        except (TypeError, ValueError, KeyError, OSError):
            continue


def taken(raw: Raw) -> Taken:
    """A view as ``Modality.decode`` gets it."""
    return raw() if callable(raw) else raw


def copies(raws: Sequence[Taken]) -> list[Taken]:
    """The same, unharmed by what happens to these."""
    return [raw.copy() if isinstance(raw, np.ndarray) else raw for raw in raws]


def equal(first: Sequence[Taken], second: Sequence[Taken]) -> bool:
    """Do they hold the same?"""
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else a == b
        for a, b in zip(first, second, strict=True)
    )


def written(raw: Taken, folder: Path, number: int) -> tuple[str, str]:
    """Kind and file of a raw item that another process can read."""
    if isinstance(raw, Path):
        return "path", str(raw.absolute())
    file = folder / f"raw-{number}.{'bin' if isinstance(raw, bytes) else 'npy'}"
    if isinstance(raw, bytes):
        file.write_bytes(raw)
        return "bytes", str(file)
    np.save(file, raw)
    return "array", str(file)


def read_back(kind: str, file: str) -> Taken:
    """The raw item that :func:`written` put there."""
    if kind == "path":
        return Path(file)
    if kind == "bytes":
        return Path(file).read_bytes()
    array: np.ndarray = np.load(file)
    return array


def _arrays() -> Iterator[tuple[str, list[np.ndarray]]]:
    smooth = [_smooth(*side) for side in SIDES]

    def each(make: Any) -> list[np.ndarray]:
        return [_read_only(make(values)) for values in smooth]

    yield "uint8 (H, W, 3)", each(lambda s: (np.stack([s, s[::-1], 1 - s], axis=2) * 255).astype(np.uint8))
    yield "uint16 (H, W)", each(lambda s: (500 + s * 4000).astype(np.uint16))
    yield "float32 (H, W)", each(lambda s: s.astype(np.float32))
    yield "uint8 (H, W)", each(lambda s: (s * 255).astype(np.uint8))
    yield "a drawing, uint8 (H, W)", [_read_only(_drawing(*side)) for side in SIDES]
    yield "float32 (samples,)", [_read_only(_tone(seconds)) for seconds in (1.0, 1.5)]
    yield "float32 (time, 6)", [_read_only(_tone(0.02 * n).reshape(-1, 1).repeat(6, axis=1)) for n in (1, 2)]
    yield "float32 (H, W, 8)", each(lambda s: np.stack([s**power for power in range(1, 9)], axis=2).astype(np.float32))
    yield "float32 (points, 3)", each(lambda s: np.stack([s.ravel(), s.T.ravel(), 1 - s.ravel()], axis=1)[:2048])


def _smooth(height: int, width: int) -> np.ndarray:
    """Waves with some noise, in [0, 1]."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng([height, width]).uniform(0, 0.1, (height, width))
    waves: np.ndarray = 0.45 + 0.45 * np.sin(x / 9) * np.cos(y / 7) + noise
    return waves.clip(0, 1)


def _drawing(height: int, width: int) -> np.ndarray:
    """A black ring on white paper."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return np.where(abs(distance - height / 3) < 1.5, 0, 255).astype(np.uint8)


def _tone(seconds: float) -> np.ndarray:
    """A tone that rises and fades."""
    time = np.arange(int(RATE * seconds)) / RATE
    return (0.5 * np.sin(2 * np.pi * (220 + 400 * time) * time) * np.exp(-time)).astype(np.float32)


def _read_only(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array)
    array.flags.writeable = False  # as memory-mapped data are
    return array


def _png(array: np.ndarray) -> bytes:
    from PIL import Image

    if array.dtype not in (np.uint8, np.uint16):
        raise TypeError(array.dtype)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _wav(array: np.ndarray) -> bytes:
    if array.ndim != 1:
        raise ValueError(array.shape)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((array * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
