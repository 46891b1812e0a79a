"""Ray casting of a batch of scenes into geometry buffers, vectorised over scenes, primitives and pixels.

Rays are (x, y, 1) in the camera frame, so that the ray parameter of a hit is its depth in metres. Each
primitive is tried only on the pixels of its projected bounding box: about a twentieth of all ray-primitive
pairs. Everything is elementwise in float32, so that a scene's pixels do not depend on which scenes are
rendered beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .parts import BALL, BOX, FRUSTUM, OPEN_BOTTOM, OPEN_TOP
from .scenes import HALF_FIELD, Floats32, Ints, SceneBatch

SIZE = 48  # pixels of every picture that comes out
SUPER = 2  # rays a pixel along each axis
FINE = SIZE * SUPER
NEAR = 0.05  # metres; nothing nearer is seen

Vectors = tuple[Floats32, Floats32, Floats32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Buffers:
    """What each ray hits; all (N, FINE, FINE) but `normal`."""

    depth: Floats32  # metres along the optical axis
    normal: Floats32  # (3, N, FINE, FINE), unit length, towards the camera, camera frame
    group: Ints  # FLOOR, WALL, SIDE_WALL, FIRST_OBJECT…, FIRST_CLUTTER…
    material: Ints  # row of SceneBatch.materials


def ray_grid() -> tuple[Floats32, Floats32]:
    """x and y of the rays, (FINE,) each: the same numbers, since the picture is square."""
    line = ((np.arange(FINE) + 0.5) / FINE * 2.0 - 1.0) * HALF_FIELD
    return line.astype(np.float32), line.astype(np.float32)


def _rectangles(batch: SceneBatch, chosen: Indices) -> tuple[Indices, Indices, Indices, Indices]:
    """Pixel boxes (left, top, width, height) that cover each chosen primitive; width 0 where out of sight."""
    corners = batch.corners[chosen]
    z = corners[..., 2]
    behind = (z < NEAR).any(axis=1)
    flat = corners[..., :2] / np.maximum(z, NEAR)[..., None]
    pixels = (flat / HALF_FIELD + 1.0) * (FINE / 2)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    low[behind], high[behind] = 0.0, FINE  # part of it beside or behind the camera: try every pixel
    start = np.clip(np.floor(low - 0.5), 0, FINE).astype(np.int64)
    stop = np.clip(np.ceil(high + 0.5), 0, FINE).astype(np.int64)
    extent = np.maximum(stop - start, 0)
    extent[(z < NEAR).all(axis=1)] = 0
    return start[:, 0], start[:, 1], extent[:, 0], extent[:, 1]


def _ball(o: Vectors, d: Vectors) -> Floats32:
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - np.float32(1)
    return np.asarray((-b - np.sqrt(b * b - a * c)) / a, dtype=np.float32)  # NaN where missed


def _box(o: Vectors, d: Vectors) -> Floats32:
    near = np.full_like(d[0], -np.inf)
    far = np.full_like(d[0], np.inf)
    for axis in range(3):
        slope = np.float32(1) / d[axis]
        middle, reach = -o[axis] * slope, np.abs(slope)
        np.maximum(near, middle - reach, out=near)
        np.minimum(far, middle + reach, out=far)
    near[near > far] = np.nan
    return near


def _frustum(o: Vectors, d: Vectors, taper: Floats32, ends: Ints) -> Floats32:
    """The nearest hit of the mantle (from inside too, where an end is open) and of the closed caps."""
    mean, slope = (1 + taper) * np.float32(0.5), (taper - 1) * np.float32(0.5)
    radius = mean + slope * o[2]
    a = d[0] * d[0] + d[1] * d[1] - slope * slope * d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] - slope * d[2] * radius
    c = o[0] * o[0] + o[1] * o[1] - radius * radius
    root = np.sqrt(b * b - a * c)
    best: Floats32 = np.full_like(a, np.inf)
    for sign in (np.float32(-1), np.float32(1)):
        t = (sign * root - b) / a
        hit = (np.abs(o[2] + t * d[2]) <= 1) & (t > NEAR)  # NaN compares false
        np.copyto(best, t, where=hit & (t < best))
    for end, flag, rim in ((-1, OPEN_BOTTOM, np.float32(1)), (1, OPEN_TOP, taper)):
        t = (np.float32(end) - o[2]) / d[2]
        x, y = o[0] + t * d[0], o[1] + t * d[1]
        hit = (x * x + y * y <= rim * rim) & (t > NEAR) & ((ends & flag) == 0)
        np.copyto(best, t, where=hit & (t < best))
    return best


def _local_normal(kind: int, p: Vectors, taper: Floats32) -> Vectors:
    """Outward normal in the unit shape's frame at the hit p, not of unit length."""
    if kind == BALL:
        return p
    if kind == BOX:
        size = [np.abs(axis) for axis in p]
        x = (size[0] >= size[1]) & (size[0] >= size[2])
        y = ~x & (size[1] >= size[2])
        return p[0] * x, p[1] * y, p[2] * ~(x | y)
    slope = (taper - 1) * np.float32(0.5)
    radius = (1 + taper) * np.float32(0.5) + slope * p[2]
    edge = np.abs(p[2]) > np.float32(1 - 1e-3)
    inside = p[0] * p[0] + p[1] * p[1] < np.float32(0.995) * radius * radius
    cap = edge & inside
    side = ~cap
    return p[0] * side, p[1] * side, np.where(cap, p[2], -slope * radius)


