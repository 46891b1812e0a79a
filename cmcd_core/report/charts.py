"""The report's charts. Each is drawn about as wide as a phone, and takes more room where there is some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from .svg import DASHES, Scale, around, drawing, element, in_steps, line, marker, path, short, text, together
from .words import percent

WIDE = 440
CLASSES = 11
"""Colours of the page; more classes are not told apart by colour."""
NUMBERED, NAMED = 15, 40
"""Classes up to which a confusion matrix shows numbers, and names."""


@dataclass(frozen=True)
class Style:
    """How one series looks: colour, form of its marks, dashes."""

    colour: int
    form: int = 0
    dashes: int = 0
    hollow: bool = False

    @property
    def mark(self) -> str:
        return f"{'hollow' if self.hollow else 'mark'} c{self.colour}"


@dataclass(frozen=True)
class Point:
    """One value with its interval, where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[Point]
    style: Style


@dataclass(frozen=True)
class Row:
    """One row of a chart of intervals."""

    name: str
    value: float
    low: float
    high: float
    style: Style
    shown: str


def legend(entries: Sequence[tuple[str, Style]], *, lines: bool = True) -> Markup:
    """What each line or mark is; told apart by form and dashes too."""
    items = []
    for name, style in entries:
        stroke = line(1, 8, 27, 8, f"line c{style.colour}", stroke_dasharray=DASHES[style.dashes]) if lines else ""
        swatch = element(
            "svg", stroke, marker(style.form, 14, 8, 4, style.mark), viewBox="0 0 28 16", aria_hidden="true",
            class_="swatch",
        )  # fmt: skip
        items.append(element("li", swatch, name))
    return element("ul", *items, class_="legend")


