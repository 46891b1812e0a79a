"""Several runs, brought together for one page: runs that differ in the seed alone are one group."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..summary import summarise
from .evidence import Evidence
from .words import labels

FREE = ("run.seed", "run.out", "schema")
LONGEST = 40
Key = tuple[str, str, str, str]
"""Task, protocol, label budget, data set."""


@dataclass(frozen=True)
class Score:
    """One encoder under one budget, over a group's seeds; ``labels``: the budget in words."""

    value: float
    interval: tuple[float, float]
    n_train: int
    n_test: int
    metric: str
    labels: str


@dataclass
class Group:
    """Runs of one configuration.

    Attributes:
        own: Key -> the distilled encoder's score.
        scratch: Task, label budget and data set -> the score of training from scratch.
        gains: Key -> its paired difference over scratch, and the interval.
    """

    name: str
    runs: list[Evidence]
    own: dict[Key, Score] = field(default_factory=dict)
    scratch: dict[tuple[str, str, str], Score] = field(default_factory=dict)
    gains: dict[Key, tuple[float, tuple[float, float]]] = field(default_factory=dict)

    @property
    def first(self) -> Evidence:
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        return [int(run.result.get("seed", 0)) for run in self.runs]

    def mean(self, of: Callable[[Evidence], float]) -> float:
        """Over the group's runs."""
        return float(np.mean([of(run) for run in self.runs]))


def grouped(runs: Sequence[Evidence]) -> list[Group]:
    """Groups in the order of their first runs, named by what tells them apart, scored."""
    together: dict[str, list[Evidence]] = {}
    for run in runs:
        settings = {key: value for key, value in settings_of(run).items() if key not in FREE}
        mark = json.dumps([settings, run.result.get("steps")], sort_keys=True, default=str)
        if not run.config:  # nothing says that two of these have anything in common
            mark = str(run.path.resolve())
        alike = together.setdefault(mark, [])
        if any(run.result.get("seed") == other.result.get("seed") for other in alike):
            alike = together.setdefault(f"{mark} {run.path}", [])  # the same run twice is two, not two seeds
        alike.append(run)
    groups = [Group("", each) for each in together.values()]
    for group, name in zip(groups, _names(groups), strict=True):
        group.name = name
        _score(group)
    return groups


def settings_of(run: Evidence) -> dict[str, Any]:
    """Every key of a configuration with its value: ``distill.lr`` -> 0.005."""
    return dict(_flat(run.config, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, Mapping):
            yield f"{prefix}{key}", value


def differing(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """Key -> its value in each group, of the keys that are not the same in all; None: not set."""
    every = [settings_of(group.first) for group in groups]
    keys = dict.fromkeys(key for values in every for key in values if key not in FREE)
    found = {key: [values.get(key) for values in every] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def _names(groups: Sequence[Group]) -> list[str]:
    """By the objective, where that tells them apart; else by their folders."""
    found = differing(groups)
    objectives = [group.first.objective for group in groups]
    others = [key for key in found if not key.startswith(("objective.", "plugins."))]
    names = objectives
    if others or len(set(objectives)) < len(groups):
        names = [group.first.name + (f" and {len(group.runs) - 1} more" if group.runs[1:] else "") for group in groups]
        values = [", ".join(_setting(key, found[key][n]) for key in others) for n in range(len(groups))]
        if len(set(objectives)) == 1 and 0 < len(others) <= 2 and len(set(values)) == len(groups):
            names = values if max(map(len, values)) <= LONGEST else names
    if len(set(names)) < len(names):
        names = [str(group.first.path) for group in groups]
    return names


def _setting(key: str, value: Any) -> str:
    return f"{key.rpartition('.')[2]} {'by default' if value is None else value}"


def _score(group: Group) -> None:
    """From result.json alone where there is one run; over seeds from the bootstrap's replicates."""
    if len(group.runs) == 1:
        _score_one(group)
        return
    runs = [(group.name, seed, run.path) for seed, run in zip(group.seeds, group.runs, strict=True)]
    for row in _summary(runs, "scratch"):
        score = Score(
            row["mean"], tuple(row["interval"]), row["n_train"], row["n_test"], row["metric"], labels(row)
        )  # fmt: skip
        if row["encoder"] == "scratch":
            group.scratch[_supervised(row)] = score
        if row["encoder"] == group.name:
            key = _key(row)
            group.own[key] = score
            if apart := row.get("difference"):
                group.gains[key] = (apart["value"], tuple(apart["interval"]))


def _summary(runs: Sequence[tuple[str, int, Path]], reference: str) -> list[dict[str, Any]]:
    """Rows of :func:`summarise`.

    Raises:
        ConfigError: The bootstrap's replicates are not there.
    """
    try:
        return list(summarise(runs, reference)["rows"])
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{getattr(error, 'filename', None) or runs[0][2]}: not readable, and differences of runs are made from it",
            "Keep a run's evaluations/ with it, or name other runs.",
        ) from None


def _score_one(group: Group) -> None:
    for entry in group.first.result.get("evaluations", ()):
        metric = entry["primary"]
        score = Score(
            entry["metrics"][metric], tuple(entry["intervals"][metric]), entry["n_train"], entry["n_test"], metric,
            labels(entry),
        )  # fmt: skip
        if entry["encoder"] == "scratch":
            group.scratch[_supervised(entry)] = score
        if entry["encoder"] == "distilled":
            group.own[_key(entry)] = score
    for gain in group.first.result.get("comparisons", ()):
        if gain["over"] == "scratch":
            group.gains[_key(gain)] = (gain["difference"], tuple(gain["interval"]))


def _key(entry: Mapping[str, Any]) -> Key:
    return entry["task"], entry["protocol"], entry["labels"], entry["data"]


def _supervised(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    """What training from scratch, whose protocol is its own, is told apart by."""
    return entry["task"], entry["labels"], entry["data"]


def common_keys(groups: Sequence[Group]) -> list[Key]:
    """What all groups were evaluated by: the first one's tasks, protocols and data sets in its order, fewest labels
    first."""
    shared = [key for key in groups[0].own if all(key in group.own for group in groups)]
    ways = list(dict.fromkeys(way_of(key) for key in shared))
    return sorted(shared, key=lambda key: (ways.index(way_of(key)), groups[0].own[key].n_train))


def way_of(key: Key) -> tuple[str, str, str]:
    """Task, protocol and data set: what the budgets of one curve share."""
    task, protocol, _, place = key
    return task, protocol, place


def apart(one: Group, other: Group, key: Key) -> tuple[float, tuple[float, float]] | None:
    """``one`` less ``other``, paired over seeds, label draws and test samples; None where they are not comparable."""
    first, second = one.own[key], other.own[key]
    seeds = sorted(set(one.seeds) & set(other.seeds))
    if not seeds or (first.n_test, first.metric) != (second.n_test, second.metric):
        return None
    kept = [
        (name, seed, run.path)
        for name, group in (("one", one), ("other", other))
        for seed, run in zip(group.seeds, group.runs, strict=True)
        if seed in seeds
    ]
    for row in _summary(kept, "other"):
        if row["encoder"] == "one" and _key(row) == key and (found := row.get("difference")):
            return found["value"], tuple(found["interval"])
    return None
