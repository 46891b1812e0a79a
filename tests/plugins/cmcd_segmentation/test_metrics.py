"""Scores of masks against counts by NumPy, on random masks with ignored pixels and absent classes."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from cmcd_segmentation import SegmentationOptions, build
from cmcd_segmentation.metrics import THRESHOLDS, BestF, MaskScores, segmentation_metrics
from hypothesis import given, settings
from hypothesis import strategies as st

IGNORE = 255
NAMES = ("sky", "road", "tree", "car", "sign")


def pictures(seed: int, classes: int, count: int, absent: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """``count`` pictures of sizes of their own: (1, K, H, W) logits, which lean to the truth, and (1, H, W) masks.

    Classes from ``classes - absent`` on are in no mask, and logits keep away from the last of them.
    """
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        height, width = rng.integers(1, 8, 2)
        truth = rng.integers(0, max(1, classes - absent), (height, width))
        logits = rng.normal(size=(classes, height, width)) + 1.2 * (np.arange(classes)[:, None, None] == truth)
        if absent:
            logits[-1] -= 100
        truth[rng.random((height, width)) < 0.3] = IGNORE
        out.append((torch.from_numpy(logits)[None].float(), torch.from_numpy(truth.astype(np.uint8))[None]))
    return out


def counted(parts: list[tuple[torch.Tensor, torch.Tensor]], classes: int) -> dict[str, float]:
    """mIoU, pixel accuracy and IoU of each class, pixel by pixel."""
    right, wrong_here, missed = np.zeros(classes), np.zeros(classes), np.zeros(classes)
    for logits, mask in parts:
        for taken, truth in zip(logits[0].argmax(0).flatten().tolist(), mask.flatten().tolist(), strict=True):
            if truth == IGNORE:
                continue
            if taken == truth:
                right[truth] += 1
            else:
                wrong_here[taken] += 1
                missed[truth] += 1
    union = right + wrong_here + missed
    iou = [r / u if u else math.nan for r, u in zip(right, union, strict=True)]
    present = [value for value in iou if not math.isnan(value)]
    pixels = (right + missed).sum()
    scores = {"miou": sum(present) / len(present) if present else math.nan}
    scores["pixel_accuracy"] = right.sum() / pixels if pixels else 0.0
    return scores | {f"iou_{name}": value for name, value in zip(NAMES, iou, strict=False)}


def best_f(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    probability = np.concatenate([logits.softmax(1)[0, 1].numpy().ravel() for logits, _ in parts])
    truth = np.concatenate([mask.numpy().ravel() for _, mask in parts])
    probability, truth = probability[truth != IGNORE], truth[truth != IGNORE]
    found = []
    for threshold in torch.linspace(0.01, 0.99, THRESHOLDS).numpy():
        taken = probability >= threshold
        hits = (taken & (truth == 1)).sum()
        found.append(2 * hits / max(1, taken.sum() + (truth == 1).sum()))
    return float(max(found))


def same(found: dict[str, torch.Tensor], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=1e-6, nan_ok=True), name


CASES = {"seed": st.integers(0, 2**31), "count": st.integers(1, 4)}


@settings(max_examples=40)
@given(**CASES, classes=st.integers(2, 5), absent=st.integers(0, 2))
def test_mask_scores_are_those_counted_by_hand(seed: int, count: int, classes: int, absent: int) -> None:
    parts = pictures(seed, classes, count, min(absent, classes - 1))
    metric = MaskScores(NAMES[:classes], IGNORE)
    for part in parts:
        metric.update(*part)
    same(metric.compute(), counted(parts, classes))


@settings(max_examples=30)
@given(**CASES)
def test_best_f_is_the_one_counted_by_hand(seed: int, count: int) -> None:
    parts = pictures(seed, 2, count, 0)
    metric = BestF(IGNORE)
    for part in parts:
        metric.update(*part)
    assert float(metric.compute()["best_f"]) == pytest.approx(best_f(parts), abs=1e-6)


@settings(max_examples=20)
@given(**CASES, classes=st.integers(2, 4))
def test_states_add_up_over_pictures(seed: int, count: int, classes: int) -> None:
    """Step 3 keeps each picture's states, and sums those of the pictures that it resamples."""
    parts = pictures(seed, classes, count, 1)
    for name, metric in segmentation_metrics(NAMES[:classes], IGNORE).items():
        states: dict[str, list[torch.Tensor]] = {}
        for part in parts:
            metric.reset()
            metric.update(*part)
            for state in metric._defaults:
                states.setdefault(state, []).append(getattr(metric, state).clone())
        metric.reset()
        for part in [*parts, parts[0]]:  # as if the first were drawn twice
            metric.update(*part)
        at_once = metric.compute()
        metric.reset()
        metric.update(*parts[0])
        for state, values in states.items():
            setattr(metric, state, torch.stack([*values, values[0]]).sum(0))
        summed = metric.compute()
        same(summed, {key: float(value) for key, value in at_once.items()})
        assert name in ("masks", "boundary")


