"""Which part of a sound is heard: trimming, too long, too short, and files too long to be read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from cmcd_audio import AudioOptions, build, mel

from cmcd_core import DataError

RATE = 16000


def decode(raw: Path | np.ndarray, **options: object) -> np.ndarray:
    array: np.ndarray = build(AudioOptions(**options)).decode(raw)[0].numpy()
    return array


def burst(at: float, seconds: float, length: float = 0.2) -> np.ndarray:
    """A loud tone at ``at`` seconds in hiss."""
    out = 0.002 * np.random.default_rng(0).normal(size=round(seconds * RATE))
    start, count = round(at * RATE), round(length * RATE)
    out[start : start + count] += np.sin(2 * np.pi * 1000 * np.arange(count) / RATE)
    return out


def loud_columns(out: np.ndarray) -> np.ndarray:
    return np.flatnonzero(out.max(axis=0) > -20)


def test_long_sounds() -> None:
    middle = loud_columns(decode(burst(3.3, 5), long="loudest")).mean()
    assert middle == pytest.approx(50, abs=3), "what is loud lies in the middle"
    centre = loud_columns(decode(burst(2.2, 5), long="centre", trim=0))
    assert centre.mean() == pytest.approx(30, abs=2)
    start = loud_columns(decode(burst(0.6, 5), long="start", trim=0))
    assert start.mean() == pytest.approx(70, abs=2)


def test_short_sounds() -> None:
    short = burst(0, 0.2)
    padded, tiled = decode(short), decode(short, short="tile")
    assert loud_columns(padded).min() >= 38
    assert loud_columns(padded).max() <= 61
    assert (padded[:, :30] == padded.min()).all()
    assert len(loud_columns(tiled)) == 100
    for count in (1, 2, 50):
        for policy in ("pad", "tile"):
            assert np.isfinite(
                decode(np.linspace(-1, 1, count) if count > 1 else np.array([0.0, 0.5]), short=policy)
            ).all()


def test_trim() -> None:
    late = burst(0.8, 1.0)
    assert loud_columns(decode(late, trim=0)).mean() == pytest.approx(90, abs=2)
    assert loud_columns(decode(late)).mean() == pytest.approx(50, abs=3)
    assert np.allclose(decode(late, trim=80), decode(late, trim=0)), "the hiss is louder than this"


class Counting(soundfile.SoundFile):
    """Counts the samples read."""

    total = 0

    def read(self, frames: int = -1, *args: object, **more: object) -> np.ndarray:
        out = super().read(frames, *args, **more)
        Counting.total += len(out)
        return out


def test_long_files_are_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 minutes with a tone of 440 Hz at the start, 1 kHz in the middle, and a loud one of 3 kHz near the end."""
    rate, minutes = 8000, 20
    samples = np.full(rate * 60 * minutes, 0, np.int16)
    samples[::7] = 20
    for at, frequency, loud in ((0, 440, 8000), (minutes * 30, 1000, 8000), (minutes * 60 - 100, 3000, 16000)):
        start = round(at * rate)
        samples[start : start + rate] = loud * np.sin(2 * np.pi * frequency * np.arange(rate) / rate)
    path = tmp_path / "long.wav"
    soundfile.write(path, samples, rate)
    monkeypatch.setattr(soundfile, "SoundFile", Counting)
    low, high = mel(50), mel(8000)
    for part, frequency in (("start", 440), ("centre", 1000), ("loudest", 3000)):
        Counting.total = 0
        band = int(decode(path, long=part).max(axis=1).argmax())
        assert abs((mel(frequency) - low) / (high - low) * 65 - 1 - band) < 1.5, part
        assert part == "loudest" or Counting.total <= 60 * rate


def test_a_silent_part_is_refused() -> None:
    gap = np.concatenate([burst(0.2, 1), np.zeros(5 * RATE), burst(0.2, 1)])
    decode(gap)
    with pytest.raises(DataError, match="its centre 1 s are silent"):
        decode(gap, long="centre")
