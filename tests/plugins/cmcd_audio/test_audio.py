"""Options, encoding, pictures and the encoder; listing the plugin costs no torch."""

from __future__ import annotations

import subprocess
import sys

import cmcd_audio
import numpy as np
import pytest
import torch
from cmcd_audio import AudioOptions, build

HEAVY = ("torch", "torchaudio", "numpy", "soundfile")


def test_light_import() -> None:
    code = f"import sys, cmcd_audio; cmcd_audio.AudioOptions(); print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_descriptor() -> None:
    (plugin,) = cmcd_audio.cmcd_modalities()
    modality = plugin.build(plugin.options())
    assert (plugin.name, modality.channels, modality.spatial, modality.storage) == ("audio", 1, False, "float32")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"f_max": 9000}, "f_max .* half of rate"),
        ({"rate": 8000, "f_max": 5000}, "f_max .* half of rate"),
        ({"f_min": 8000}, "f_min .* less than f_max"),
        ({"f_min": 500, "f_max": 400}, "f_min .* less than f_max"),
        ({"hop": 30}, "hop .* at most window"),
        ({"seconds": 0.1, "hop": 25}, "at least 8 hops"),
        ({"n_mels": 256, "f_min": 100, "f_max": 200}, "too narrow"),
        ({"rate": 16001}, "multiple of 25"),
        ({"trim": -1}, "trim"),
        ({"level": "loud"}, "level"),
        ({"long": "end"}, "long"),
        ({"shift": 1.1}, "shift"),
        ({"gains": 1}, "gains"),
    ],
)
def test_options_are_checked(bad: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AudioOptions(**bad)


def test_options_are_described() -> None:
    assert all(field.description for field in AudioOptions.model_fields.values())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_mels": 256, "window": 5, "hop": 5},
        {"n_mels": 8, "f_min": 0},
        {"rate": 192000, "n_mels": 128},
        {"rate": 11025, "hop": 8.3},
        {"rate": 4000, "seconds": 0.1},
        {"seconds": 10, "hop": 50, "window": 100},
    ],
    ids=str,
)
def test_no_band_is_empty_and_the_shape_is_as_said(options: dict[str, object]) -> None:
    audio = build(AudioOptions(**options, trim=0, dynamic_range=100))
    x = audio.decode(np.random.default_rng(0).normal(0, 0.1, 250000))
    assert x.shape == (1, audio.options.n_mels, audio.options.frames)
    assert x[0, :, 2:-2].mean(dim=1).min() > -45, "white noise is heard in every band"


def test_encode() -> None:
    audio = build(AudioOptions(dynamic_range=80))
    x = torch.tensor([-90.0, -80, -60, -20, 0, 5]).view(1, 1, 1, -1)
    before = x.clone()
    assert audio.encode(x).flatten().tolist() == pytest.approx([0, 0, 0.25, 0.75, 1, 1])
    assert torch.equal(x, before)


def test_picture_has_low_frequencies_at_the_bottom() -> None:
    audio = build(AudioOptions())
    shown = audio.picture(audio.decode(np.sin(2 * np.pi * 300 * np.arange(16000) / 16000)))
    assert (shown.shape, shown.dtype) == ((64, 100, 3), np.uint8)
    brightness = shown.astype(int).sum(axis=(1, 2))
    assert brightness[45:].argmax() + 45 == brightness.argmax(), "in the lower part"
    silent = audio.picture(torch.full((1, 64, 100), -50.0))
    assert silent.max() <= 4
    steps = audio.picture(torch.linspace(-50, 0, 256).view(1, 1, -1))[0].astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(steps) >= -1).all(), "louder is lighter"


def test_default_encoder_takes_it() -> None:
    audio = build(AudioOptions())
    features = audio.encoder().eval()(audio.encode(-50 * torch.rand(2, 1, 64, 100)))
    assert features.pooled.shape[0] == 2
    assert features.dense is not None
    assert features.dense.shape[2:] == (2, 4)
