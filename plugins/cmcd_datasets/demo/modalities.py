"""Image, depth map, sketch and mask out of one scene's buffers.

Every random draw of a sensor comes from the scene's own sensor generator and is made whatever the `noise` is,
so that a noisier render of the same scene loses what a cleaner one lost, and more. `noise` lies in [0, 1] and
governs the target-side sensors alone (depth, sketch, sound): the image is the same for all of its values.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from .render import FINE, SIZE, SUPER, Buffers, ray_grid
from .scenes import FIRST_CLUTTER, FIRST_OBJECT, SPLITS, Floats32, SceneBatch

Bytes = npt.NDArray[np.uint8]
Millimetres = npt.NDArray[np.uint16]
Flags = npt.NDArray[np.bool_]

IGNORE = 255
RANGE = (0.3, 6.0)  # metres: what the depth sensor can measure
COARSE = 9  # knots along each axis of the smooth random fields
SAMPLES = 8000  # 0.5 s of sound at 16 kHz


def _smoother(size: int) -> Floats32:
    """(size, COARSE) Gaussian interpolation; unit rows, so that white knots give a field of variance 1."""
    where = np.linspace(0.0, COARSE - 1.0, size)[:, None] - np.arange(COARSE)[None]
    weights = np.exp(-0.5 * (where / 0.6) ** 2)
    return np.asarray(weights / np.sqrt((weights**2).sum(axis=1, keepdims=True)), dtype=np.float32)


_SMOOTH = {SIZE: _smoother(SIZE), FINE: _smoother(FINE)}


@dataclass(frozen=True)
class Draws:
    """The sensors' randomness for a batch of N scenes, before `noise` decides how much of it is felt."""

    image: Floats32  # (N, 48, 48, 3) normal
    camera: Floats32  # (N,) uniform
    depth: Floats32  # (N, 48, 48) normal
    dropout: Floats32  # (N, 48, 48) uniform
    grain: Floats32  # (N, 48, 48) normal
    fields: Floats32  # (N, 6, COARSE, COARSE) normal knots of smooth fields
    sound: Floats32  # (N, SAMPLES) normal
    modes: Floats32  # (N, 64) uniform

    @classmethod
    def of(cls, seed: int, split: str, indices: range) -> Draws:
        n = len(indices)
        draws = cls(
            image=np.empty((n, SIZE, SIZE, 3), np.float32),
            camera=np.empty(n, np.float32),
            depth=np.empty((n, SIZE, SIZE), np.float32),
            dropout=np.empty((n, SIZE, SIZE), np.float32),
            grain=np.empty((n, SIZE, SIZE), np.float32),
            fields=np.empty((n, 6, COARSE, COARSE), np.float32),
            sound=np.empty((n, SAMPLES), np.float32),
            modes=np.empty((n, 64), np.float32),
        )
        for row, index in enumerate(indices):
            # A stream of its own: the scene does not change when a sensor draws more or less.
            stream = np.random.SeedSequence([seed, SPLITS[split], index, 0x5E45])
            rng = np.random.Generator(np.random.SFC64(stream))
            for array in (draws.image, draws.depth, draws.grain, draws.fields, draws.sound):
                rng.standard_normal(dtype=np.float32, out=array[row])
            rng.random(dtype=np.float32, out=draws.dropout[row])
            rng.random(dtype=np.float32, out=draws.modes[row])
            draws.camera[row] = rng.random(dtype=np.float32)
        return draws

    def field(self, number: int, size: int) -> Floats32:
        """Smooth random field (N, size, size) of mean 0 and variance 1."""
        smooth = _SMOOTH[size]
        return np.asarray(smooth @ self.fields[:, number] @ smooth.T, dtype=np.float32)


def _threshold(share: float) -> float:
    """The value that a standard normal exceeds with that probability."""
    return NormalDist().inv_cdf(min(max(1.0 - share, 1e-9), 1.0 - 1e-9))


def _pooled(fine: Floats32) -> Floats32:
    """Mean over each pixel's rays, (…, FINE, FINE) → (…, SIZE, SIZE); quicker than `mean` over strided
    axes."""
    rows = fine[..., 0::2, :] + fine[..., 1::2, :]
    return np.asarray((rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25), dtype=np.float32)


