"""What a check has to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MOST_EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes:
        level: "problem": a run stops at it. "warning": a run goes on, and its result may not be what it seems.
        kind: In one word, for programs.
        text: One sentence.
        advice: What to do about it.
        count: How many samples or classes it is about.
        examples: The first of them, by key or name.
    """

    level: Literal["problem", "warning"]
    kind: str
    text: str
    advice: str = ""
    count: int = 1
    examples: tuple[str, ...] = ()


def problem(kind: str, text: str, advice: str = "", among: Sequence[str] = ()) -> Finding:
    """Something that a run would stop at."""
    return Finding("problem", kind, text, advice, len(among) or 1, tuple(among[:MOST_EXAMPLES]))


def warning(kind: str, text: str, advice: str = "", among: Sequence[str] = ()) -> Finding:
    """Something that a run would not notice."""
    return Finding("warning", kind, text, advice, len(among) or 1, tuple(among[:MOST_EXAMPLES]))


def of(count: int, noun: str) -> str:
    """'1 view', '2 views', '2 classes'."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
