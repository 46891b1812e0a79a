"""What objects are made of: analytic primitives, and the draws that shape them.

A primitive is a unit shape under an affine map ``p = matrix @ q + centre``: the unit ball, the cube [-1,
1]^3, or a frustum of radius 1 at z = -1 and radius `taper` at z = +1 whose end caps may be open (mugs,
lampshades).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Point = tuple[float, float, float]

BALL, BOX, FRUSTUM = 0, 1, 2
OPEN_BOTTOM, OPEN_TOP = 1, 2


class Dice:
    """Uniform draws from one generator, taken in one block because single draws cost a microsecond each."""

    def __init__(self, rng: np.random.Generator, count: int = 256) -> None:
        self._rng = rng
        self._count = count
        self._values = iter(rng.random(count).tolist())

    def unit(self) -> float:
        """A draw from [0, 1)."""
        value = next(self._values, None)
        if value is None:
            self._values = iter(self._rng.random(self._count).tolist())
            value = next(self._values)
        return float(value)

    def __call__(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.unit() * (high - low + 1))


@dataclass
class Parts:
    """The primitives of one object, in its own frame (z up).

    `group` numbers the pieces a person would draw as one (a handle of six tubes is one); `paint` picks one of
    the object's materials.
    """

    kind: list[int] = field(default_factory=list)
    matrix: list[list[float]] = field(default_factory=list)  # nine values, row by row
    centre: list[Point] = field(default_factory=list)
    taper: list[float] = field(default_factory=list)
    open_ends: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    paint: list[int] = field(default_factory=list)
    current: int = 0

    def piece(self) -> None:
        """The primitives that follow belong to a new piece."""
        self.current += 1

    def add(
        self,
        kind: int,
        matrix: list[float],
        centre: Point,
        paint: int,
        taper: float = 1.0,
        ends: int = 0,
    ) -> None:
        self.kind.append(kind)
        self.matrix.append(matrix)
        self.centre.append(centre)
        self.taper.append(taper)
        self.open_ends.append(ends)
        self.group.append(self.current)
        self.paint.append(paint)

    def box(self, centre: Point, half: Point, paint: int = 0, new: bool = True) -> None:
        if new:
            self.piece()
        self.add(BOX, [half[0], 0.0, 0.0, 0.0, half[1], 0.0, 0.0, 0.0, half[2]], centre, paint)

    def ball(self, centre: Point, radii: Point, paint: int = 0) -> None:
        self.piece()
        self.add(BALL, [radii[0], 0.0, 0.0, 0.0, radii[1], 0.0, 0.0, 0.0, radii[2]], centre, paint)

    def tube(
        self,
        start: Point,
        end: Point,
        radius: float,
        taper: float = 1.0,
        paint: int = 0,
        ends: int = 0,
        new: bool = True,
    ) -> None:
        """A frustum from start (of that radius) to end (radius · taper)."""
        if new:
            self.piece()
        ax, ay, az = (end[0] - start[0]) / 2, (end[1] - start[1]) / 2, (end[2] - start[2]) / 2
        length = math.sqrt(ax * ax + ay * ay + az * az)
        # Any two axes across the tube will do: it is round. The helper must not be parallel to the tube.
        hx, hy, hz = (1.0, 0.0, 0.0) if abs(az) > 0.7 * length else (0.0, 0.0, 1.0)
        ux, uy, uz = ay * hz - az * hy, az * hx - ax * hz, ax * hy - ay * hx
        scale = radius / math.sqrt(ux * ux + uy * uy + uz * uz)
        ux, uy, uz = ux * scale, uy * scale, uz * scale
        vx, vy, vz = (ay * uz - az * uy) / length, (az * ux - ax * uz) / length, (ax * uy - ay * ux) / length
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, (start[2] + end[2]) / 2)
        self.add(FRUSTUM, [ux, vx, ax, uy, vy, ay, uz, vz, az], middle, paint, taper, ends)

    def normalised(self, turn: Floats) -> tuple[Floats, Floats]:
        """Matrices (P, 3, 3) and centres (P, 3) after the rotation `turn` (3, 3).

        The object then stands on z = 0, centred on the z axis, in a box whose diagonal is 1.
        """
        matrices = turn @ np.array(self.matrix).reshape(-1, 3, 3)
        centres = np.array(self.centre) @ turn.T
        reach = np.abs(matrices).sum(axis=2)
        low, high = (centres - reach).min(axis=0), (centres + reach).max(axis=0)
        scale = 1.0 / math.sqrt(float(((high - low) ** 2).sum()))
        origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
        return matrices * scale, (centres - origin) * scale
