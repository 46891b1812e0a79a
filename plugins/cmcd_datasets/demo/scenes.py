"""Scenes from seeds: what stands where, what it looks like, and where the camera is.

World frame: metres, z up, the floor at z = 0, the main object at the origin. Camera frame: x right, y down,
z forward, as in image coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .parts import Dice, Floats, Parts, Point
from .shapes import BUILDERS, CLASSES

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

Thing = tuple[Parts, float, float, float, float]  # a piece of clutter: parts, width, x, y, yaw

SPLITS = {"train": 0, "val": 1, "test": 2}
HALF_FIELD = math.tan(math.radians(25.0))  # half the width seen at distance 1: a field of 50 degrees
FLOOR, WALL, SIDE_WALL, FIRST_OBJECT, FIRST_CLUTTER = 0, 1, 2, 3, 64  # groups: which piece a pixel shows


@dataclass(frozen=True)
class Scene:
    """One scene, in the world frame where not said otherwise."""

    label: int
    kind: Ints  # (P,) of each primitive: BALL, BOX or FRUSTUM
    matrix: Floats  # (P, 3, 3) its axes, in the camera frame
    centre: Floats  # (P, 3) metres, in the camera frame
    taper: Floats  # (P,)
    open_ends: Ints  # (P,)
    group: Ints  # (P,) FIRST_OBJECT… of the main object, FIRST_CLUTTER… of clutter
    material: Ints  # (P,) row of `materials`
    planes: Floats  # (3, 4) floor and walls in the camera frame: normal · p = offset
    materials: Floats  # (M, 17): see `_material`; rows 0, 1, 2 are those of the planes
    light: Floats  # (3,) direction towards the light, camera frame
    lamps: Floats  # (5,) ambient share, colour of the light (3), exposure
    shadow: Floats  # (5,) its centre on the floor in the camera frame (3), radius in metres, darkness
    size: float  # diagonal of the box around the main object, metres
    substance: int  # what the main object is made of: sound only


def class_of(seed: int, split: str, index: int) -> int:
    """Class of a scene: each block of ten scenes shows every class once, so that any count is balanced."""
    block, place = divmod(index, len(CLASSES))
    order = np.random.default_rng([seed, SPLITS[split], block, 0xB10C]).permutation(len(CLASSES))
    return int(order[place])


def _rotation(yaw: float, tip: float = 0.0) -> Floats:
    """About x by `tip`, after a turn about z; radians."""
    c, s, ct, st = math.cos(yaw), math.sin(yaw), math.cos(tip), math.sin(tip)
    return np.array([[c, -s, 0.0], [ct * s, ct * c, -st], [st * s, st * c, ct]])


def _camera(u: Dice, distance: float, height: float, free: float) -> tuple[Floats, Floats, float]:
    """Rotation world → camera (3, 3), position (3,), azimuth. `free` is the room left around the object."""
    azimuth, elevation, roll = u(-0.2, 0.2), math.radians(u(14, 32)), math.radians(u(-7, 7))
    ca, sa, ce, se = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)
    position = np.array([distance * ce * ca, distance * ce * sa, height + distance * se])
    # Off-centre objects: turn the camera a little, by at most the free part of the frame.
    pan, tilt = (math.atan(HALF_FIELD * free * u(-1, 1)) for _ in range(2))
    heading, pitch = azimuth + pan, elevation + tilt
    ca, sa, ce, se = math.cos(heading), math.sin(heading), math.cos(pitch), math.sin(pitch)
    forward = np.array([-ce * ca, -ce * sa, -se])
    right = np.array([-sa, ca, 0.0])
    down = np.array([se * ca, se * sa, -ce])
    cr, sr = math.cos(roll), math.sin(roll)
    return np.stack([cr * right + sr * down, cr * down - sr * right, forward]), position, azimuth


def _material(u: Dice, axes: tuple[Point, Point], frequency: float, room: bool = False) -> list[float]:
    """A solid texture: two waves along `axes` (world frame, `frequency` in cycles a metre), mixed with
    weights that make it plain, striped, checked or cloudy, between two colours.

    The `room` is pale and its patterns faint; things have any colour. They stand out, yet none tells a class.

    Columns: wave a (3) and its phase, wave b (3) and its phase, weights (3), colour 1 (3), colour 2 (3).
    """
    style, w = u.unit(), 2 * math.pi * frequency
    weights = (0.0, 0.0, 0.0)
    if style > 0.92:
        weights = (3.0, 0.0, 0.0)
    elif style > 0.84:
        weights = (0.0, 5.0, 0.0)
    elif style > 0.6:
        weights = (0.1, 0.15, 0.5)
    if room:
        grey, shade = u(0.75, 0.95), u(0.9, 0.98)
        first = [grey + u(-0.04, 0.04) for _ in range(3)]
    else:
        bright, shade = u(0.3, 0.6), u(0.7, 0.9)
        first = [bright * u(0.85, 1.0) for _ in range(3)]
    # Most second colours are shades of the first: strong patterns everywhere would drown the shapes.
    strong = not room and u.chance(0.05)
    second = [u(0.05, 0.9) for _ in range(3)] if strong else [c * shade for c in first]
    (ax, ay, az), (bx, by, bz) = axes
    return [ax * w, ay * w, az * w, u(0, 6.3), bx * w, by * w, bz * w, u(0, 6.3), *weights, *first, *second]


def _axes(u: Dice, flat: bool = False) -> tuple[Point, Point]:
    """Two perpendicular unit vectors, in the floor when `flat`."""
    turn, lean = u(0, 2 * math.pi), 0.0 if flat else u(-1.5, 1.5)
    c, s, cl, sl = math.cos(turn), math.sin(turn), math.cos(lean), math.sin(lean)
    return (c * cl, s * cl, sl), (-s, c, 0.0)


def _clutter(u: Dice, size: float, azimuth: float, ground: float) -> list[Thing]:
    """Small things around the object; `ground` is the camera's distance along the floor."""
    things: list[Thing] = []
    for k in range(u.integer(0, 2)):
        occluding = k == 0 and u.chance(0.3)
        width = size * (u(0.18, 0.36) if occluding else u(0.15, 0.45))
        angle = azimuth + (u(-0.8, 0.8) if occluding else u(0.9, 2 * math.pi - 0.9))
        away = 0.42 * size + 0.5 * width + size * u(0.0, 0.25 if occluding else 0.8)
        away = min(away, max(ground - width - 0.35, 0.35 * size)) if occluding else away
        parts, tall = Parts(), u(0.5, 1.8)
        shape = u.integer(0, 4)
        if shape == 0:
            parts.ball((0, 0, 1), (1, u(0.7, 1), u(0.7, 1)))
        elif shape == 1:
            parts.box((0, 0, tall), (1, u(0.4, 1), tall))
        elif shape == 2:
            parts.tube((0, 0, 0), (0, 0, 2 * tall), 1, u(0.7, 1.2))
        elif shape == 3:
            parts.tube((0, 0, 0), (0, 0, 2 * tall), 1, u(0.02, 0.4))
        else:
            parts.box((0, 0, 0.5), (1, 1, 0.5))
            parts.box((u(-0.3, 0.3), u(-0.3, 0.3), 1.4), (0.6, 0.7, 0.4), 1)
        things.append((parts, width, away * math.cos(angle), away * math.sin(angle), u(0, 6.3)))
    return things


