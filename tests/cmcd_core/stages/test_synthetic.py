"""The claim itself, in miniature: x_A = f(s) and x_B = g(s) + noise share a latent s that the class depends on.

The target sees s among distractors: few labels do not find it, pairs do.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from cmcd_core import RunConfig, Sample, Widths
from cmcd_core.catalog import load
from cmcd_core.data.labels import label_subset
from cmcd_core.stages.distill import distill
from cmcd_core.stages.evaluate import linear
from cmcd_core.stages.labelled import Splits, labelled
from cmcd_core.stages.pairs import match_pairs
from cmcd_core.stages.training import Session
from cmcd_core.stages.weighted_sum import WeightedSum

CLASSES, LATENT, DISTRACTORS = 6, 6, 26
WIDTH = LATENT + DISTRACTORS
SIZES = {"train": 640, "val": 120, "test": 300}


def data(noise: float) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Split -> x_A, x_B, labels."""
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    mixing = rng.standard_normal((LATENT, 16))
    out = {}
    for split, count in SIZES.items():
        labels = np.arange(count) % CLASSES
        latent = 2 * np.eye(CLASSES, LATENT)[labels] + 0.35 * rng.standard_normal((count, LATENT))
        mixed = np.concatenate([latent, 1.6 * rng.standard_normal((count, DISTRACTORS))], axis=1) @ rotation
        x_b = mixed + noise * rng.standard_normal(mixed.shape)
        out[split] = (np.tanh(latent @ mixing / 2).astype(np.float32), x_b.astype(np.float32), labels)
    return out


def accuracy(
    fabric: Fabric, small: SimpleNamespace, objective: str | None, *, noise: float = 0.3, shuffled: bool = False
) -> float:
    """Top-1 of a linear head on 5 labels a class, on the distilled (or untrained) target encoder."""
    made = data(noise)
    target = small.Net(WIDTH, 16, seed=1)
    x_a, x_b, _ = made["train"]
    if shuffled:
        x_a = x_a[np.random.default_rng(1).permutation(len(x_a))]
    if objective:
        source = small.Identity(16).eval()
        a, b = small.views(x_a, "a"), small.views(x_b, "b")
        part = load().objective(objective)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            term = part.build(part.options(), Widths(source=16, target=16))
        config = RunConfig(target="b", distill={"batch_size": 64}).distill
        pairs = match_pairs(a, b, [1.0] * len(x_a))
        bank, total = small.bank(source, a), WeightedSum([(1.0, objective, term)])
        losses = distill(
            fabric, source, target, total, bank, b, pairs, config, 25, seed=0, session=Session()
        ).losses  # fmt: skip
        assert losses[-1] < losses[0]
    task_part = load().task("recognition")
    task: Any = task_part.build(task_part.options())
    parts = {}
    for split, (_, x, labels) in made.items():
        samples = [Sample(str(i), {}, {"label": int(label)}) for i, label in enumerate(labels)]
        parts[split] = labelled(samples, small.views(x, "b"), task, tuple("abcdef"), None)
    splits = Splits(parts["train"], parts["val"], parts["test"], tuple("abcdef"))
    subsets = [label_subset(splits.train.strata, "5", draw=draw, seed=0) for draw in range(3)]
    return dict(linear(target, task, splits, {"5": subsets}, seed=0))["5"].metrics["top1"]


@pytest.mark.parametrize("objective", ["cmd", pytest.param("cmc", marks=pytest.mark.slow)])
def test_distilled_beats_untrained_and_shuffling_the_pairs_kills_the_gain(
    fabric: Fabric, small: SimpleNamespace, objective: str
) -> None:
    untrained = accuracy(fabric, small, None)
    distilled = accuracy(fabric, small, objective)
    control = accuracy(fabric, small, objective, shuffled=True)
    assert untrained > 1.2 / CLASSES, "the untrained features say something"
    assert distilled > untrained + 0.15
    assert control < untrained + 0.05
    assert control < distilled - 0.15


@pytest.mark.slow
def test_the_error_grows_with_the_noise(fabric: Fabric, small: SimpleNamespace) -> None:
    scores = [accuracy(fabric, small, "cmd", noise=noise) for noise in (0.1, 1.0, 3.0)]
    assert scores[0] > scores[1] + 0.05
    assert scores[1] > scores[2] + 0.05
