"""Inline SVG from Python: elements whose text is escaped, and axes. Colours are CSS classes, so that they follow the
page into dark mode and onto paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

DASHES = ("", "5 4", "1.5 3", "8 3 2 3")


def element(name: str, *content: Any, **attributes: Any) -> Markup:
    """``element("text", "a < b", x=3, text_anchor="end", class_="label")``; None leaves an attribute out."""
    given = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None and value != ""
    ]
    inner = Markup("").join(content)
    return Markup(f"<{name}{''.join(given)}>") + inner + Markup(f"</{name}>")  # its parts are escaped


def together(parts: Iterable[Any]) -> Markup:
    """Several elements, one after the other."""
    return Markup("").join(parts)


def drawing(
    width: float, height: float, title: str, *content: Any, class_: str = "", natural: bool = False, **more: Any
) -> Markup:
    """A picture with a name for those who do not see it; ``natural``: it is never made smaller."""
    return element(
        "svg", *content,
        viewBox=f"0 0 {_number(width)} {_number(height)}", role="img", class_=class_,
        aria_label=title, width=round(width) if natural else None, **more,
    )  # fmt: skip


def text(x: float, y: float, words: str, *, anchor: str = "start", class_: str = "label", **more: Any) -> Markup:
    """Words at a place; ``anchor``: start, middle or end."""
    return element("text", words, x=x, y=y, text_anchor=anchor if anchor != "start" else None, class_=class_, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **more: Any) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, **more)


def path(points: Sequence[tuple[float, float]], class_: str, **more: Any) -> Markup:
    """A line through points."""
    steps = "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
    return element("path", d=f"M{steps}", class_=class_, **more)


def marker(kind: int, x: float, y: float, size: float, class_: str, name: str = "") -> Markup:
    """A mark of one of four forms, told apart without colour; ``name`` appears on hovering."""
    inside = element("title", name) if name else ""
    if kind % 4 == 0:
        return element("circle", inside, cx=x, cy=y, r=size, class_=class_)
    corners = {1: (-0.9, -0.9, 0.9, -0.9, 0.9, 0.9, -0.9, 0.9), 2: (0, -1.3, 1.3, 0, 0, 1.3, -1.3, 0)}
    form = corners.get(kind % 4, (0, -1.25, 1.15, 0.9, -1.15, 0.9))
    pairs = zip(form[::2], form[1::2], strict=True)
    points = " ".join(f"{_number(x + size * dx)},{_number(y + size * dy)}" for dx, dy in pairs)
    return element("polygon", inside, points=points, class_=class_)


@dataclass(frozen=True)
class Scale:
    """From values to pixels; logarithmic where asked for."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (self.end - self.start) * float((at - low) / (high - low) if high > low else 0.5)

    def ticks(self, count: int = 4) -> list[float]:
        """Round values within the scale, about ``count`` of them."""
        if self.log:
            return _log_ticks(self.low, self.high)
        step = _step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def around(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> Scale:
    """A linear scale with round ends that holds all values, and zero where asked for."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-9:
        low, high = low - max(abs(low), 1e-3) * 0.5, high + max(abs(high), 1e-3) * 0.5
    step = _step((high - low) / 4)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end)


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * each for each in (1, 2, 5, 10) if power * each >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10**power for power in decades if low <= 10**power <= high]
    if len(ticks) >= 3:
        return [float(tick) for tick in ticks]
    finer = [each * 10**power for power in decades for each in (1, 2, 5)]
    return [float(tick) for tick in finer if low <= tick <= high]


def in_steps(ticks: Sequence[float]) -> Callable[[float], str]:
    """Words for ticks with just as many decimals as tell neighbours apart."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
    if not 1e-4 <= step < 1:
        return short
    decimals = next(n for n in range(6) if abs(step * 10**n - round(step * 10**n)) < 1e-6 or n == 5)
    return lambda value: f"{value + 0.0:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def short(value: float) -> str:
    """A tick's words: ``0.5``, ``20``, ``1,000``, ``1e-05``."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}", 1) if size >= 1e-3 else f"{value:.0e}"


def _number(value: Any) -> Any:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
