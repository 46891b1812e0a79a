"""The sound of the main object when it is struck, by modal synthesis: a sum of decaying sines.

Shape decides the ratios of the partials (bars, plates, shells and solids ring differently) and, with size and
substance, pitch and damping. Where and how hard the object is struck decides the strengths of the partials.
So one class has many sounds, and neither pitch nor length alone tells it.
"""

from __future__ import annotations

import io
import wave

import numpy as np
import numpy.typing as npt

from .modalities import SAMPLES, Draws
from .scenes import Floats32, SceneBatch
from .shapes import CLASSES

RATE = 16000
PARTIALS = 8
Sound = npt.NDArray[np.int16]

# Ratios of partials to the lowest: free bar (dumbbell), shell (mug), air and shell (bottle), plate on legs
# (table), plate with a back (chair), rod and cone (lamp), box of sheets (car), boxy room (house), balls
# (snowman), stacked blocks (stairs).
_RATIOS: dict[str, tuple[float, ...]] = {
    "mug": (1.0, 1.06, 2.32, 2.8, 4.25, 5.43, 6.9, 8.6),
    "bottle": (1.0, 3.1, 3.9, 4.6, 6.2, 7.7, 9.4, 11.0),
    "chair": (1.0, 1.58, 2.24, 2.92, 4.1, 4.7, 6.5, 7.1),
    "table": (1.0, 1.42, 2.44, 3.54, 4.3, 5.2, 6.1, 7.9),
    "lamp": (1.0, 2.0, 3.01, 4.02, 6.27, 8.1, 10.2, 12.3),
    "car": (1.0, 1.21, 1.47, 1.83, 2.16, 2.61, 3.07, 3.8),
    "house": (1.0, 1.25, 1.6, 2.0, 2.36, 2.83, 3.2, 3.61),
    "snowman": (1.0, 1.51, 1.93, 2.36, 2.73, 3.16, 3.54, 4.0),
    "dumbbell": (1.0, 2.756, 5.404, 8.933, 9.4, 10.1, 11.2, 13.34),
    "stairs": (1.0, 1.12, 2.5, 2.71, 4.6, 4.88, 7.2, 7.5),
}
# Factors of pitch and of damping: hollow things are low, thin free ones ring on, blocks are dead.
_SHAPES: dict[str, tuple[float, float]] = {
    "mug": (1.6, 0.8),
    "bottle": (1.2, 0.6),
    "chair": (0.85, 1.8),
    "table": (0.7, 1.3),
    "lamp": (1.1, 0.6),
    "car": (0.6, 1.1),
    "house": (0.5, 2.2),
    "snowman": (0.9, 3.0),
    "dumbbell": (1.4, 0.45),
    "stairs": (0.75, 2.0),
}
# Wood, metal, glass, plastic: factor of the pitch, damping a second there, growth of damping with frequency.
_SUBSTANCES = np.array([[0.9, 18.0, 0.8], [1.1, 7.0, 0.4], [1.2, 10.0, 0.5], [0.8, 24.0, 0.9]])


def strike(batch: SceneBatch, draws: Draws, noise: float) -> Sound:
    """(N, 8000) samples at 16 kHz. `noise` raises hiss and hum, steeply, and weakens the object."""
    ratios = np.array([_RATIOS[CLASSES[scene.label]] for scene in batch.scenes])
    shape = np.array([_SHAPES[CLASSES[scene.label]] for scene in batch.scenes])
    substance = _SUBSTANCES[[scene.substance for scene in batch.scenes]]
    size = np.array([scene.size for scene in batch.scenes])
    u = draws.modes.astype(np.float64)
    pitch = 240.0 * shape[:, 0] * substance[:, 0] / np.sqrt(size) * np.exp(1.4 * (u[:, 0] - 0.5))
    frequency = pitch[:, None] * ratios * (1.0 + 0.03 * (u[:, 1:9] - 0.5))
    dead = shape[:, 1] * substance[:, 1] * np.exp(0.7 * (u[:, 9] - 0.5))
    damping = dead[:, None] * (frequency / pitch[:, None]) ** substance[:, 2:3]
    strength = (0.3 + 0.7 * u[:, 10:18]) / np.sqrt(ratios)
    strength[frequency > 0.45 * RATE] = 0.0
    onset = 0.01 + 0.09 * u[:, 18]

    turn = (2 * np.pi * frequency).astype(np.float32)
    decay, strength = damping.astype(np.float32), strength.astype(np.float32)
    time = np.arange(SAMPLES) / RATE
    ring = np.zeros((len(size), SAMPLES), np.float32)
    since = np.maximum(time[None] - onset[:, None], 0.0).astype(np.float32)
    for k in range(PARTIALS):
        ring += strength[:, k, None] * np.exp(-decay[:, k, None] * since) * np.sin(turn[:, k, None] * since)
    ring *= np.float32(1) - np.exp(np.float32(-900) * since)  # a soft mallet: no click
    loud = (0.35 + 0.5 * u[:, 19]) * (1.0 - 0.5 * noise)
    ring *= (loud / np.maximum(np.abs(ring).max(axis=1), 1e-6)).astype(np.float32)[:, None]

    hiss = _softened(draws.sound, (u[:, 20] * 0.9).astype(np.float32))
    drone = 2 * np.pi * (50 + 250 * u[:, 21, None])
    hum = u[:, 23, None] * np.sin((drone * time[None] + 6.3 * u[:, 22, None]).astype(np.float32))
    mixed = ring + np.float32(0.002 + 0.3 * noise**5) * (hiss + 0.8 * hum)
    return np.asarray(np.clip(mixed, -1, 1) * 32767, dtype=np.int16)


def _softened(white: Floats32, amount: Floats32) -> Floats32:
    """Noise of unit variance, its high notes weakened by `amount` (N,) in [0, 1)."""
    out = white
    a = amount[:, None]
    for lag in (1, 2, 4):
        out = out + a * np.concatenate([np.zeros((len(out), lag), np.float32), out[:, :-lag]], axis=1)
        out = out / np.sqrt(1 + a * a)
    return np.asarray(out, dtype=np.float32)


def wav_bytes(samples: Sound) -> bytes:
    """A WAV file, 16 kHz mono 16-bit, of int16 samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.asarray(samples, dtype="<i2").tobytes())
    return buffer.getvalue()
