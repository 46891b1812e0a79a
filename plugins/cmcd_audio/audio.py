"""The audio modality: what the plugin's ``build`` returns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmcd_core import DataError, Modality

from . import AudioOptions, mel
from .augment import amplify, hiss, mask, move
from .colours import colour
from .excerpt import fit, loudness, take, trim
from .files import from_array, read_file
from .spectrogram import LogMel, resample

MOST_SECONDS = 60.0
"""Of a longer file only so much is held in memory (or twice the seconds asked for)."""
SILENCE = 1e-7
"""Full scale is 1; what stays below this, 24 bits cannot hold."""


class Audio(Modality):
    """(1, n_mels, frames) in dB from -dynamic_range to 0; low frequencies and early times come first."""

    spatial = False

    def __init__(self, options: AudioOptions) -> None:
        self.options = options
        self.channels = 1
        self.length = options.frames * options.hop_samples
        self.edges = (mel(options.f_min), mel(options.highest))
        self.log_mel = LogMel(options)

    def decode(self, raw: Path | bytes | np.ndarray) -> Tensor:
        """A sound file, its bytes, or an array of samples -> (1, n_mels, frames) dB.

        Raises:
            DataError: No sound file, truncated, an impossible rate, no samples, NaN, or silence.
        """
        o = self.options
        samples, rate = self._read(raw)
        peak = float(np.abs(samples).max())
        samples = samples / peak
        if o.trim:
            samples = trim(samples, rate, o.trim)
        samples = take(samples, rate, math.ceil(self.length * rate / o.rate), o.long)
        if np.ptp(samples) * peak < SILENCE:
            raise DataError(f"its {o.long} {o.seconds:g} s are silent", "Take long = 'loudest', or leave it out.")
        heard = fit(resample(torch.from_numpy(samples), rate, o.rate).numpy(), self.length, o.short)
        level = self.log_mel(torch.from_numpy(heard))
        level += 20 * math.log10(peak) if o.level == "none" else -level.max()
        return level.clamp_(-o.dynamic_range, 0)[None]

    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Another time, tempo, voice, loudness and background; parts of time and of the spectrum are silenced."""
        o = self.options
        if not o.varies:
            return batch
        heights = batch + o.dynamic_range
        heights = move(heights, generator, shift=o.shift, tempo=o.tempo, warp=o.warp, edges=self.edges)
        heights = hiss(amplify(heights, generator, o.gain), generator, o.noise)
        for axis, width in ((3, o.time_mask), (2, o.frequency_mask)):
            heights = mask(heights, generator, width=width, count=o.mask_count, axis=axis)
        return heights.sub_(o.dynamic_range).clamp_(-o.dynamic_range, 0)

    def encode(self, batch: Tensor) -> Tensor:
        """The floor is 0, 0 dB is 1; (N, 1, n_mels, frames)."""
        return (1 + batch / self.options.dynamic_range).clamp_(0, 1)

    def picture(self, x: Tensor) -> np.ndarray:
        """Low frequencies at the bottom; silence is black, loud is pale yellow."""
        return colour(self.encode(x[:1].float())[0].flip(0))

    def _read(self, raw: Path | bytes | np.ndarray) -> tuple[np.ndarray, int]:
        """(samples,) without their mean, at their own rate."""
        o = self.options
        if isinstance(raw, np.ndarray):
            samples, rate = from_array(raw), o.array_rate or o.rate
        else:
            most = max(MOST_SECONDS, 2 * o.seconds)
            samples, rate = read_file(raw, o.long, most, lambda part, rate: loudness(part, rate, o.seconds))
        if not np.isfinite(samples).all():
            raise DataError("some samples are NaN or infinite", "Leave this sample out, or write the file anew.")
        samples = samples - samples.mean(dtype=np.float64).astype(np.float32)
        if np.abs(samples).max() < SILENCE:
            raise DataError("nothing is heard (all samples are the same)", "Leave this sample out.")
        return samples, rate
