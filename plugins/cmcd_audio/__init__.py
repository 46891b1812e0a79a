"""The modality "audio": sounds as log-mel spectrograms."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from cmcd_core.plugin import Field, ModalityPlugin, Options, hookimpl

if TYPE_CHECKING:
    from .audio import Audio

LARGEST_FFT = 16384


class AudioOptions(Options):
    """Which part of a sound is heard, what the encoder sees of it, and how it is varied in training."""

    seconds: float = Field(1.0, ge=0.1, le=60, description="Length of sound that the encoder sees.")
    trim: float = Field(
        30.0,
        ge=0,
        le=120,
        description="Silence before and after the sound is cut off: what is this many dB below the loudest 10 ms. "
        "0: nothing is cut off.",
    )
    short: Literal["pad", "tile"] = Field(
        "pad",
        description="What to do with a sound shorter than seconds. pad: silence on both sides. tile: repeat it.",
    )
    long: Literal["loudest", "centre", "start"] = Field(
        "loudest",
        description="Which part of a longer sound is taken. loudest: the one with the most power about its middle; "
        "files are read to their end for it, a minute at a time. centre, start: nothing else is read.",
    )
    rate: int = Field(
        16000, ge=4000, le=192000, multiple_of=25, description="Samples a second that every sound is brought to."
    )
    array_rate: int | None = Field(
        None, ge=1000, le=768000, description="Samples a second of arrays, which do not say it. Default: rate."
    )
    n_mels: int = Field(64, ge=8, le=256, description="Frequency bands, evenly spaced in mel: the picture's height.")
    f_min: float = Field(50.0, ge=0, description="Hz; the lowest band begins here.")
    f_max: float | None = Field(None, gt=0, description="Hz; the highest band ends here. Default: rate / 2.")
    window: float = Field(25.0, ge=2, le=500, description="Milliseconds that one column is computed from.")
    hop: float = Field(10.0, ge=1, le=500, description="Milliseconds from column to column: seconds / hop columns.")
    level: Literal["file", "none"] = Field(
        "file",
        description="What 0 dB is. file: the loudest cell of each sound, so that speakers and microphones may be loud "
        "or quiet. none: a tone at full scale, so that loudness tells something.",
    )
    dynamic_range: float = Field(
        50.0, ge=10, le=160, description="dB from the floor, which the encoder sees as 0, to 0 dB, seen as 1."
    )
    gain: float = Field(6.0, ge=0, le=40, description="Augmentation: louder or quieter by up to so many dB. 0: off.")
    shift: float = Field(
        0.1, ge=0, le=1, description="Augmentation: earlier or later by up to this share of seconds. 0: off."
    )
    tempo: float = Field(0.1, ge=0, le=1, description="Augmentation: faster or slower by up to 1 + this. 0: off.")
    warp: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Augmentation: all frequencies higher or lower by up to 1 + this, as from smaller or larger "
        "speakers. 0: off.",
    )
    noise: float = Field(
        10.0, ge=0, le=80, description="Augmentation: hiss that rises up to so many dB above the floor. 0: off."
    )
    time_mask: float = Field(
        0.1, ge=0, le=1, description="Augmentation: a stretch of up to this share of the time is silenced. 0: off."
    )
    frequency_mask: float = Field(
        0.1, ge=0, le=1, description="Augmentation: neighbouring bands, up to this share, are silenced. 0: off."
    )
    mask_count: int = Field(1, ge=1, le=10, description="Augmentation: masks of each kind in one sound.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.highest > self.rate / 2:
            raise ValueError(f"f_max ({self.highest:g} Hz) must be at most half of rate ({self.rate} Hz)")
        if self.f_min >= self.highest:
            raise ValueError(f"f_min ({self.f_min:g} Hz) must be less than f_max ({self.highest:g} Hz)")
        if self.hop > self.window:
            raise ValueError(
                f"hop ({self.hop:g} ms) must be at most window ({self.window:g} ms): sound is lost between"
            )
        if self.frames < 8:
            raise ValueError(f"seconds ({self.seconds:g}) must hold at least 8 hops of {self.hop:g} ms")
        if self.fft_size > LARGEST_FFT:
            raise ValueError(
                f"{self.n_mels} bands from {self.f_min:g} to {self.highest:g} Hz are too narrow to be told apart: "
                "lower n_mels, or shorten the window"
            )
        return self

    @property
    def highest(self) -> float:
        """Hz; where the highest band ends."""
        return self.f_max or self.rate / 2

    @property
    def varies(self) -> bool:
        """Whether any augmentation is on."""
        strengths = (self.gain, self.shift, self.tempo, self.warp, self.noise, self.time_mask, self.frequency_mask)
        return any(strengths)

    @property
    def hop_samples(self) -> int:
        return round(self.hop * self.rate / 1000)

    @property
    def window_samples(self) -> int:
        return max(round(self.window * self.rate / 1000), self.hop_samples)

    @property
    def frames(self) -> int:
        """Columns of the spectrogram."""
        return round(self.seconds * self.rate / self.hop_samples)

    @property
    def fft_size(self) -> int:
        """A power of 2 that holds the window and gives even the narrowest (lowest) band a bin of its own."""
        mel_low, mel_high = (mel(f) for f in (self.f_min, self.highest))
        narrowest = hertz(mel_low + (mel_high - mel_low) / (self.n_mels + 1)) - self.f_min
        return int(2 ** math.ceil(math.log2(max(self.window_samples, self.rate / narrowest))))


def mel(frequency: float) -> float:
    """Hz -> mel, as HTK has it."""
    return 2595 * math.log10(1 + frequency / 700)


def hertz(mels: float) -> float:
    """The inverse of :func:`mel`."""
    return 700 * (math.pow(10, mels / 2595) - 1)


def build(options: AudioOptions) -> Audio:
    from .audio import Audio

    return Audio(options)


@hookimpl
def cmcd_modalities() -> Iterable[ModalityPlugin[Any]]:
    return [
        ModalityPlugin(
            name="audio",
            summary="Sounds: WAV, FLAC, OGG, MP3 and all that libsndfile reads, as log-mel spectrograms.",
            options=AudioOptions,
            build=build,
        )
    ]