def image(batch: SceneBatch, buffers: Buffers, draws: Draws) -> Bytes:
    """(N, 48, 48, 3) RGB: procedural textures, one distant light, a dark contact shadow, camera noise."""
    line, _ = ray_grid()
    table, rows, depth = batch.materials, buffers.material, buffers.depth
    x, y = line[None, None, :] * depth, line[None, :, None] * depth

    def wave(first: int) -> Floats32:
        a, b, c, phase = (np.ascontiguousarray(table[:, first + k])[rows] for k in range(4))
        return np.asarray(a * x + b * y + c * depth + phase, dtype=np.float32)

    u, v = wave(0), wave(4)
    weights = [np.ascontiguousarray(table[:, k])[rows] for k in (8, 9, 10)]
    cloud = np.sin(np.float32(0.41) * u + np.float32(2.3) * np.sin(np.float32(0.37) * v))
    sine = np.sin(u)
    mix = np.float32(0.5) + weights[0] * sine + weights[1] * sine * np.sin(v) + weights[2] * cloud
    np.clip(mix, 0.0, 1.0, out=mix)

    light = np.array([scene.light for scene in batch.scenes], np.float32)
    lamps = np.array([scene.lamps for scene in batch.scenes], np.float32)
    shadow = np.array([scene.shadow for scene in batch.scenes], np.float32)
    normal = buffers.normal
    lit = sum(normal[k] * light[:, k, None, None] for k in range(3))
    ambient = lamps[:, 0, None, None]
    shade = ambient + (1 - ambient) * np.maximum(np.asarray(lit, np.float32), 0)
    dx, dy, dz = (p - shadow[:, k, None, None] for k, p in enumerate((x, y, depth)))
    near = (dx * dx + dy * dy + dz * dz) / (shadow[:, 3] ** 2)[:, None, None]
    dark = shadow[:, 4, None, None] * np.maximum(1 - np.float32(0.5) * near, 0)
    shade *= 1 - dark * (buffers.group == 0)

    out = np.empty((len(light), SIZE, SIZE, 3), np.float32)
    for k in range(3):
        first, second = (np.ascontiguousarray(table[:, c + k])[rows] for c in (11, 14))
        tint = (lamps[:, 1 + k] * lamps[:, 4])[:, None, None]
        out[..., k] = _pooled((first + (second - first) * mix) * shade) * tint
    noise = (np.float32(0.006) + np.float32(0.02) * draws.camera)[:, None, None, None]
    out = np.sqrt(np.maximum(out, 0)) * np.float32(0.95) + noise * draws.image
    return np.asarray(np.clip(out * 255 + 0.5, 0, 255), dtype=np.uint8)


def _corners(fine: Floats32) -> list[Floats32]:
    return [fine[:, i::SUPER, j::SUPER] for i in range(SUPER) for j in range(SUPER)]


def true_depth(buffers: Buffers) -> Floats32:
    """(N, 48, 48) metres: the second-nearest of a pixel's four rays.

    So an object shows where it covers half a pixel, as in the mask, and no depth lies between two surfaces.
    """
    a, b, c, d = _corners(buffers.depth)
    nearest, farthest = np.maximum(np.minimum(a, b), np.minimum(c, d)), np.maximum(a, b)
    return np.minimum(nearest, np.minimum(farthest, np.maximum(c, d)))


def _grown(flags: Flags) -> Flags:
    """Each flag and its four neighbours."""
    out = flags.copy()
    out[:, 1:] |= flags[:, :-1]
    out[:, :-1] |= flags[:, 1:]
    out[:, :, 1:] |= flags[:, :, :-1]
    out[:, :, :-1] |= flags[:, :, 1:]
    return out


def depth(buffers: Buffers, draws: Draws, noise: float) -> Millimetres:
    """(N, 48, 48) millimetres, 0 where missing, as a structured-light sensor gives it.

    Errors: white and smooth noise that grow with distance squared, and steps of disparity. Holes: along
    occlusion edges, on grazing surfaces, in smooth blobs, and beyond the sensor's range (the only ones at
    noise 0).
    """
    z = true_depth(buffers)
    square = z * z
    sigma = np.float32(0.05 * noise**1.5)
    measured = z + sigma * square * (draws.depth + draws.field(0, SIZE))
    if noise > 0:
        step = np.float32(0.02 * noise)
        measured = np.float32(1) / (np.maximum(np.rint(1 / np.maximum(measured, 0.05) / step), 1) * step)

    a, b, c, d = _corners(buffers.depth)
    spread = np.maximum(np.maximum(a, b), np.maximum(c, d)) - np.minimum(np.minimum(a, b), np.minimum(c, d))
    jump = spread > np.float32(0.05) * z
    jump[:, 1:] |= np.abs(z[:, 1:] - z[:, :-1]) > np.float32(0.06) * z[:, 1:]
    jump[:, :, 1:] |= np.abs(z[:, :, 1:] - z[:, :, :-1]) > np.float32(0.06) * z[:, :, 1:]
    line, _ = ray_grid()
    x, y = line[None, None, ::SUPER], line[None, ::SUPER, None]
    n = buffers.normal[:, :, ::SUPER, ::SUPER]
    facing = -(n[0] * x + n[1] * y + n[2]) / np.sqrt(x * x + y * y + 1)
    missing = _grown(jump) & (draws.dropout < 2.0 * noise)
    missing |= facing < np.float32(0.5 * noise) * (np.float32(0.4) + draws.dropout)
    missing |= draws.field(1, SIZE) > _threshold(0.92 * noise**1.5)
    missing |= (measured < RANGE[0]) | (measured > RANGE[1])
    return np.asarray(np.where(missing, 0, np.rint(measured * 1000)), dtype=np.uint16)


