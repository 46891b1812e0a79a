"""The ten object classes, each a random composition of primitives.

Objects are built at any scale and brought to a common size afterwards (`Parts.normalised`), so that the size
of an object says nothing about its class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .parts import BOX, OPEN_BOTTOM, OPEN_TOP, Dice, Parts


def mug(parts: Parts, u: Dice) -> None:
    height, taper = u(1.4, 2.9), u(0.85, 1.25)
    parts.tube((0, 0, 0), (0, 0, height), 1.0, taper, 0, OPEN_TOP)
    if u.chance(0.5):
        level = height * u(0.55, 0.85)
        parts.tube((0, 0, level - 0.05), (0, 0, level), 0.97 * (1 + (taper - 1) * level / height), paint=2)
    tall, wide, thick = height * u(0.26, 0.38), u(0.5, 0.95), u(0.11, 0.19)
    middle = height * u(0.45, 0.58)
    foot = 1 + (taper - 1) * middle / height
    angles = np.linspace(-1.45, 1.45, 7).tolist()
    points = [(foot * 0.93 + wide * math.cos(a), 0.0, middle + tall * math.sin(a)) for a in angles]
    parts.piece()
    for start, end in pairwise(points):
        parts.tube(start, end, thick, paint=1, new=False)


def bottle(parts: Parts, u: Dice) -> None:
    body, shoulder, neck, radius = u(1.8, 3.8), u(0.3, 1.3), u(0.5, 1.5), u(0.28, 0.48)
    parts.tube((0, 0, 0), (0, 0, body), u(0.85, 1.05), paint=0)
    parts.tube((0, 0, body), (0, 0, body + shoulder), 0.95, radius / 0.95, paint=0)
    top = body + shoulder + neck
    parts.tube((0, 0, body + shoulder), (0, 0, top), radius, u(0.8, 1.0), paint=0)
    if u.chance(0.6):
        parts.tube((0, 0, top - 0.15), (0, 0, top + u(0.1, 0.3)), radius * u(1.05, 1.3), paint=1)
    if u.chance(0.5):
        low = body * u(0.15, 0.35)
        parts.tube((0, 0, low), (0, 0, low + body * u(0.3, 0.5)), 1.07, paint=2)


def _legs(parts: Parts, u: Dice, x: float, y: float, height: float, thick: float, paint: int) -> None:
    round_legs, splay = u.chance(0.5), u(0.0, 0.18)
    for sx in (-1, 1):
        for sy in (-1, 1):
            if round_legs:
                foot = (sx * (x + splay), sy * (y + splay), 0.0)
                parts.tube(foot, (sx * x, sy * y, height), thick, u(1.0, 1.3), paint)
            else:
                parts.box((sx * x, sy * y, height / 2), (thick, thick, height / 2), paint)


def chair(parts: Parts, u: Dice) -> None:
    depth, height, slab, thick = u(0.8, 1.1), u(0.8, 1.7), u(0.06, 0.14), u(0.07, 0.13)
    back = u(1.0, 2.0)
    _legs(parts, u, 1 - thick, depth - thick, height, thick, 1)
    parts.box((0, 0, height), (1.0, depth, slab))
    rear = depth - 0.09
    if u.chance(0.5):
        parts.box((0, rear, height + back / 2), (u(0.8, 1.0), u(0.06, 0.12), back / 2))
    else:
        for sx in (-1, 1):
            parts.box((sx * 0.88, rear, height + back / 2), (0.1, 0.09, back / 2), 1)
        for k in range(u.integer(2, 3)):
            parts.box((0, rear, height + back * (0.9 - 0.3 * k)), (0.8, 0.06, back * 0.09))
    if u.chance(0.25):
        for sx in (-1, 1):
            parts.box((sx * 0.95, 0.1, height + 0.6), (0.07, depth * 0.8, 0.06), 1)
            parts.box((sx * 0.95, -depth * 0.6, height + 0.3), (0.06, 0.06, 0.3), 1)


def table(parts: Parts, u: Dice) -> None:
    height, slab, thick = u(0.8, 1.8), u(0.06, 0.14), u(0.07, 0.14)
    long = u(0.9, 1.7)
    if u.chance(0.4):
        parts.tube((0, 0, height), (0, 0, height + 2 * slab), u(0.95, 1.3))
        long = 1.0
        inset = 0.62
    else:
        parts.box((0, 0, height + slab), (long, u(0.85, 1.1), slab))
        inset = 0.78
    if u.chance(0.3):
        parts.tube((0, 0, 0), (0, 0, height), u(0.14, 0.24), paint=1)
        parts.tube((0, 0, 0), (0, 0, 0.12), u(0.5, 0.8), 0.7, 1)
    else:
        _legs(parts, u, long * inset, inset, height, thick, 1)


def lamp(parts: Parts, u: Dice) -> None:
    foot, pole, thick = u(0.45, 0.85), u(1.1, 2.6), u(0.06, 0.13)
    parts.tube((0, 0, 0), (0, 0, u(0.08, 0.25)), foot, u(0.5, 1.0), 1)
    wide, tall, taper = u(0.6, 1.1), u(0.6, 1.2), u(0.3, 0.75)
    if u.chance(0.6):
        parts.tube((0, 0, 0), (0, 0, pole + 0.2 * tall), thick, paint=1)
        parts.tube((0, 0, pole), (0, 0, pole + tall), wide, taper, 0, OPEN_BOTTOM | OPEN_TOP)
    else:
        bend, reach = u(0.3, 0.7), u(0.5, 1.1)
        elbow, head = (-bend, 0.0, pole * 0.6), (-bend + reach, 0.0, pole * 1.1)
        parts.tube((0, 0, 0.05), elbow, thick, paint=1)
        parts.tube(elbow, head, thick, paint=1)
        drop = u(0.2, 0.7)
        rim = (head[0] + drop * tall, 0.0, head[2] - tall * 0.8)
        parts.tube(rim, (head[0] - 0.1, 0.0, head[2] + 0.08), wide * 0.75, taper * 0.7, 0, OPEN_BOTTOM)


def car(parts: Parts, u: Dice) -> None:
    long, wide, tall, wheel = u(1.5, 2.2), u(0.75, 1.0), u(0.24, 0.42), u(0.3, 0.46)
    floor = wheel * u(0.8, 1.1)
    parts.box((0, 0, floor + tall), (long, wide, tall))
    roof, span, shift = u(0.25, 0.48), long * u(0.38, 0.68), long * u(-0.3, 0.15)
    top = floor + 2 * tall
    if u.chance(0.35):
        parts.ball((shift, 0, top), (span * 1.15, wide * 0.9, roof * 2), 2)
    else:
        parts.box((shift, 0, top + roof), (span, wide * 0.9, roof), 2)
    axle = long * u(0.55, 0.7)
    for sx in (-1, 1):
        for sy in (-1, 1):
            y = sy * wide
            parts.tube((sx * axle, y - 0.12, wheel), (sx * axle, y + 0.12, wheel), wheel, paint=1)


def house(parts: Parts, u: Dice) -> None:
    long, wide, tall = u(0.9, 1.7), u(0.75, 1.1), u(0.45, 1.0)
    parts.box((0, 0, tall), (long, wide, tall))
    rise, eaves = min(u(0.5, 1.2), 2 * tall), u(1.04, 1.2)
    # A gable roof: the cube turned by 45 degrees about the ridge, squeezed, its lower half inside the house.
    flat, up = 0.5 * wide * eaves, 0.5 * rise
    parts.piece()
    parts.add(BOX, [long * eaves, 0.0, 0.0, 0.0, flat, -flat, 0.0, up, up], (0, 0, 2 * tall), 1)
    if u.chance(0.6):
        x, y = long * u(-0.7, 0.7), wide * 0.45
        parts.box((x, y, 2 * tall + rise * 0.6), (0.14, 0.14, rise * u(0.4, 0.65)), 2)
    side = 1 if u.chance(0.5) else -1
    parts.box((long * u(-0.5, 0.5), side * wide, tall * 0.5), (0.18, 0.04, tall * 0.5), 2)
    parts.box((side * long, wide * u(-0.4, 0.4), tall * 1.1), (0.04, 0.25, tall * 0.3), 2)


def snowman(parts: Parts, u: Dice) -> None:
    radius, z, squash = 1.0, 0.0, u(0.85, 1.0)
    count = 3 if u.chance(0.7) else 2
    for k in range(count):
        z += radius * squash * (1.0 if k == 0 else 0.8)
        parts.ball((0, 0, z), (radius, radius, radius * squash))
        if k == 1 and u.chance(0.6):
            for sy in (-1, 1):
                tip = (u(-0.3, 0.3), sy * (radius + u(0.5, 0.9)), z + u(0.0, 0.6))
                parts.tube((0, sy * radius * 0.8, z), tip, 0.07, 0.8, 1)
        last, radius = radius, radius * u(0.62, 0.82)
        if k < count - 1:
            z += last * squash * 0.8
    parts.tube((last * 0.85, 0, z), (last * u(1.5, 2.1), 0, z), last * 0.22, 0.15, 2)
    top = z + last * squash * 0.85
    if u.chance(0.65):
        parts.tube((0, 0, top - 0.04), (0, 0, top + 0.05), last * u(0.95, 1.2), paint=1)
        parts.tube((0, 0, top), (0, 0, top + last * u(0.6, 1.2)), last * u(0.55, 0.75), paint=1)


def dumbbell(parts: Parts, u: Dice) -> None:
    reach, thick, end, wide = u(0.8, 1.5), u(0.14, 0.26), u(0.5, 0.85), u(0.22, 0.5)
    style = u.integer(0, 3)
    parts.tube((-reach - wide, 0, end), (reach + wide, 0, end), thick, paint=1)
    for sx in (-1, 1):
        x = sx * reach
        if style == 0:
            parts.ball((x, 0, end), (end * 0.85, end, end))
        elif style == 1:
            parts.box((x, 0, end), (wide, end * 0.85, end * 0.85))
        else:
            parts.tube((x - sx * wide, 0, end), (x + sx * wide, 0, end), end)
            if style == 3:
                parts.tube((x - sx * wide * 2.2, 0, end), (x - sx * wide, 0, end), end * u(0.6, 0.8), paint=2)


def stairs(parts: Parts, u: Dice) -> None:
    steps, run, rise, wide = u.integer(3, 5), u(0.22, 0.42), u(0.2, 0.4), u(0.45, 1.0)
    hollow = u.chance(0.3)
    for k in range(steps):
        top = (k + 1) * rise
        half = rise * 0.5 if hollow and k else top / 2
        parts.box((2 * run * k, 0, top - half), (run, wide, half), k % 2 if hollow else 0)
    if u.chance(0.3):
        tall, y = u(0.6, 1.0), wide * 0.92
        start, end = (0.0, y, rise + tall), (2 * run * (steps - 1), y, steps * rise + tall)
        parts.tube(start, end, 0.06, paint=1)
        parts.tube((0, y, rise), start, 0.06, paint=1)
        parts.tube((end[0], y, steps * rise), end, 0.06, paint=1)


_BUILDERS = (mug, bottle, chair, table, lamp, car, house, snowman, dumbbell, stairs)
BUILDERS: dict[str, Callable[[Parts, Dice], None]] = {build.__name__: build for build in _BUILDERS}
CLASSES: tuple[str, ...] = tuple(BUILDERS)
