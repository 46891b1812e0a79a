"""Means and intervals over seeds, and paired differences, from the runs of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .run_folder import RunFolder

DRAWS = 2000
"""Bootstrap draws over seeds; within each seed the run's own replicates are drawn from."""


KEYS = ("encoder", "task", "protocol", "labels", "data", "modality")
Key = tuple[str, str, str, str, str, str]
"""The values of ``KEYS``: what a row is of."""


@dataclass
class Row:
    """One encoder under one label budget of one data set, seed by seed."""

    about: Mapping[str, Any]
    metrics: dict[int, float]
    replicates: dict[int, np.ndarray]


def summarise(runs: Sequence[tuple[str, int, Path]], reference: str) -> dict[str, Any]:
    """Rows of a comparison from its runs.

    Intervals (95 %) are bootstrapped over seeds, and over test samples and label draws within each seed. Differences
    are paired: the same seeds, test samples and label draws on both sides.

    Args:
        runs: Name of the variant, number of the seed and folder of each run.
        reference: The name that differences are taken to.
    """
    rows = _rows(runs)
    table = []
    for key, row in rows.items():
        entry = {
            **dict(zip(KEYS, key, strict=True)), **row.about,
            "seeds": sorted(row.metrics), "per_seed": [row.metrics[seed] for seed in sorted(row.metrics)],
            "mean": float(np.mean(list(row.metrics.values()))), "interval": interval(row.replicates),
        }  # fmt: skip
        other = next((r for another, r in rows.items() if _is_reference(another, reference, key)), None)
        if other is not None and key[0] != reference and (apart := _apart(row, other)):
            entry["difference"] = {"over": reference, **apart}
        table.append(entry)
    return {"rows": table}


def _apart(row: Row, other: Row) -> dict[str, Any] | None:
    """The paired difference over common seeds; None where there is none."""
    common = sorted(row.metrics.keys() & other.metrics.keys())  # each may have failed where the other did not
    if not common:
        return None
    apart = {seed: row.replicates[seed] - other.replicates[seed] for seed in common}
    value = float(np.mean([row.metrics[seed] - other.metrics[seed] for seed in common]))
    return {"value": value, "interval": interval(apart)}


def _is_reference(other: Key, reference: str, key: Key) -> bool:
    """The reference under the same protocol; baselines that are trained on labels have one of their own."""
    protocols = {key[2], other[2]}
    alike = len(protocols) == 1 or "supervised" in protocols
    return other == (reference, key[1], other[2], *key[3:]) and alike


def _rows(runs: Sequence[tuple[str, int, Path]]) -> dict[Key, Row]:
    out: dict[Key, Row] = {}
    for variant, seed, path in runs:
        folder = RunFolder(path)
        held = {entry["digest"] for entry in folder.read_result()["evaluations"]}
        for place, entry in folder.evaluations():
            if entry["digest"] not in held:
                continue
            name = variant if entry["encoder"] == "distilled" else entry["encoder"]
            about = {key: entry[key] for key in ("n_train", "n_test", "draws")}
            about |= {"metric": entry["primary"], "per_class": entry.get("per_class", True)}
            key = (name, entry["task"], entry["protocol"], entry["labels"], entry["data"], entry["modality"])
            row = out.setdefault(key, Row(about, {}, {}))
            row.metrics[seed] = entry["metrics"][entry["primary"]]
            row.replicates[seed] = np.load(place / "replicates.npy", allow_pickle=False)
    return out


def interval(replicates: Mapping[int, np.ndarray]) -> list[float]:
    """2.5 and 97.5 percentiles of the mean over seeds: seeds resampled, and one replicate drawn of each."""
    stacked = np.stack([replicates[seed] for seed in sorted(replicates)])
    count, each = stacked.shape
    generator = np.random.default_rng(0)
    seeds = generator.integers(count, size=(DRAWS, count))
    picked = generator.integers(each, size=(DRAWS, count))
    low, high = np.quantile(stacked[seeds, picked].mean(axis=1), [0.025, 0.975])
    return [float(low), float(high)]
