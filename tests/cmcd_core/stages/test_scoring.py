"""From outputs to scores: sums over samples, means over draws, and intervals that are paired between encoders."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics import CatMetric, MeanMetric, MetricCollection

from cmcd_core import DataError, Modality, PluginError, Sample
from cmcd_core.catalog import load
from cmcd_core.data.decoded import BoundModality, decode_views
from cmcd_core.data.views import Views
from cmcd_core.progress import Progress
from cmcd_core.result import evaluation_entry
from cmcd_core.stages.labelled import Splits, labelled
from cmcd_core.stages.scoring import Draw, Judged, Scores, check_metrics, judge, score, summarise, values

COUNT, CLASSES = 40, ("a", "b", "c")


def built(name: str, **options: Any) -> Any:
    part = load().task(name)
    return part.build(part.options(**options))


class Pixels(Modality):
    """(1, H, W) arrays as they are."""

    channels = 1

    def decode(self, raw: Any) -> Tensor:
        return torch.from_numpy(raw)


def masks(count: int, seed: int, shapes: Sequence[tuple[int, int]] = ((8, 8),)) -> list[np.ndarray]:
    """Masks of the first two classes, with a tenth ignored."""
    rng = np.random.default_rng(seed)
    out = []
    for number in range(count):
        ids = rng.integers(0, 2, shapes[number % len(shapes)])
        out.append(np.where(rng.random(ids.shape) < 0.1, 255, ids).astype(np.uint8))
    return out


def split_of(ids: Sequence[np.ndarray], task: Any, classes: Sequence[str] = CLASSES) -> Any:
    """Blank pictures with these masks."""
    samples = [
        Sample(f"s{n}", {"p": np.full((1, *mask.shape), n, np.float32)}, {"mask": mask}) for n, mask in enumerate(ids)
    ]
    bound = BoundModality("p", {"name": "p"}, Pixels())
    decoded = decode_views(samples, bound, 8, on_error="fail", progress=Progress(), title="")
    return labelled(samples, Views(decoded, bound, 8, torch.device("cpu")), task, classes, "test")


def drawn_splits(ids: Sequence[np.ndarray], task: Any, classes: Sequence[str] = CLASSES) -> Splits:
    few = split_of(masks(3, 99), task, classes)
    return Splits(few, few, split_of(ids, task, classes), tuple(classes))


def leaning(ids: Sequence[np.ndarray], seed: int, strength: float = 1.0) -> Tensor:
    """(n, K, 4, 4) logits that lean to the masks' middles."""
    rng = np.random.default_rng(seed)
    out = []
    for mask in ids:
        y, x = (((np.arange(4) + 0.5) * side / 4).astype(int) for side in mask.shape)
        out.append(rng.normal(size=(3, 4, 4)) + strength * (np.arange(3)[:, None, None] == mask[y][:, x]))
    return torch.from_numpy(np.stack(out)).float()


@pytest.fixture
def pooled(small: SimpleNamespace) -> Splits:
    """Vectors with labels, in turn."""
    labels = np.arange(COUNT) % 3
    samples = [Sample(f"s{i}", {}, {"label": int(label)}) for i, label in enumerate(labels)]
    part = labelled(samples, small.views(np.zeros((COUNT, 2), np.float32), "b"), built("recognition"), CLASSES, None)
    return Splits(part, part, part, CLASSES)


def outputs(share: float, seed: int) -> Tensor:
    """(COUNT, 3) logits, right in about this share of the rows."""
    rng = np.random.default_rng(seed)
    taken = np.where(rng.random(COUNT) < share, np.arange(COUNT) % 3, (np.arange(COUNT) + 1) % 3)
    return torch.eye(3)[torch.from_numpy(taken)] * 3 + torch.from_numpy(rng.normal(size=(COUNT, 3)) * 0.1).float()


def summed_up(task: Any, splits: Splits, each: Sequence[Tensor], seed: int = 0) -> Scores:
    draws = [Draw(nn.Identity(), judge(task, splits, splits.test, one.split(16)), 0.1, 0.5) for one in each]
    return summarise(task, splits, draws, [np.arange(3)] * len(draws), seed)


# --- judging


