"""``cmcd data describe`` in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST_CLASSES = 12


def lines(values: Mapping[str, Any]) -> Iterator[str]:
    """The content of ``describe --json`` as lines for a person."""
    yield f"data        {values['data']} ({values['loader']})"
    for split, told in values["splits"].items():
        parts = [f"{told['samples']} samples"]
        parts += [f"{count} {name}" for name, count in told["views"].items()]
        parts += [f"{count} with {name}" for name, count in told["targets"].items()]
        parts += [f"{told['weighted']} with a weight of their own"] if told["weighted"] else []
        yield f"{split:<11} {', '.join(parts)}"
    for name, told in values["modalities"].items():
        yield f"{name:<11} {_modality(told)}"
    pairs = {"instance": "two views of one thing", "label": "two things of one class"}
    aligned = f"; {', '.join(values['aligned'])} on one pixel grid" if values["aligned"] else ""
    yield f"pairs       {pairs.get(values['pairs'], values['pairs'])}{aligned}"
    for pairing in values["pairing"]:
        yield f"            {_pairing(pairing)}"
    yield from _classes(values)
    for note in values["notes"]:
        yield f"note        {note}"


def _modality(told: Mapping[str, Any]) -> str:
    if "unknown" in told:
        return str(told["unknown"])
    said = ", ".join(f"{key} = {value}" for key, value in told["said"].items())
    end = f"; the data set says {said}" if said else ""
    end += f"; {told['unreadable']} unreadable" if told["unreadable"] else ""
    if "sizes" not in told:
        return f"none looked at{end}"
    sizes = told["sizes"]
    smallest, largest = ("×".join(map(str, sizes[name])) for name in ("smallest", "largest"))
    size = smallest if sizes["distinct"] == 1 else f"{smallest} to {largest} ({sizes['distinct']} sizes)"
    low, high = told["range"]
    few, middle, many = told["medians"]
    channels = f"{told['channels']} channel{'s' * (told['channels'] != 1)}"
    items = f"; {told['items']} distinct of {told['looked_at']} looked at"
    return (
        f"{size}, {channels}, values {low:.3g} to {high:.3g}, medians {few:.3g} … {middle:.3g} … {many:.3g}{items}{end}"
        + "".join(f"; {doubt}" for doubt in told["doubts"])
    )


def _pairing(pairing: Mapping[str, Any]) -> str:
    both = f"{pairing['first']} and {pairing['second']}"
    if pairing["p"] is None:
        return f"{both}: {pairing['pairs']} independent pairs looked at, too few to tell whether they belong together"
    times = pairing["statistic"] / pairing["chance"]
    return f"{both}: from afar they go together {times:.1f} times as well as shuffled (p = {pairing['p']:.3f})"


def _classes(values: Mapping[str, Any]) -> Iterator[str]:
    for target, names in values["classes"].items():
        yield f"{target:<11} {len(names)} classes: {_listed(names)}"
    counts = [told["labels"] for told in values["splits"].values() if told["labels"]]
    if counts:
        train = sorted(counts[0].items(), key=lambda item: (-item[1], item[0]))
        (most, largest), (least, smallest) = train[0], train[-1]
        yield f"            samples a class: {smallest} ({least}) to {largest} ({most})"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:MOST_CLASSES])
    return shown if len(names) <= MOST_CLASSES else f"{shown} … {len(names) - MOST_CLASSES} more"
