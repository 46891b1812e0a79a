"""Both encoders' features of held-out pairs in one space: what distances, bounds and retrieval are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data.arrays import evenly
from .errors import DataError
from .interfaces.encoder import Encoder, Features, pooled
from .interfaces.loader import Split
from .interfaces.objective import Objective
from .run_folder import RunFolder
from .students import student
from .teaching import Lesson, taught_objective
from .theory.distance import Estimate, distances
from .workbench import Side, Workbench, frozen

MOST, LEAST = 1000, 16
"""Pairs that are measured: more say little more, fewer say nothing."""
DURING_A_RUN = 400
"""The same within `cmcd run`, where they cost seconds."""
RIDGE = 1e-2
OBJECTIVES, FITTED = "the objective's", "a linear map of the target, fitted on training pairs"


@dataclass(frozen=True)
class Latents:
    """Row i of both is one held-out pair.

    Attributes:
        source, target: (n, d) features in the common space, float32 on the CPU.
        keys: Names of the samples.
        space: Which space that is, in words.
    """

    source: Tensor
    target: Tensor
    keys: tuple[str, ...]
    space: str


def held_out_split(bench: Workbench) -> Split | None:
    """The split whose pairs are measured: test, or val where it has too few; None where both have."""
    names = (bench.source.name, bench.target.name)
    splits: tuple[Split, ...] = ("test", "val")
    for split in splits:
        if sum(all(name in sample.views for name in names) for sample in bench.samples("distill", split)) >= LEAST:
            return split
    return None


def paired_features(
    bench: Workbench, split: Split, source: Encoder, target: Encoder
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """(n, D) and (n, D') features of whole pictures of the pairs of a split, at most ``MOST``, evenly spread."""
    at_source, at_target, keys = _pairs(bench, split, MOST)
    a, b = _features(bench, "source", split, source, at_source), _features(bench, "target", split, target, at_target)
    return a, b, keys


def _pairs(bench: Workbench, split: Split, most: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """(n,) positions among the source's and the target's views, and the samples' keys."""
    first, second = (bench.views("distill", side, split) for side in ("source", "target"))
    _, at_first, at_second = np.intersect1d(first.decoded.rows, second.decoded.rows, return_indices=True)
    if len(at_first) < LEAST:
        raise DataError(f"the {split} split has {len(at_first)} pairs, and distances need at least {LEAST}")
    chosen = evenly(len(at_first), most)
    samples, rows = bench.samples("distill", split), first.decoded.rows[at_first[chosen]]
    return at_first[chosen], at_second[chosen], tuple(samples[row].key for row in rows.tolist())


def _features(bench: Workbench, side: Side, split: Split, encoder: Encoder, rows: np.ndarray) -> Tensor:
    """(n, D) float32 on the CPU."""
    views = bench.views("distill", side, split)
    return pooled(encoder, views.chunks(rows=rows))


def common_space(
    bench: Workbench, split: Split, source: Encoder, target: Encoder, objective: Objective | None
) -> Latents:
    """The pairs of a split in the objective's space; where it has none, in the source's, by a fitted linear map."""
    a, b, keys = paired_features(bench, split, source, target)
    a, b, space = in_one_space(bench, source, target, objective, a, b)
    return Latents(a, b, keys, space)


def in_one_space(
    bench: Workbench, source: Encoder, target: Encoder, objective: Objective | None, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor, str]:
    """Features of either side, paired or not, where they can be compared.

    Args:
        objective: Whose space it is; None, or one without a space: a map is fitted on the training pairs.
        a, b: (n, D) source and (m, D') target features.

    Returns:
        (n, d) and (m, d) features, and which space that is, in words.
    """
    if objective is not None:
        device, rows = bench.fabric.device, max(len(a), len(b))
        with torch.inference_mode():
            both = objective.embed(
                Features(pooled=_repeated(a, rows).to(device)), Features(pooled=_repeated(b, rows).to(device))
            )
        if both is not None and both[0].shape[1] == both[1].shape[1]:
            return both[0][: len(a)].float().cpu(), both[1][: len(b)].float().cpu(), OBJECTIVES
    train_a, train_b, _ = paired_features(bench, "train", source, target)
    return a, _ridge(train_b, train_a)(b), FITTED


def _repeated(x: Tensor, rows: int) -> Tensor:
    """From the first row again, up to so many: ``embed`` is promised as many of one side as of the other."""
    return x if len(x) == rows else x[torch.arange(rows) % len(x)]


def _ridge(inputs: Tensor, outputs: Tensor) -> Any:
    """The affine map of least squared error, with a penalty on standardised inputs."""
    mean, std, centre = inputs.mean(0), inputs.std(0) + 1e-6, outputs.mean(0)
    x = ((inputs - mean) / std).double()
    gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, x.T @ (outputs - centre).double()).float()
    return lambda new: (new - mean) / std @ weights + centre


@dataclass(frozen=True)
class BeforeAndAfter:
    """The same held-out pairs, as the student saw them before distillation and as it sees them after it."""

    split: Split
    before: Latents
    after: Latents


def before_and_after(
    bench: Workbench, folder: RunFolder, source: Encoder, target: Encoder, lesson: Lesson
) -> BeforeAndAfter | None:
    """Features of at most ``DURING_A_RUN`` held-out pairs; None where there are too few, and the user is told."""
    split = held_out_split(bench)
    if split is None:
        bench.note(f"distances need at least {LEAST} pairs of a test or val split, and there are fewer")
        return None
    at_source, at_target, keys = _pairs(bench, split, DURING_A_RUN)
    features = _features(bench, "source", split, source, at_source)

    def seen_by(encoder: Encoder, trained: bool) -> Latents:
        objective = taught_objective(bench, folder, source, encoder, lesson, trained=trained)
        seen = _features(bench, "target", split, encoder, at_target)
        a, b, space = in_one_space(bench, source, encoder, objective, features, seen)
        return Latents(a, b, keys, space)

    return BeforeAndAfter(split, seen_by(frozen(bench, student(bench, folder, source)), False), seen_by(target, True))


def distance_entry(found: BeforeAndAfter | None) -> dict[str, Any]:
    """result.json's ``distance``: every estimate, before and after. Empty where there are too few pairs."""
    if found is None:
        return {}
    return {
        "split": found.split,
        "pairs": len(found.after.keys),
        "space": found.after.space,
        "before": estimates(found.before),
        "after": estimates(found.after),
    }


def estimates(latents: Latents, *, seed: int = 0, permutations: int = 0) -> list[dict[str, Any]]:
    """Every distance of held-out pairs, raw and with each modality's mean taken away; JSON-ready."""
    found: Sequence[tuple[bool, Estimate]] = [
        (centred, estimate)
        for centred in (False, True)
        for estimate in distances(
            latents.source, latents.target, paired=True, centred=centred, seed=seed, permutations=permutations
        )
    ]
    return [{**asdict(estimate), "centred": centred} for centred, estimate in found]