def test_by_hand() -> None:
    truth = torch.tensor([[[0, 0, 1, 1, IGNORE, 2]]], dtype=torch.uint8)
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 1, 1, 3, 0]]]), 4).permute(0, 3, 1, 2).float()
    metric = MaskScores(NAMES[:4], IGNORE)
    metric.update(logits, truth)
    found = metric.compute()
    # sky: 1 right, 1 missed, 1 wrongly; road: 2 right, 1 wrongly; tree: missed; car: only where it is ignored.
    same(
        found,
        {
            "miou": (1 / 3 + 2 / 3 + 0) / 3, "pixel_accuracy": 3 / 5, "iou_sky": 1 / 3, "iou_road": 2 / 3,
            "iou_tree": 0.0, "iou_car": math.nan,
        },
    )  # fmt: skip


def test_a_boundary_by_hand() -> None:
    """At .3, two of three are boundary and none is missed; at .5, one of two is missed. F is best at the first."""
    probability = torch.tensor([0.9, 0.4, 0.3, 0.1])
    logits = torch.stack([torch.zeros(4), (probability / (1 - probability)).log()])[None, :, None]
    metric = BestF(IGNORE)
    metric.update(logits, torch.tensor([[[1, 0, 1, 0]]], dtype=torch.uint8))
    assert float(metric.compute()["best_f"]) == pytest.approx(2 * 2 / (3 + 2))


def test_a_perfect_and_an_inverted_prediction() -> None:
    truth = torch.tensor([[[0, 1, 1, IGNORE]]], dtype=torch.uint8)
    right = torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 1]])[None, :, None] * -50
    for logits, score in ((right, 1.0), (-right, 0.0)):
        metrics = segmentation_metrics(NAMES[:2], IGNORE)
        metrics.update(logits, truth)
        found = metrics.compute()
        assert float(found["miou"]) == float(found["pixel_accuracy"]) == score
        assert set(found) == {"miou", "pixel_accuracy", "iou_sky", "iou_road", "best_f"}
        # F of an inverted map: at the lowest threshold nothing that is boundary is taken for it.
        assert float(found["best_f"]) == score


def test_f_is_for_two_classes_only() -> None:
    assert set(build(SegmentationOptions()).metrics(NAMES[:2])) == {"masks", "boundary"}
    assert set(build(SegmentationOptions()).metrics(NAMES[:3])) == {"masks"}


def test_nothing_but_ignored_pixels_is_no_score() -> None:
    metrics = segmentation_metrics(NAMES[:2], IGNORE)
    metrics.update(torch.randn(1, 2, 3, 3), torch.full((1, 3, 3), IGNORE, dtype=torch.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.compute()
    assert math.isnan(found["miou"])
    assert math.isnan(found["iou_road"])
    assert float(found["best_f"]) == 0


def test_the_ignored_id_is_an_option() -> None:
    truth = torch.tensor([[[7, 1, 0]]], dtype=torch.uint8)
    logits = torch.tensor([[0.0, 0, 1], [1, 1, 0]])[None, :, None]
    metrics = build(SegmentationOptions(ignore=7)).metrics(NAMES[:2])
    metrics.update(logits, truth)
    assert float(metrics.compute()["miou"]) == 1