def lines(
    series: Sequence[Line],
    title: str,
    *,
    x: str,
    y: str,
    log: bool = False,
    x_ticks: Sequence[tuple[float, str]] = (),
    say: Callable[[float], str] | None = None,
    size: tuple[float, float] = (WIDE, 270),
    marks: bool = True,
    zero: bool = False,
) -> Markup:
    """Lines over a common axis, with whiskers where points have intervals."""
    width, height = size
    left, right, top, bottom = 50, width - 12, 26, height - 44
    points = [point for one in series for point in one.points]
    values = [v for point in points for v in (point.y, point.low, point.high) if v is not None]
    across = [point.x for point in points]
    up = around(values, bottom, top, zero=zero)
    along = Scale(min(across), max(across), left + 10, right - 10, log)
    parts: list[Any] = [_grid(up, left, right, say or in_steps(up.ticks()))]
    parts.append(text(left - 42, 14, y, class_="label strong"))
    ticks = x_ticks or [(tick, short(tick)) for tick in along.ticks(5)]
    kept = [tick for number, tick in enumerate(ticks) if number % max(1, -(-len(ticks) // 8)) == 0]
    for value, words in kept:
        parts.append(line(along(value), bottom, along(value), bottom + 4, "axis"))
        parts.append(text(along(value), bottom + 17, words, anchor="middle"))
    parts.append(text((left + right) / 2, height - 6, x, anchor="middle", class_="label strong"))
    for number, one in enumerate(series):
        parts.append(_line(one, along, up, (number - (len(series) - 1) / 2) * 3 if marks else 0, marks, say or short))
    return drawing(width, height, title, *parts, class_="chart")


def _line(one: Line, along: Scale, up: Scale, shift: float, marks: bool, say: Callable[[float], str]) -> Markup:
    style, parts = one.style, []
    places = [(along(point.x) + shift, up(point.y)) for point in one.points]
    if len(places) > 1:
        parts.append(path(places, f"line c{style.colour}", stroke_dasharray=DASHES[style.dashes]))
    for (x, y), point in zip(places, one.points, strict=True):
        if point.low is not None and point.high is not None:
            parts.append(line(x, up(point.low), x, up(point.high), f"whisker c{style.colour}"))
        if marks:
            parts.append(marker(style.form, x, y, 4, style.mark, f"{one.name}: {say(point.y)}"))
    return together(parts)


def _grid(up: Scale, left: float, right: float, say: Callable[[float], str]) -> Markup:
    parts = []
    for tick in up.ticks():
        parts.append(line(left, up(tick), right, up(tick), "axis" if abs(tick) < 1e-12 else "grid"))
        parts.append(text(left - 6, up(tick) + 4, say(tick), anchor="end"))
    return together(parts)


def intervals(rows: Sequence[Row], title: str, *, x: str, say: Callable[[float], str], zero: bool = False) -> Markup:
    """A row a value: its name above, its interval as a bar, the value beside it."""
    step, left, right = 44, 8, WIDE - 14
    height = 26 + step * len(rows) + 40
    along = around([v for row in rows for v in (row.value, row.low, row.high)], left, right, zero=zero)
    bottom = 14 + step * len(rows)
    parts: list[Any] = []
    for tick in along.ticks():
        parts.append(line(along(tick), 8, along(tick), bottom, "axis" if zero and abs(tick) < 1e-12 else "grid"))
        ends = {along.low: "start", along.high: "end"}
        anchor = ends.get(tick, "middle") if along(tick) < left + 20 or along(tick) > right - 20 else "middle"
        parts.append(text(along(tick), bottom + 16, say(tick), anchor=anchor))
    parts.append(text((left + right) / 2, height - 8, x, anchor="middle", class_="label strong"))
    for number, row in enumerate(rows):
        y = 22 + step * number
        parts.append(_name(left, y, cut(row.name, 44)))
        parts.append(text(right, y, row.shown, anchor="end", class_="label strong"))
        parts.append(line(along(row.low), y + 14, along(row.high), y + 14, f"bar c{row.style.colour}"))
        parts.append(marker(row.style.form, along(row.value), y + 14, 5.5, row.style.mark, f"{row.name}: {row.shown}"))
    return drawing(WIDE, height, title, *parts, class_="chart")


def _name(x: float, y: float, words: str) -> Markup:
    """A row's name, on paper of about its width: grid lines do not cross it."""
    return element("rect", x=x - 1, y=y - 12, width=7.2 * len(words), height=16, class_="behind") + text(
        x, y, words, class_="label name"
    )


@dataclass(frozen=True)
class Change:
    """A value before and after; None where it was not measured."""

    name: str
    before: float | None
    after: float | None


def changes(rows: Sequence[Change], title: str) -> Markup:
    """From hollow (before) to filled (after), on a scale from 0 to 1."""
    step, left, right = 44, 10, WIDE - 12
    height, bottom = 26 + step * len(rows) + 18, 14 + step * len(rows)
    along = Scale(0, 1, left, right)
    parts: list[Any] = []
    for tick, anchor in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end")):
        parts.append(line(along(tick), 8, along(tick), bottom, "grid"))
        parts.append(text(along(tick), bottom + 16, short(tick), anchor=anchor))
    for number, row in enumerate(rows):
        y = 22 + step * number
        ends = [None if value is None else min(1.0, max(0.0, value)) for value in (row.before, row.after)]
        said = " → ".join("–" if value is None else f"{value:.2f}" for value in ends)
        parts.append(_name(left - 2, y, cut(row.name, 46)))
        parts.append(text(right, y, said, anchor="end", class_="label strong"))
        if ends[0] is not None and ends[1] is not None:
            parts.append(line(along(ends[0]), y + 14, along(ends[1]), y + 14, "bar c0"))
        for value, style in zip(ends, (Style(0, 0, hollow=True), Style(0, 0)), strict=True):
            if value is not None:
                parts.append(marker(style.form, along(value), y + 14, 5.5, style.mark))
    return drawing(WIDE, height, title, *parts, class_="chart")


def joint_map(
    both: np.ndarray,
    keys: Sequence[str],
    classes: np.ndarray,
    names: Sequence[str],
    modalities: Sequence[str],
    title: str,
) -> Markup:
    """Two modalities' points, each pair linked: rings are the source, discs the target; colours are classes.

    Args:
        both: (2, n, 2) the source's and the target's points.
        classes: (n,) of each pair; -1: none.
        names: Of the classes; empty, or too many: colours are modalities then.
    """  # fmt: skip
    side, edge = 320, 12
    low, high = both.reshape(-1, 2).min(0), both.reshape(-1, 2).max(0)
    scale = (side - 2 * edge) / max(float((high - low).max()), 1e-9)
    placed = (both - (low + high) / 2) * scale + side / 2
    coloured = 0 < len(names) <= CLASSES
    links = "".join(f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" for a, b in zip(*placed.tolist(), strict=True))
    parts: list[Any] = [element("path", d=links, class_="link")]
    for number, (points, modality) in enumerate(zip(placed.tolist(), modalities, strict=True)):
        for (x, y), key, kind in zip(points, keys, classes.tolist(), strict=True):
            known = coloured and 0 <= kind < len(names)
            style = Style(kind if known else 11 if coloured else number, hollow=number == 0)
            said = f"{key}, {modality}" + (f", {names[kind]}" if 0 <= kind < len(names) else "")
            parts.append(marker(0, round(x, 1), round(y, 1), 3.2, style.mark, said))
    return drawing(side, side, title, *parts, class_="chart map")


def confusion(truth: np.ndarray, predicted: np.ndarray, names: Sequence[str], title: str) -> tuple[Markup, int]:
    """Rows: what it is; columns: what it was taken for, as shares of the row. And its natural width in pixels."""
    count = len(names)
    counts = np.zeros((count, count), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    named = count <= NAMED
    cell = 30.0 if count <= NUMBERED else 17.0 if named else max(4.0, 640 / count)
    edge = 104.0 if named else 26.0
    side = edge + cell * count + 4
    parts: list[Any] = []
    for number, name in enumerate(names if named else ()):
        middle = edge + cell * (number + 0.5)
        parts.append(text(edge - 6, middle + 4, cut(name, 14), anchor="end"))
        turned = f"rotate(-90 {middle + 4:.1f} {edge - 6:.1f})"
        parts.append(text(middle + 4, edge - 6, cut(name, 14), transform=turned))
    parts.append(text(edge, 14, "taken for →", class_="label strong"))
    parts.append(
        text(12, edge + 4, "is →", anchor="end", class_="label strong", transform=f"rotate(-90 12 {edge:.0f})")
    )
    parts.append(element("rect", x=edge, y=edge, width=cell * count, height=cell * count, class_="frame"))
    for row, column in np.argwhere(counts > 0).tolist():
        x, y = edge + cell * column, edge + cell * row
        said = f"{names[row]} taken for {names[column]}: {counts[row, column]} ({percent(shares[row, column])})"
        right = "c2" if row == column else "c1"
        hover = element("title", said) if named else ""
        parts.append(
            element(
                "rect",
                hover,
                x=x + 0.5,
                y=y + 0.5,
                width=cell - 1,
                height=cell - 1,
                class_=f"cell {right}",
                fill_opacity=round(0.08 + 0.92 * float(shares[row, column]), 2),
            )
        )
        if count <= NUMBERED:
            dark = " on" if shares[row, column] > 0.5 else ""
            words = str(counts[row, column])
            parts.append(text(x + cell / 2, y + cell / 2 + 4, words, anchor="middle", class_=f"label count{dark}"))
    return drawing(side, side, title, *parts, class_="chart matrix", natural=True), round(side)


def parts_of_whole(amounts: Mapping[str, float], title: str, say: Callable[[float], str]) -> Markup:
    """One bar of several lengths, and what each is."""
    total = sum(amounts.values()) or 1.0
    start, parts, entries = 0.0, [], []
    for number, (name, amount) in enumerate(amounts.items()):
        length = WIDE * amount / total
        hover = element("title", f"{name}: {say(amount)}")
        parts.append(
            element("rect", hover, x=start, y=0, width=max(0.0, length - 1), height=26, class_=f"piece c{number}")
        )
        start += length
        entries.append((f"{name}, {say(amount)}", Style(number, 1)))
    bar = drawing(WIDE, 26, title, *parts, class_="chart bar-of-parts", preserveAspectRatio="none")
    return bar + legend(entries, lines=False)


def cut(words: str, longest: int) -> str:
    """The start of a name that is too long for its place."""
    return words if len(words) <= longest else f"{words[: longest - 1]}…"
