"""The bound of :mod:`cmcd_core.theory.bound` for a linear head that a run has left on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from .catalog import Catalog
from .data.labels import label_subset
from .errors import ConfigError, DataError
from .heads import task_of
from .interfaces.encoder import pooled
from .latents import common_space, held_out_split
from .opened import OpenedRun, open_run
from .progress import Progress
from .served import task_splits
from .theory.bound import Bound, generalisation_bound
from .theory.distance import Estimate, tv_lower_bound


@dataclass(frozen=True)
class HeadBound:
    """The bound, and which head it is of."""

    bound: Bound
    about: dict[str, Any]


def head_bound(path: Path, catalog: Catalog, *, labels: str | None, confidence: float, progress: Progress) -> HeadBound:
    """Bound the error of the first draw's linear head of the distilled encoder.

    Features are those that the head sees (each channel at unit variance), divided by the longest training sample's
    length, which the head's norm makes up for: a bound of linear heads does not change by it. The distance is the
    classifier's lower bound of the total variation between the two modalities' held-out features, so that the total is
    no guarantee; it says so.

    Raises:
        ConfigError: The run has no linear head over classes with that budget.
    """
    opened = open_run(path, catalog, steps=("distill", "evaluate"), progress=progress)
    place, entry = _evaluation(opened, labels)
    bench = opened.bench
    train = task_splits(bench, "target", *task_of(opened.folder, entry, catalog)).train
    rows = label_subset(train.strata, entry["labels"], draw=0, seed=bench.seed)
    state = load_file(place / "head.safetensors")
    x = pooled(opened.target, train.views.chunks(rows=train.rows[rows]))
    x = (x - state["mean0"]) / state["std0"]
    longest = float(x.norm(dim=1).max()) or 1.0
    found = generalisation_bound(
        x / longest,
        train.targets.at(rows).numpy(),
        state["head.linear.weight"] * longest,
        state["head.linear.bias"].numpy(),
        discrepancy=_distance(opened, confidence),
        confidence=confidence,
    )
    error = 1 - entry["per_draw"][0]
    about = {key: entry[key] for key in ("encoder", "modality", "task", "labels", "n_train")}
    return HeadBound(found, {**about, "test_error": error})


def _evaluation(opened: OpenedRun, labels: str | None) -> tuple[Path, dict[str, Any]]:
    """The linear evaluation asked for; the one with the most labels where none is named."""
    fitting = [
        (folder, entry)
        for folder, entry in opened.folder.evaluations()
        if entry["encoder"] == "distilled"
        and entry["protocol"] == "linear"
        and entry["modality"] == opened.bench.target.name
        and labels in (None, entry["labels"])
        and {"head.linear.weight", "mean0"} <= load_file(folder / "head.safetensors").keys()
    ]
    if not fitting:
        budget = f" with {labels} labels" if labels else ""
        raise ConfigError(
            f"{opened.folder.path}: no linear head{budget} that tells classes apart",
            f"Make one: cmcd evaluate {opened.folder.path} --task recognition"
            + (f" --labels {labels}" if labels else ""),
        )
    return max(fitting, key=lambda item: int(item[1]["n_train"]))


def _distance(opened: OpenedRun, confidence: float) -> Estimate | None:
    """How far apart the modalities' held-out features are at least, in the common space."""
    split = held_out_split(opened.bench)
    if split is None:
        return None
    try:
        latents = common_space(opened.bench, split, opened.source, opened.target, opened.objective())
    except DataError:
        return None
    return tv_lower_bound(
        np.asarray(latents.source), np.asarray(latents.target), confidence=confidence, paired=True, centred=True
    )