@dataclass(frozen=True)
class _Piece:
    """A thing that stands in the scene, in the world frame, metres: (P, …) of its primitives."""

    parts: Parts
    matrix: Floats
    centre: Floats
    group: npt.NDArray[np.int64]
    material: npt.NDArray[np.int64]


def sample_scene(seed: int, split: str, index: int) -> Scene:
    """Scene `index` of a split: the same whatever else is sampled."""
    label = class_of(seed, split, index)
    u = Dice(np.random.default_rng([seed, SPLITS[split], index]))
    parts = Parts()
    BUILDERS[CLASSES[label]](parts, u)
    matrix, centre = parts.normalised(_pose(u))
    size = 0.7 * math.exp(u(0, 0.8))
    height = float((centre[:, 2] + np.abs(matrix[:, 2]).sum(axis=1)).max()) * size
    fill = u(1.0, 1.35)
    distance = max(0.5 * size / (HALF_FIELD * fill), 0.62)
    rotation, position, azimuth = _camera(u, distance, height / 2, max(0.22, 1.0 - fill))
    planes, materials = _room(u, azimuth, position, size)
    paints = [_material(u, _axes(u), u(2.0, 6.0) / size) for _ in range(u.integer(1, 2))]
    paint = np.array(parts.paint) % len(paints) + len(materials)
    pieces = [_Piece(parts, matrix * size, centre * size, np.array(parts.group) + FIRST_OBJECT, paint)]
    materials += paints
    for k, thing in enumerate(_clutter(u, size, azimuth, math.hypot(position[0], position[1]))):
        pieces.append(_placed(thing, k, len(materials)))
        materials.append(_material(u, _axes(u), u(2.0, 6.0) / thing[1]))
    light, lamps = _lights(u, azimuth)
    return Scene(
        label=label,
        kind=np.array([k for piece in pieces for k in piece.parts.kind], dtype=np.int32),
        matrix=rotation @ np.concatenate([piece.matrix for piece in pieces]),
        centre=(np.concatenate([piece.centre for piece in pieces]) - position) @ rotation.T,
        taper=np.array([t for piece in pieces for t in piece.parts.taper]),
        open_ends=np.array([e for piece in pieces for e in piece.parts.open_ends], dtype=np.int32),
        group=np.concatenate([piece.group for piece in pieces]).astype(np.int32),
        material=np.concatenate([piece.material for piece in pieces]).astype(np.int32),
        planes=_seen_planes(planes, rotation, position),
        materials=_seen_materials(np.array(materials), rotation, position),
        light=rotation @ light,
        lamps=lamps,
        shadow=np.array([*(rotation @ -position), size * u(0.3, 0.5), u(0.1, 0.5)]),
        size=size,
        substance=u.integer(0, 3),
    )


