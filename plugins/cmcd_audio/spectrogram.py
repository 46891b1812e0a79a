"""Samples of any rate -> a log-mel spectrogram."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from torch import Tensor
from torchaudio.transforms import MelSpectrogram, Resample  # type: ignore[import-untyped]

from . import AudioOptions

COMMON = 25
"""Rates are rounded to multiples of this: the kernel of two rates without a common divisor would take gigabytes."""
ZERO_CROSSINGS = 16
"""Half the width of the resampling filter: sharper than the default 6, so that little is heard above 0.9 Nyquist."""


def resample(samples: Tensor, rate: int, to: int) -> Tensor:
    """(samples,) at ``rate`` -> (samples,) at ``to``, a multiple of 25."""
    if rate != to and math.gcd(rate, to) < COMMON:
        rate = COMMON * round(rate / COMMON)
    resampled: Tensor = _kernel(rate, to)(samples) if rate != to else samples
    return resampled


class LogMel:
    """(samples,) -> (n_mels, frames) in dB, where 0 is about a tone of amplitude 1."""

    def __init__(self, o: AudioOptions) -> None:
        self.frames = o.frames
        self.mel: Any = MelSpectrogram(
            o.rate,
            n_fft=o.fft_size,
            win_length=o.window_samples,
            hop_length=o.hop_samples,
            f_min=o.f_min,
            f_max=o.highest,
            n_mels=o.n_mels,
            pad_mode="constant",
        )
        # By Parseval's theorem a tone of amplitude 1 has this power in all bins together.
        self.full_scale = (o.fft_size * self.mel.spectrogram.window.square().sum().item()) ** 0.5 / 2

    def __call__(self, samples: Tensor) -> Tensor:
        power: Tensor = self.mel(samples / self.full_scale)[:, : self.frames]
        return 10 * power.clamp_min(1e-20).log10()


@lru_cache(maxsize=16)
def _kernel(rate: int, to: int) -> Any:
    return Resample(rate, to, lowpass_filter_width=ZERO_CROSSINGS)