@pytest.mark.parametrize("shapes", [((8, 8),), ((8, 8), (5, 12), (17, 3))])
def test_states_kept_for_each_picture_give_the_metric_of_all_at_once(shapes: Any) -> None:
    task, ids = built("segmentation"), masks(9, 1, shapes)
    splits, logits = drawn_splits(ids, task), leaning(ids, 2)
    judged = judge(task, splits, splits.test, logits.split(4))
    assert len(judged) == 9
    assert judged.predictions["mask"].shape == (9, 8, 8)
    metrics = task.metrics(CLASSES)
    for one, mask in zip(logits, ids, strict=True):
        at_its_size = nn.functional.interpolate(one[None], mask.shape, mode="bilinear", align_corners=False)
        metrics.update(at_its_size, torch.from_numpy(mask)[None])
    expected = {name: float(value) for name, value in metrics.compute().items()}
    assert values(task, splits, [judged]) == pytest.approx(expected, nan_ok=True)
    assert score(task, splits, splits.test, logits.split(4)) == pytest.approx(expected["miou"])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 8), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_values_of_some_rows_are_those_of_a_data_set_of_these_rows(rows: list[int], seed: int) -> None:
    task, ids = built("segmentation"), masks(9, seed)
    splits, logits = drawn_splits(ids, task), leaning(ids, seed)
    found = values(task, splits, [judge(task, splits, splits.test, [logits])], torch.tensor(rows))
    chosen = [ids[row] for row in rows]
    alone = drawn_splits(chosen, task)
    expected = values(task, alone, [judge(task, alone, alone.test, [logits[rows]])])
    assert found == pytest.approx(expected, nan_ok=True)


def test_two_parts_count_as_one_data_set(pooled: Splits) -> None:
    task = built("recognition")
    one, other = (judge(task, pooled, pooled.test, [outputs(share, 0)]) for share in (0.9, 0.3))
    each = [values(task, pooled, [part])["top1"] for part in (one, other)]
    assert values(task, pooled, [one, other])["top1"] == pytest.approx(np.mean(each))


# --- what a spatial task's metrics must be


class NoSums:
    """Segmentation with metrics that the core cannot resample."""

    primary, target_name, spatial = "miou", "mask", True

    def __init__(self, metric: Any) -> None:
        self.metric = metric

    def metrics(self, classes: Any) -> MetricCollection:
        return MetricCollection({"odd": self.metric})


@pytest.mark.parametrize(("metric", "state"), [(CatMetric(), "value"), (MeanMetric(), None)])
def test_metrics_that_do_not_add_up_are_refused(metric: Any, state: str | None) -> None:
    if state is None:
        check_metrics(NoSums(metric), CLASSES)  # type: ignore[arg-type]
        return
    with pytest.raises(PluginError, match=rf"'odd'.*sums over samples.*'{state}'"):
        check_metrics(NoSums(metric), CLASSES)  # type: ignore[arg-type]
    splits = drawn_splits(masks(2, 0), built("segmentation"))
    with pytest.raises(PluginError, match="'odd'"):
        judge(NoSums(metric), splits, splits.test, [])  # type: ignore[arg-type]


def test_too_few_classes_are_found_without_a_training() -> None:
    for name in ("recognition", "segmentation"):
        check_metrics(built(name), CLASSES)
        with pytest.raises(DataError, match="two classes"):
            check_metrics(built(name), ("only",))


def test_a_primary_metric_that_is_none(pooled: Splits) -> None:
    task = built("recognition")
    task.primary = "top3"
    with pytest.raises(PluginError, match=r"ranks by 'top3', and its metrics are .*top1"):
        summed_up(task, pooled, [outputs(0.5, 0)])
    with pytest.raises(PluginError, match="top3"):
        score(task, pooled, pooled.test, [outputs(0.5, 0)])


# --- means and intervals


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8, 1.0])
@pytest.mark.parametrize("draws", [1, 3])
def test_means_over_draws_lie_in_their_intervals(pooled: Splits, share: float, draws: int) -> None:
    found = summed_up(built("recognition"), pooled, [outputs(share, seed) for seed in range(draws)])
    assert (found.draws, found.n_test, found.n_train, found.val) == (draws, COUNT, 3, 0.5)
    assert found.metrics["top1"] == pytest.approx(np.mean(found.per_draw))
    assert found.metrics.keys() == found.intervals.keys() == {"top1", "balanced_accuracy"}
    for name, (low, high) in found.intervals.items():
        assert 0 <= low <= found.metrics[name] + 1e-6
        assert found.metrics[name] - 1e-6 <= high <= 1 + 1e-6
    width = found.intervals["top1"][1] - found.intervals["top1"][0]
    assert (width < 1e-6) == (share in (0.0, 1.0))


def test_means_of_ratios_are_means_of_each_draws_ratio() -> None:
    """IoU over all draws together is another number."""
    task, ids = built("segmentation"), masks(20, 1)
    splits = drawn_splits(ids, task)
    found = summed_up(task, splits, [leaning(ids, 2, 4.0), leaning(ids, 3, 0.0)])
    judged = [judge(task, splits, splits.test, [one]) for one in (leaning(ids, 2, 4.0), leaning(ids, 3, 0.0))]
    each = [values(task, splits, [one])["miou"] for one in judged]
    assert found.per_draw == pytest.approx(each)
    assert found.metrics["miou"] == pytest.approx(np.mean(each))
    assert abs(values(task, splits, judged)["miou"] - np.mean(each)) > 1e-3
    low, high = found.intervals["miou"]
    assert low < found.metrics["miou"] < high
    assert low < each[1] + 0.05  # both draws are among the replicates
    assert high > each[0] - 0.05