def mask(batch: SceneBatch, buffers: Buffers) -> Bytes:
    """(N, 48, 48) class ids: 0 room and clutter, 1 + label the main object, 255 ignored.

    Ignored are pixels of which exactly half the rays meet the object: neither answer would be wrong. Clutter
    is background because it has no class of its own: the task is to find the one thing that has, and to name
    it.
    """
    main = ((buffers.group >= FIRST_OBJECT) & (buffers.group < FIRST_CLUTTER)).astype(np.uint8)
    rows = main[:, 0::2] + main[:, 1::2]
    covered = rows[:, :, 0::2] + rows[:, :, 1::2]
    ids = np.array([scene.label + 1 for scene in batch.scenes], np.uint8)[:, None, None]
    return np.asarray(np.where(covered > 2, ids, np.where(covered == 2, IGNORE, 0)), dtype=np.uint8)


def _lines(buffers: Buffers, axis: int, drawn: Flags) -> Flags:
    """Where two neighbours along `axis` are parted by a line: another piece, a depth jump or a crease.

    True at the first of the two; (N, FINE, FINE) with False in the last row or column.
    """
    first = (slice(None), slice(None, -1)) if axis == 1 else (slice(None), slice(None), slice(None, -1))
    second = (slice(None), slice(1, None)) if axis == 1 else (slice(None), slice(None), slice(1, None))
    group, z, n = buffers.group, buffers.depth, buffers.normal
    cosine = n[0][first] * n[0][second] + n[1][first] * n[1][second] + n[2][first] * n[2][second]
    parted = group[first] != group[second]
    parted |= cosine < np.float32(0.8)
    # Depth changes fast on grazing surfaces too: there the normal, not a line, explains it.
    slant = np.minimum(np.abs(n[2][first]), np.abs(n[2][second])) + np.float32(0.05)
    parted |= np.abs(z[first] - z[second]) * slant > np.float32(0.04) * z[first]
    out = np.zeros(group.shape, dtype=np.bool_)
    out[first] = parted & (drawn[first] | drawn[second])
    return out


def sketch(buffers: Buffers, draws: Draws, noise: float) -> Bytes:
    """(N, 48, 48) dark lines on light paper.

    Outlines and creases of the main object, in most scenes of the clutter too, in some of the room. `noise`
    makes the hand shake, leaves strokes out and roughens the paper.
    """
    group = buffers.group
    main = (group >= FIRST_OBJECT) & (group < FIRST_CLUTTER)
    choice = draws.modes[:, 60:62, None, None]
    clutter = (group >= FIRST_CLUTTER) & (choice[:, 0] < 0.7)
    room = (group < FIRST_OBJECT) & (choice[:, 1] < 0.3)
    drawn = main | clutter | room
    ink = (_lines(buffers, 1, drawn) | _lines(buffers, 2, drawn)).astype(np.float32)

    # The hand shakes: each line is taken from a smoothly displaced place. Two pixels of FINE are one of the
    # sketch.
    reach = np.float32(4.5 * noise)
    rows = np.arange(FINE)[None, :, None] + np.rint(reach * draws.field(2, FINE)).astype(np.int64)
    columns = np.arange(FINE)[None, None, :] + np.rint(reach * draws.field(3, FINE)).astype(np.int64)
    np.clip(rows, 0, FINE - 1, out=rows)
    np.clip(columns, 0, FINE - 1, out=columns)
    scene = np.arange(len(ink))[:, None, None]
    ink = ink.reshape(-1)[(scene * FINE + rows) * FINE + columns]

    drawing = np.minimum(_pooled(ink) * np.float32(2.2), 1)
    field = draws.field(4, SIZE)
    kept = field < _threshold(0.95 * noise**1.3)
    pressure = np.clip(np.float32(0.8) + np.float32(0.6 * noise) * draws.field(5, SIZE), 0.25, 1.0)
    paper = np.float32(246) - np.float32(60 * noise) * np.abs(draws.grain) * np.float32(0.35)
    drawing = paper - drawing * kept * pressure * np.float32(215)
    return np.asarray(np.clip(drawing + 0.5, 0, 255), dtype=np.uint8)