def _pose(u: Dice) -> Floats:
    """How the main object stands: upright, seldom tipped over."""
    tipped = u.chance(0.06)
    turn = _rotation(u(-0.55, 0.55))
    return _rotation(u(0, 2 * math.pi)) @ _rotation(u(0, 2 * math.pi), math.pi / 2) if tipped else turn


def _room(u: Dice, azimuth: float, position: Floats, size: float) -> tuple[Floats, list[list[float]]]:
    """(3, 4) floor and walls in the world frame, and what each is painted with."""
    floor = _material(u, _axes(u, flat=True), u(1.0, 6.0), room=True)
    facing = azimuth + math.radians(u(-35, 35))
    toward = (math.cos(facing), math.sin(facing), 0.0)
    across = (-toward[1], toward[0], 0.0)
    # The side wall lies where the back wall recedes, so that every ray ends somewhere near.
    if across[0] * position[0] + across[1] * position[1] < 0:
        across = (-across[0], -across[1], 0.0)
    wall = _material(u, (across, (0.0, 0.0, 1.0)), u(1.0, 6.0), room=True)
    other = _material(u, (toward, (0.0, 0.0, 1.0)), u(1.0, 6.0), room=True)
    beside_it = other if u.chance(0.3) else wall
    behind, beside = -0.5 * size - u(0.1, 1.7), -0.5 * size - u(0.3, 1.8)
    planes = np.array([[0.0, 0.0, 1.0, 0.0], [*toward, behind], [*across, beside]])
    return planes, [floor, wall, beside_it]


