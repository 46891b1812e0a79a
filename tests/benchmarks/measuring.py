"""How two ways of doing one thing are compared: in turn, in one process, again and again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Seconds:
    """What one go took: by the clock, and of the processor over all of this process's threads."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Ratio:
    """Of paired measurements: their median, and the least and the most."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{figure(self.median)} ({figure(self.low)} to {figure(self.high)})"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: What is compared with what.
        measured: The figure, usually a :class:`Ratio`.
        goal: What it should be; "" where it only informs.
        met: Whether it is; None without a goal, or where it could not be measured.
        beside: The absolute figures, and what a reader must know.
    """

    what: str
    measured: str
    goal: str = ""
    met: bool | None = None
    beside: str = ""


@dataclass
class Found:
    """What a benchmark found: rows for the table, and text (Markdown) below it."""

    rows: list[Row] = field(default_factory=list)
    details: str = ""

    def to_mapping(self) -> dict[str, Any]:
        return {"rows": [asdict(row) for row in self.rows], "details": self.details}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Found:
        return cls([Row(**row) for row in values["rows"]], values["details"])


def clocked(go: Callable[[], Any]) -> Seconds:
    """One go."""
    wall, cpu = time.perf_counter(), time.process_time()
    go()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def alternating(
    sides: Mapping[str, Callable[..., Any]],
    repeats: int,
    *,
    warm: bool = True,
    ready: Callable[[], tuple[Any, ...]] = tuple,
) -> dict[str, list[Seconds]]:
    """Each side ``repeats`` times, in turn, every second round in the other order: what drifts hits all alike.

    Args:
        warm: One go of each beforehand, which does not count.
        ready: Makes what the sides are called with, off the clock.
    """
    if warm:
        for go in sides.values():
            go(*ready())
    taken: dict[str, list[Seconds]] = {name: [] for name in sides}
    for number in range(repeats):
        names = list(sides)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            given = ready()
            taken[name].append(clocked(partial(sides[name], *given)))
    return taken


def added(one: Sequence[Seconds], other: Sequence[Seconds]) -> list[Seconds]:
    """What both took one after the other, go by go."""
    return [Seconds(a.wall + b.wall, a.cpu + b.cpu) for a, b in zip(one, other, strict=True)]


def ratio(over: Sequence[Seconds], under: Sequence[Seconds], clock: str = "wall", times: float = 1.0) -> Ratio:
    """``times`` · over / under, go by go."""
    each = [times * getattr(a, clock) / getattr(b, clock) for a, b in zip(over, under, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def at_most(what: str, found: Ratio, limit: float, beside: str = "") -> Row:
    """A row whose goal is a ratio of ``limit`` at most."""
    return Row(what, str(found), f"≤ {figure(limit)}", found.median <= limit, beside)


def at_least(what: str, found: Ratio, limit: float, beside: str = "") -> Row:
    """A row whose goal is a ratio of ``limit`` at least."""
    return Row(what, str(found), f"≥ {figure(limit)}", found.median >= limit, beside)


def middle(taken: Sequence[Seconds], clock: str = "wall") -> float:
    """Median seconds."""
    return statistics.median(getattr(one, clock) for one in taken)


def both_clocks(over: Sequence[Seconds], under: Sequence[Seconds], times: float = 1.0) -> str:
    """The same ratio in processor time: what stands where other programs disturb the clock."""
    return f"in CPU time {ratio(over, under, 'cpu', times)}"


def require(holds: bool, what: str) -> None:
    """Nothing is measured of two sides that do not do the same.

    Raises:
        AssertionError: They do not. (No ``assert``: that is gone under ``python -O``.)
    """
    if not holds:
        raise AssertionError(f"not measured, as it is not true that {what}")


def figure(value: float) -> str:
    """Three digits that say something: 0.0213, 1.04, 37.2, 4,310."""
    if value != 0 and abs(value) < 0.1:
        return f"{value:.3g}"
    for bound, digits in ((10, 2), (100, 1)):
        if abs(value) < bound:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"