def test_draws_that_differ_widen_the_interval(pooled: Splits) -> None:
    task, right, wrong = built("recognition"), outputs(1.0, 0), outputs(0.0, 0)
    apart = summed_up(task, pooled, [right, wrong])
    assert apart.intervals["top1"] == pytest.approx((0, 1), abs=1e-6)
    assert apart.metrics["top1"] == pytest.approx(0.5)


def test_the_interval_is_about_as_wide_as_chance_says(pooled: Splits) -> None:
    """Of one draw: 1.96 standard errors of a share to either side."""
    found = summed_up(built("recognition"), pooled, [outputs(0.6, 4)])
    share = found.metrics["top1"]
    low, high = found.intervals["top1"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / COUNT), rel=0.25)


# --- pairing


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 40)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("draws", [1, 2, 5])
def test_equal_encoders_differ_in_no_replicate(pooled: Splits, draws: int) -> None:
    """Whatever the number of draws: the test samples that are drawn again are the same."""
    task, output = built("recognition"), outputs(0.6, 0)
    one, other = summed_up(task, pooled, [output]), summed_up(task, pooled, [output.clone()] * draws)
    assert float((one.replicates - other.replicates).abs().max()) < 1e-6
    assert one.replicates.std() > 0.02
    assert not torch.equal(one.replicates, summed_up(task, pooled, [output], seed=1).replicates)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("draws", [1, 3])
def test_equal_maps_differ_in_no_replicate(draws: int) -> None:
    task, ids = built("segmentation"), masks(12, 1)
    splits, logits = drawn_splits(ids, task), leaning(ids, 2)
    one, other = summed_up(task, splits, [logits]), summed_up(task, splits, [logits] * draws)
    assert float((one.replicates - other.replicates).abs().max()) < 1e-6


def test_a_paired_difference_is_narrower(pooled: Splits) -> None:
    """Two encoders that differ in three samples of forty."""
    task, output = built("recognition"), outputs(0.6, 0)
    better, right = output.clone(), output.argmax(1) == torch.arange(COUNT) % 3
    for row in (~right).nonzero().flatten().tolist()[:3]:
        better[row] = torch.eye(3)[row % 3] * 3
    one, other = (summed_up(task, pooled, [each, each]) for each in (output, better))
    difference = other.replicates - one.replicates
    assert float(difference.min()) >= -1e-6  # it is better or equal in any choice of samples
    assert float(difference.mean()) == pytest.approx(3 / COUNT, abs=0.01)
    unpaired = (one.replicates.var() + other.replicates.var()).sqrt()
    assert difference.std() < 0.5 * unpaired


# --- classes that are not there


def missing() -> tuple[Any, Splits, list[np.ndarray]]:
    """No mask has the third class, one has the second."""
    ids = [np.zeros((8, 8), np.uint8) for _ in range(10)]
    ids[3][2:5, 2:5] = 1
    task = built("segmentation")
    return task, drawn_splits(ids, task), ids


def test_what_is_no_number_is_left_out_and_the_entry_is_json() -> None:
    task, splits, ids = missing()
    logits = leaning(ids, 0, 50.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # resamples without the second class are nothing to tell a user
        found = summed_up(task, splits, [logits])
    assert found.metrics.keys() == {"miou", "pixel_accuracy", "iou_a", "iou_b"}
    assert found.intervals.keys() == found.metrics.keys()
    assert np.isfinite([*found.metrics.values(), *sum(found.intervals.values(), ())]).all()
    about = {"encoder": "distilled", "modality": "p", "task": "segmentation", "protocol": "linear", "labels": "3"}
    entry = evaluation_entry(about, task.primary, found, splits)
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    assert (entry["classes"], entry["per_class"], entry["n_test"]) == (3, False, 10)


def test_a_class_that_only_one_draw_finds_is_left_out() -> None:
    """It has no mean over draws."""
    task, splits, ids = missing()
    logits = leaning(ids, 0, 50.0)
    other = logits.clone()
    other[:, 2] += 200
    assert "iou_c" not in summed_up(task, splits, [logits, other]).metrics
    assert summed_up(task, splits, [other]).metrics["iou_c"] == 0


def test_masks_that_say_nothing_are_told_of() -> None:
    task = built("segmentation")
    splits = drawn_splits([np.full((8, 8), 255, np.uint8)] * 4, task)
    with pytest.raises(DataError, match="miou of the test split is not a number"):
        summed_up(task, splits, [torch.randn(4, 3, 4, 4)])


def test_judged_knows_its_length(pooled: Splits) -> None:
    judged = judge(built("recognition"), pooled, pooled.test, outputs(0.5, 0).split(7))
    assert isinstance(judged, Judged)
    assert len(judged) == COUNT
    assert judged.predictions["class"].shape == (COUNT,)
