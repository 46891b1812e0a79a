"""Sound files, their bytes and arrays -> one channel of samples and their rate."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile

from cmcd_core import DataError

EXPECTED = "Expected a sound file: WAV, FLAC, OGG, MP3 or AIFF. Convert others: ffmpeg -i IN OUT.flac"
WHOLE = "Copy it again. If it plays to its end, write it anew: ffmpeg -i IN OUT.flac"
SLOWEST, FASTEST = 1_000, 768_000
"""Samples a second; beyond these a header is damaged."""
MOST_CHANNELS = 64
_CUT_SHORT = re.compile(r"\b(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)")
_UNKNOWN_LENGTHS = (0, 2**31 - 1, 2**32 - 1)
"""Sizes that programs write into a WAV header when they stream it: they do not say that anything is missing."""

Loudness = Callable[[np.ndarray, int], float]


def read_file(raw: Path | bytes, part: str, most_seconds: float, loudness: Loudness) -> tuple[np.ndarray, int]:
    """(samples,) float32 of a whole file, or of ``most_seconds`` of a longer one, and the rate.

    Args:
        part: Which part of a longer file: "start", "centre", or "loudest", the block of greatest ``loudness``.

    Raises:
        DataError: Empty, no sound, truncated, or an impossible rate.
    """
    if not (len(raw) if isinstance(raw, bytes) else Path(raw).stat().st_size):
        raise DataError("the file is empty (0 bytes)", EXPECTED)
    try:
        with soundfile.SoundFile(BytesIO(raw) if isinstance(raw, bytes) else str(raw)) as file:
            _check_header(file)
            return _part(file, part, most_seconds, loudness), file.samplerate
    except DataError:
        raise
    except soundfile.LibsndfileError as error:
        raise DataError(f"not a sound file, or a damaged one: {error.error_string}", EXPECTED) from error
    except Exception as error:  # soundfile also raises TypeError, RuntimeError …
        raise DataError(f"the sound cannot be read: {error}", EXPECTED) from error


def from_array(array: np.ndarray) -> np.ndarray:
    """(samples,), (samples, channels) or (channels, samples), integer or float -> (samples,) float32.

    Integers are divided by their full scale; unsigned ones are centred, as in 8-bit WAV files.

    Raises:
        DataError: Another shape or type, or no samples.
    """
    if array.dtype.kind not in "uif":
        raise DataError(f"values of type {array.dtype} are no sound", "Expected integers or floats.")
    if array.ndim not in (1, 2) or (array.ndim == 2 and min(array.shape) > MOST_CHANNELS):
        raise DataError(f"shape {array.shape} is not that of a sound", "Expected (samples,) or (samples, channels).")
    if array.size == 0:
        raise DataError("the array holds no samples", "Leave this sample out.")
    if array.ndim == 2:
        array = array if array.shape[1] <= array.shape[0] else array.T
    values = array.reshape(len(array), -1).astype(np.float64)
    if array.dtype.kind in "ui":
        scale = 2.0 ** (8 * array.dtype.itemsize - 1)
        values = (values - scale if array.dtype.kind == "u" else values) / scale
    return _mono(values)


def _check_header(file: soundfile.SoundFile) -> None:
    if not SLOWEST <= file.samplerate <= FASTEST:
        raise DataError(f"a rate of {file.samplerate} samples a second is impossible", "Its header is damaged.")
    cut = _CUT_SHORT.search(file.extra_info)
    if cut and int(cut[1]) > int(cut[2]) and int(cut[1]) not in _UNKNOWN_LENGTHS:
        raise DataError(f"the file is truncated: {cut[2]} of {cut[1]} bytes of sound are there", WHOLE)
    if file.frames == 0:
        raise DataError("the file holds no samples", "Leave this sample out.")


def _part(file: soundfile.SoundFile, part: str, most_seconds: float, loudness: Loudness) -> np.ndarray:
    most = round(most_seconds * file.samplerate)
    if file.frames <= most:
        return _read(file, file.frames)
    if part == "loudest":
        blocks = file.blocks(most, overlap=most // 2, dtype="float32", always_2d=True)
        return max((_mono(block) for block in blocks), key=lambda block: loudness(block, file.samplerate))
    file.seek((file.frames - most) // 2 if part == "centre" else 0)
    return _read(file, most)


def _read(file: soundfile.SoundFile, count: int) -> np.ndarray:
    samples = file.read(count, dtype="float32", always_2d=True)
    if len(samples) < count:
        raise DataError(f"the file is truncated: {len(samples)} of {count} samples can be read", WHOLE)
    return _mono(samples)


def _mono(samples: np.ndarray) -> np.ndarray:
    mixed: np.ndarray = samples.mean(axis=1, dtype=np.float64)
    return mixed.astype(np.float32)
