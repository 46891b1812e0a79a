"""Whatever holds a sound becomes the same log-mel picture of one shape, or a reason why not."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from cmcd_audio import AudioOptions, build, mel
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcd_core import DataError

RATE = 16000
FREQUENCIES = (220.0, 440.0, 900.0, 1700.0, 2900.0)


def sound(rate: int = RATE, seconds: float = 1.2, seed: int = 0) -> np.ndarray:
    """Decaying partials below 3 kHz, struck twice: the same sound at any rate."""
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    out = np.zeros_like(time)
    for frequency in FREQUENCIES:
        start, decay, phase = rng.uniform(0.1, 0.5) * seconds, rng.uniform(3, 9), rng.uniform(0, 6)
        since = np.maximum(time - start, 0)
        out += (1 - np.exp(-200 * since)) * np.exp(-decay * since) * np.sin(2 * np.pi * frequency * time + phase)
    return 0.15 * out


def encoded(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def decode(raw: Path | bytes | np.ndarray, **options: object) -> np.ndarray:
    audio = build(AudioOptions(**options))
    x = audio.decode(raw)
    assert x.dtype == torch.float32
    assert x.shape == (1, audio.options.n_mels, audio.options.frames)
    assert x.max() <= 0
    assert x.min() >= -audio.options.dynamic_range
    return x[0].numpy()


FORMATS = {"WAV": 0.1, "FLAC": 0.1, "AIFF": 0.1, "OGG": 3.0, "MP3": 3.0}
"""Most dB between a format and the array, where within 30 dB of the peak: two of them lose something."""


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_agree_as_path_and_bytes(kind: str, tmp_path: Path) -> None:
    raw, expected = encoded(sound(), kind=kind), decode(sound())
    out = decode(raw)
    assert np.abs(out - expected)[expected > -30].max() < FORMATS[kind]
    assert np.array_equal(out, decode(raw))
    (tmp_path / "file").write_bytes(raw)  # the name says nothing
    assert np.array_equal(decode(tmp_path / "file"), out)


def test_arrays() -> None:
    mono = (sound() * 32767).astype(np.int16)
    expected = decode(mono)
    stereo = np.stack([mono, mono], axis=1)
    before = mono.copy()
    same = {
        "(samples, channels)": stereo,
        "(channels, samples)": stereo.T,
        "(samples, 1)": mono[:, None],
        "(1, samples)": mono[None],
        "floats": mono / 32768,
        "32 bits": mono.astype(np.int32) << 16,
        "unsigned": (mono.astype(np.int32) + 32768).astype(np.uint16),
    }
    for name, array in same.items():
        assert np.abs(decode(array, trim=0) - decode(mono, trim=0)).max() < 0.02, name
        assert decode(array, level="none") == pytest.approx(decode(mono, level="none"), abs=0.02), name
    assert np.array_equal(mono, before), "the caller's array is left alone"
    assert np.abs(decode(sound(44100), array_rate=44100) - expected)[expected > -30].max() < 1


@settings(max_examples=40)
@given(
    st.floats(150, 3500), st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000, 44101]), st.integers(1, 6)
)
def test_a_tone_peaks_in_the_band_that_holds_it(frequency: float, rate: int, channels: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * frequency * np.arange(rate) / rate)
    out = decode(encoded(np.repeat(tone[:, None], channels, axis=1), rate))
    low, high = mel(50), mel(8000)
    place = (mel(frequency) - low) / (high - low) * 65 - 1  # in bands; whole numbers are their centres
    assert abs(int(out[:, 50].argmax()) - place) < 1


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_the_rate_of_a_file_changes_little(rate: int) -> None:
    expected, out = decode(encoded(sound())), decode(encoded(sound(rate), rate))
    difference = np.abs(out - expected)[expected > -40]
    assert difference.mean() < 0.3
    assert np.percentile(difference, 99) < 2


@settings(max_examples=25)
@given(st.floats(-80, 0))
def test_level_file_hears_no_gain_and_level_none_does(gain: float) -> None:
    quiet = sound() * 10 ** (gain / 20)
    assert np.abs(decode(quiet) - decode(sound())).max() < 0.02
    absolute = {"level": "none", "dynamic_range": 160}
    loud = decode(sound(), **absolute)
    assert np.abs(decode(quiet, **absolute) - loud - gain)[loud > -70].max() < 0.02


def test_level_none_has_full_scale_at_0_db() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert decode(0.1 * tone, level="none").max() == pytest.approx(-20, abs=3)
    assert decode(0.1 * tone).max() == 0


def test_channels_are_mixed_by_their_mean() -> None:
    tones = [np.sin(2 * np.pi * f * np.arange(RATE) / RATE) for f in (400, 2000)]
    assert np.allclose(decode(np.stack(tones)), decode((tones[0] + tones[1]) / 2), atol=1e-3)


def damaged(kind: str, share: float = 0.5) -> bytes:
    raw = encoded(np.random.default_rng(0).normal(0, 0.1, RATE), kind=kind)
    return raw[: round(len(raw) * share)]


def with_rate(rate: int) -> bytes:
    raw = bytearray(encoded(sound()))
    raw[24:28] = rate.to_bytes(4, "little")
    return bytes(raw)


NAN = np.where(np.arange(RATE) == 99, np.nan, sound()[:RATE])
BAD: dict[str, tuple[Callable[[], bytes | np.ndarray], str]] = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"a sound, in words", "not a sound file"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(99), "not a sound file"),
    "header only": (lambda: encoded(sound())[:30], "not a sound file|truncated|no samples"),
    "truncated WAV": (lambda: damaged("WAV"), "truncated"),
    "truncated AIFF": (lambda: damaged("AIFF"), "truncated"),
    "truncated FLAC": (lambda: damaged("FLAC"), "truncated|damaged"),
    "truncated MP3": (lambda: damaged("MP3"), "truncated|damaged"),
    "no samples": (lambda: encoded(np.zeros(0)), "no samples"),
    "array without samples": (lambda: np.zeros((0, 2)), "no samples"),
    "silence": (lambda: encoded(np.zeros(RATE)), "nothing is heard"),
    "constant": (lambda: np.full(RATE, 0.3), "nothing is heard"),
    "opposite channels": (lambda: np.stack([sound(), -sound()]), "nothing is heard"),
    "NaN": (lambda: encoded(NAN, subtype="FLOAT"), "NaN"),
    "NaN array": (lambda: NAN, "NaN"),
    "infinite": (lambda: np.array([0, np.inf, 1]), "NaN or infinite"),
    "slow": (lambda: with_rate(3), "rate of 3 "),
    "fast": (lambda: with_rate(2_000_000_000), "rate of 2000000000 "),
    "3-D": (lambda: np.ones((4, 5, 6)), "shape"),
    "picture array": (lambda: np.ones((100, 100)), "shape"),
    "bool": (lambda: np.ones(99, bool), "bool"),
    "complex": (lambda: np.ones(99, complex), "complex"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sounds_are_refused_with_a_reason(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(DataError, match=reason) as caught:
        decode(make())
    assert caught.value.hint


def test_a_streamed_wav_is_not_called_truncated() -> None:
    raw = bytearray(encoded(sound()))
    at = raw.index(b"data") + 4
    raw[4:8] = raw[at : at + 4] = b"\xff" * 4  # what ffmpeg writes into a pipe
    assert np.array_equal(decode(bytes(raw)), decode(encoded(sound())))


def test_threads_agree() -> None:
    audio, raws = build(AudioOptions()), [encoded(sound(r, seed=r), r) for r in range(7900, 8100, 25)]
    alone = [audio.decode(raw) for raw in raws]
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(a, b) for a, b in zip(alone, pool.map(audio.decode, raws), strict=True))


def test_digits(data: Callable[[str], Path]) -> None:
    audio = build(AudioOptions())
    paths = sorted((data("digits_audio") / "audio").glob("*.wav"))
    x = audio.encode(torch.stack([audio.decode(path) for path in paths]))
    assert x.shape == (3000, 1, 64, 100)
    assert (x.amax((1, 2, 3)) == 1).all()
    assert x.std((1, 2, 3)).min() > 0.02, "something is seen in each"


def test_demo() -> None:
    from cmcd_datasets.demo.loader import DemoLoader

    loader = DemoLoader(SimpleNamespace(seed=0, train=8, val=8, test=8, noise=0.2, shuffled=0.0))
    for sample in loader.split("train"):
        out = decode(sample.views["audio"](), seconds=0.5, trim=0)
        assert out.shape == (64, 50)
        assert out.std() > 2


def test_torchaudio_load_is_not_needed() -> None:
    decode(encoded(sound()))
    assert "torchcodec" not in sys.modules
