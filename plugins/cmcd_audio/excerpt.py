"""Which part of a sound is heard: (samples,) -> (samples,)."""

from __future__ import annotations

import numpy as np

STEP = 0.01
"""Seconds over which loudness is measured."""


def trim(samples: np.ndarray, rate: int, below: float) -> np.ndarray:
    """Cut off both ends where they are ``below`` dB quieter than the loudest step, but for one step."""
    step = max(1, round(STEP * rate))
    loud = np.flatnonzero((power := _power(samples, step)) >= power.max(initial=0) * 10 ** (-below / 10))
    if len(loud) == 0:
        return samples
    return samples[max(0, loud[0] - 1) * step : (loud[-1] + 2) * step]


def take(samples: np.ndarray, rate: int, length: int, which: str) -> np.ndarray:
    """At most ``length`` samples: from the start, the centre, or where they are loudest."""
    spare = len(samples) - length
    if spare <= 0 or which == "start":
        return samples[:length]
    if which == "centre":
        return samples[spare // 2 : spare // 2 + length]
    step = max(1, round(STEP * rate))
    start = min(int(np.argmax(_windowed(samples, step, length))) * step, spare)
    return samples[start : start + length]


def loudness(samples: np.ndarray, rate: int, seconds: float) -> float:
    """Power of the loudest ``seconds``, comparable between parts of one file."""
    return float(_windowed(samples, max(1, round(STEP * rate)), round(seconds * rate)).max(initial=0))


def fit(samples: np.ndarray, length: int, short: str) -> np.ndarray:
    """Exactly ``length`` samples: cut, and where too few, repeated ("tile") or between silence ("pad")."""
    if len(samples) >= length:
        return samples[:length]
    if short == "tile":
        return np.resize(samples, length)
    before = (length - len(samples)) // 2
    return np.pad(samples, (before, length - len(samples) - before))


def _power(samples: np.ndarray, step: int) -> np.ndarray:
    """Mean square of each whole step."""
    steps = samples[: len(samples) // step * step].reshape(-1, step)
    power: np.ndarray = np.einsum("ij,ij->i", steps, steps, dtype=np.float64) / step
    return power


def _windowed(samples: np.ndarray, step: int, length: int) -> np.ndarray:
    """Power of the window that begins at each step, its middle counting most: so a short sound lies in the middle."""
    weights = np.hanning(max(1, length // step) + 2)[1:-1]
    power = _power(samples, step)
    windowed: np.ndarray = np.convolve(power, weights, mode="valid" if len(power) >= len(weights) else "same")
    return windowed