def _planes(batch: SceneBatch) -> tuple[Floats32, Floats32, Ints]:
    """Depth, normal and group (0, 1, 2) of the room behind everything."""
    x, y = ray_grid()
    planes = np.stack([scene.planes for scene in batch.scenes]).astype(np.float32)
    best = np.full((len(planes), FINE, FINE), np.inf, dtype=np.float32)
    group = np.zeros(best.shape, dtype=np.int32)
    for k in range(3):
        a, b, c, offset = (planes[:, k, j][:, None, None] for j in range(4))
        t = offset / (a * x + b * y[:, None] + c)
        nearer = (t > NEAR) & (t < best)
        np.copyto(best, t, where=nearer)
        group[nearer] = k
    normal = np.empty((3, *best.shape), dtype=np.float32)
    for axis in range(3):
        table = np.ascontiguousarray(planes[:, :, axis])
        normal[axis] = np.take_along_axis(table, group.reshape(len(planes), -1), axis=1).reshape(best.shape)
    return best, normal, group


@dataclass(frozen=True)
class _Hits:
    """Rays that meet primitives of one kind in front of what was found before them; (n,) each."""

    kind: int
    primitive: Indices  # place in the batch
    ray: Indices  # place in the flattened buffers
    depth: Floats32
    origin: Vectors  # in the unit shape's frame, as is the ray
    direction: Vectors


def render(batch: SceneBatch) -> Buffers:
    """Cast FINE x FINE rays a scene."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        depth, normal, group = _planes(batch)
        material = (group + batch.first_material[:, None, None]).astype(np.int32)
        buffers = Buffers(depth, normal, group, material)
        found = [_cast(batch, kind, depth.reshape(-1)) for kind in (BALL, BOX, FRUSTUM)]
        for hits in found:
            _shade(batch, hits, buffers)
    return buffers


def _cast(batch: SceneBatch, kind: int, depth: Floats32) -> _Hits:
    """Try all primitives of a kind; the flat ``depth`` becomes that of the nearest."""
    line, _ = ray_grid()
    chosen = np.flatnonzero(batch.kind == kind)
    left, top, width, height = _rectangles(batch, chosen)
    area = width * height
    place = np.repeat(np.arange(len(chosen)), area)  # which primitive a candidate pixel is tried for
    within = np.arange(len(place)) - np.repeat(np.cumsum(area) - area, area)
    row = within // width[place]
    column = within - row * width[place] + left[place]
    row += top[place]
    ray = (batch.owner[chosen].astype(np.int64)[place] * FINE + row) * FINE + column
    directions = _repeated_rays(batch.inverse[chosen], area, line[column], line[row])
    x, y, z = (np.repeat(batch.origin[chosen, i], area) for i in range(3))
    if kind == BALL:
        t = _ball((x, y, z), directions)
    elif kind == BOX:
        t = _box((x, y, z), directions)
    else:
        t = _frustum((x, y, z), directions, batch.taper[chosen][place], batch.open_ends[chosen][place])
    hit = np.flatnonzero((t > NEAR) & (t < depth[ray]))
    np.minimum.at(depth, ray[hit], t[hit])
    return _Hits(kind, chosen[place[hit]], ray[hit], t[hit], _picked((x, y, z), hit), _picked(directions, hit))


def _repeated_rays(inverse: Floats32, area: Indices, x: Floats32, y: Floats32) -> Vectors:
    """Rays (x, y, 1) in the frames of the unit shapes that they are tried for, ``area`` of them each."""
    a, b, c = (
        np.repeat(inverse[:, i, 0], area) * x
        + np.repeat(inverse[:, i, 1], area) * y
        + np.repeat(inverse[:, i, 2], area)
        for i in range(3)
    )
    return a, b, c


def _picked(vectors: Vectors, at: Indices) -> Vectors:
    return vectors[0][at], vectors[1][at], vectors[2][at]


def _shade(batch: SceneBatch, hits: _Hits, buffers: Buffers) -> None:
    """Write normals, groups and materials where no other kind was nearer."""
    won = np.flatnonzero(hits.depth == buffers.depth.reshape(-1)[hits.ray])
    t, ray, which = hits.depth[won], hits.ray[won], hits.primitive[won]
    origin, direction = _picked(hits.origin, won), _picked(hits.direction, won)
    px, py, pz = (origin[i] + t * direction[i] for i in range(3))
    n = _local_normal(hits.kind, (px, py, pz), batch.taper[which])
    m = batch.inverse[which]
    world = [n[0] * m[:, 0, i] + n[1] * m[:, 1, i] + n[2] * m[:, 2, i] for i in range(3)]
    length = np.sqrt(world[0] * world[0] + world[1] * world[1] + world[2] * world[2])
    line, _ = ray_grid()
    x, y = line[ray % FINE], line[(ray // FINE) % FINE]
    # Open shells are seen from inside too: a normal always looks at the camera.
    length *= np.where(world[0] * x + world[1] * y + world[2] > 0, np.float32(-1), np.float32(1))
    for i in range(3):
        buffers.normal[i].reshape(-1)[ray] = world[i] / length
    buffers.group.reshape(-1)[ray] = batch.group[which]
    buffers.material.reshape(-1)[ray] = batch.material[which]
