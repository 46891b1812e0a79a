"""How results are said in words: budgets, encoders, shares, points, times; the same in the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

ORDER = ("distilled", "scratch", "ssl-target")
LAST = ("untrained", "source")
MEANINGS: Mapping[str, str] = {
    "distilled": "this run's target encoder, taught by distillation",
    "scratch": "the same network, trained from scratch on the same labels alone",
    "ssl-target": "the same network, self-supervised on the target's own unlabelled views",
    "untrained": "the same network with random weights",
    "source": "the source encoder, for reference",
}
STAGES: Mapping[str, str] = {
    "data": "reading data",
    "pretrain": "step 1: source encoder",
    "distill": "step 2: distillation",
    "distance": "measuring distances",
    "baselines": "training baselines",
    "evaluate": "step 3: evaluation",
    "report": "pictures for the report",
}


class Headline(NamedTuple):
    """An estimate that is named in the open, in words; the rest is in result.json and ``cmcd distance``.

    Attributes:
        centred: Each modality's mean taken away.
        end: Which of its numbers is sure: of a bound not the value, but ``"low"`` or ``"high"``.
    """

    name: str
    centred: bool
    end: str
    words: str


ALIKE = (
    Headline("retrieval_at_1_target_to_source", False, "value", "own partner is the nearest (target to source)"),
    Headline("retrieval_at_1_source_to_target", False, "value", "own partner is the nearest (source to target)"),
    Headline("linear_cka_unbiased", False, "value", "linear CKA, unbiased"),
)
"""On a scale from 0 to 1, which is the same."""
APART = (
    Headline("tv_lower_bound", False, "low", "total variation, at least"),
    Headline("tv_lower_bound", True, "low", "total variation, means away, at least"),
    Headline("class_discrepancy", True, "high", "mass of a half-space, means away, at most"),
)
"""On a scale from 0, which is the same, to 1."""


def sure(estimates: Sequence[Mapping[str, Any]], one: Headline) -> float | None:
    """The number of it that is sure; None where it was not made, or has none."""
    found = next((e[one.end] for e in estimates if (e["name"], e["centred"]) == (one.name, one.centred)), None)
    return None if found is None or not isfinite(found) else float(found)


def estimated(estimate: Mapping[str, Any]) -> str:
    """Value and interval: ``0.97  [0.93, ]``, where the upper end is not known; p-values are in the JSON."""
    ends = ["" if estimate[end] is None else f"{estimate[end]:.2g}" for end in ("low", "high")]
    return f"{estimate['value']:.3g}" + (f"  [{ends[0]}, {ends[1]}]" if any(ends) else "")


def rank(encoder: str) -> int:
    """The order of rows: what the user came for first, what is there for reference last."""
    if encoder in ORDER:
        return ORDER.index(encoder)
    return len(ORDER) + 1 + LAST.index(encoder) if encoder in LAST else len(ORDER)


def budget(entry: Mapping[str, Any]) -> str:
    """``5 a class``, ``5 in all`` (masks and numbers have no class), ``10%``."""
    labels = str(entry["labels"])
    if "%" in labels:
        return labels
    return f"{labels} a class" if entry.get("per_class", True) else f"{labels} in all"


def labels(entry: Mapping[str, Any]) -> str:
    """A budget in a sentence: ``5 labels a class``, ``1 label in all``, ``10% of the labels``, ``all labels``."""
    given = str(entry["labels"])
    if given == "100%":
        return "all labels"
    if "%" in given:
        return f"{given} of the labels"
    return f"{counted(int(given), 'label')}{budget(entry).removeprefix(given)}"


def labels_of(comparison: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> str:
    """The budget of a paired difference in a sentence; whether it is one a class, the evaluations say."""
    same = ("task", "labels", "data")
    return labels(next(entry for entry in evaluations if all(entry[key] == comparison[key] for key in same)))


def meaning(encoder: str) -> str:
    """What a row's encoder is; those that have no name of their own were taught by another objective."""
    return MEANINGS.get(encoder, f"the same network, taught by {encoder}")


def percent(share: float) -> str:
    """``0.536`` -> ``53.6 %``; the space holds both together."""
    return f"{share * 100:.1f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """``0.157`` -> ``+15.7``; the sign is a minus, not a hyphen."""
    return f"{difference * 100:+.1f}".replace("-", "\N{MINUS SIGN}")


def span(interval: Sequence[float]) -> str:
    """An interval of a difference: ``+11.7 to +20.0``."""
    return f"{points(interval[0])} to {points(interval[1])}"


def whole(number: float) -> str:
    """``2000`` -> ``2,000``."""
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def counted(number: int, what: str) -> str:
    """``1 pair``, ``2,000 pairs``."""
    return f"{whole(number)} {what}{'' if number == 1 else 's'}"


def short_name(name: str) -> str:
    """``folder:/home/me/pairs`` -> ``pairs``: a title is for others, whose disks are other disks."""
    path = name.partition(":")[2] if "/" in name or "\\" in name else name
    return Path(path.replace("\\", "/") or name).name or name


def plain(value: Any) -> str:
    """A value of a configuration in a cell of a table: ``1, 10%`` of a list, a dash of nothing."""
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