def _placed(thing: Thing, number: int, material: int) -> _Piece:
    """A piece of clutter where it stands."""
    parts, width, x, y, yaw = thing
    matrix, centre = parts.normalised(_rotation(yaw))
    group = np.array(parts.group) + FIRST_CLUTTER + 4 * number
    paint = np.full(len(parts.kind), material)
    return _Piece(parts, matrix * width, centre * width + np.array([x, y, 0.0]), group, paint)


def _lights(u: Dice, azimuth: float) -> tuple[Floats, Floats]:
    """(3,) direction towards the light in the world frame, and the (5,) lamps."""
    sun, lean = azimuth + u(-1.9, 1.9), u(0.35, 1.3)
    light = np.array([math.cos(sun) * math.cos(lean), math.sin(sun) * math.cos(lean), math.sin(lean)])
    return light, np.array([u(0.2, 0.42), u(0.85, 1.1), u(0.85, 1.1), u(0.85, 1.1), u(0.75, 1.15)])


def _seen_planes(planes: Floats, rotation: Floats, position: Floats) -> Floats:
    """(K, 4) from the world to the camera frame."""
    normals, offsets = planes[:, :3], planes[:, 3]
    return np.column_stack([normals @ rotation.T, offsets - normals @ position])


def _seen_materials(materials: Floats, rotation: Floats, position: Floats) -> Floats:
    """(M, 17) with textures in the camera frame, in which the renderer works."""
    seen = materials.copy()
    for column in (0, 4):
        waves = materials[:, column : column + 3]
        seen[:, column : column + 3] = waves @ rotation.T
        seen[:, column + 3] += waves @ position
    return seen


@dataclass(frozen=True)
class SceneBatch:
    """Scenes side by side: primitives and materials in one flat list each, in float32 for the renderer."""

    scenes: Sequence[Scene]
    owner: Ints  # (P,) which scene a primitive belongs to
    kind: Ints
    inverse: Floats32  # (P, 3, 3) camera frame → unit shape
    origin: Floats32  # (P, 3) the camera in the unit shape's frame
    corners: Floats32  # (P, 8, 3) of the box around it, camera frame
    taper: Floats32
    open_ends: Ints
    group: Ints
    material: Ints  # (P,) row of `materials`
    materials: Floats32  # (M, 17) of all scenes
    first_material: Ints  # (N,) row where a scene's materials begin

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> SceneBatch:
        counts = [len(scene.kind) for scene in scenes]
        owner = np.repeat(np.arange(len(scenes), dtype=np.int32), counts)
        first = np.cumsum([0, *(len(scene.materials) for scene in scenes)])[:-1].astype(np.int32)
        matrix = np.concatenate([scene.matrix for scene in scenes])
        centre = np.concatenate([scene.centre for scene in scenes])
        inverse = np.linalg.inv(matrix)
        taper = np.concatenate([scene.taper for scene in scenes])
        cube = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
        wide = np.ones((len(owner), 1, 3))
        wide[:, 0, :2] = np.maximum(taper, 1.0)[:, None]  # a frustum may widen upwards, beyond the unit cube
        return cls(
            scenes=scenes,
            owner=owner,
            kind=np.concatenate([scene.kind for scene in scenes]),
            inverse=inverse.astype(np.float32),
            origin=-(inverse @ centre[:, :, None])[:, :, 0].astype(np.float32),
            corners=((cube * wide) @ matrix.transpose(0, 2, 1) + centre[:, None]).astype(np.float32),
            taper=taper.astype(np.float32),
            open_ends=np.concatenate([scene.open_ends for scene in scenes]),
            group=np.concatenate([scene.group for scene in scenes]),
            material=np.concatenate([scene.material for scene in scenes]) + first[owner],
            materials=np.concatenate([scene.materials for scene in scenes]).astype(np.float32),
            first_material=first,
        )
