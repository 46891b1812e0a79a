"""Step 3: the encoder is left as it was, and every encoder is asked the same questions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cmcd_core import DataError, Sample
from cmcd_core.catalog import load
from cmcd_core.data.digest import weights_digest
from cmcd_core.data.labels import label_subset
from cmcd_core.stages.evaluate import cached, linear, nearest_neighbours
from cmcd_core.stages.labelled import Splits, labelled

CLASSES = ("a", "b", "c")
WIDTH = 6


def task() -> Any:
    part = load().task("recognition")
    return part.build(part.options())


def part(small: SimpleNamespace, count: int, seed: int, spread: float = 0.5) -> Any:
    """Three clusters, ``spread`` wide."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = (np.eye(3, WIDTH)[labels] * 2 + spread * rng.standard_normal((count, WIDTH))).astype(np.float32)
    samples = [Sample(f"s{i}", {}, {"label": int(label)}) for i, label in enumerate(labels)]
    return labelled(samples, small.views(x, "b"), task(), CLASSES, None)


@pytest.fixture
def splits(small: SimpleNamespace) -> Splits:
    return Splits(part(small, 60, 0), part(small, 30, 1), part(small, 60, 2), CLASSES)


def subsets(splits: Splits, *budgets: str, draws: int = 3) -> dict[str, list[np.ndarray]]:
    return {b: [label_subset(splits.train.strata, b, draw=d, seed=0) for d in range(draws)] for b in budgets}


def test_linear_evaluation_leaves_the_encoder_bit_for_bit_as_it_was(small: SimpleNamespace, splits: Splits) -> None:
    encoder = small.Net(WIDTH, 8, seed=0).train()
    before, asked = weights_digest(encoder), [p.requires_grad for p in encoder.parameters()]
    dict(linear(encoder, task(), splits, subsets(splits, "3"), seed=0))
    assert weights_digest(encoder) == before
    assert encoder.layers[1].num_batches_tracked == 0
    assert all(p.grad is None for p in encoder.parameters())
    assert [p.requires_grad for p in encoder.parameters()] == asked


def test_the_same_seed_gives_the_same_numbers(small: SimpleNamespace, splits: Splits) -> None:
    def score() -> Any:
        return dict(linear(small.Net(WIDTH, 8, seed=0), task(), splits, subsets(splits, "3"), seed=0))["3"]

    one = score()
    torch.manual_seed(5)
    other = score()
    assert one.metrics == other.metrics
    assert one.intervals == other.intervals
    assert one.per_draw == other.per_draw
    assert torch.equal(one.replicates, other.replicates)
    assert weights_digest(one.head) == weights_digest(other.head)


def test_scores(small: SimpleNamespace, splits: Splits) -> None:
    found = dict(linear(small.Identity(WIDTH), task(), splits, subsets(splits, "1", "5"), seed=0))
    assert found.keys() == {"1", "5"}
    for budget, n_train in (("1", 3), ("5", 15)):
        scores = found[budget]
        assert (scores.n_train, scores.n_test, scores.draws) == (n_train, 60, 3)
        assert scores.metrics["top1"] == pytest.approx(np.mean(scores.per_draw))
        low, high = scores.intervals["top1"]
        assert 0 <= low <= scores.metrics["top1"] <= high <= 1
        assert len(scores.chosen) == 3
        right = scores.predictions["class"] == splits.test.targets.at(np.arange(60))
        assert float(right.float().mean()) == pytest.approx(scores.per_draw[0])
        assert torch.allclose(scores.predictions["probability"].sum(1), torch.ones(60))
    assert found["5"].metrics["top1"] > 0.9


def test_labels_that_say_nothing_teach_nothing(small: SimpleNamespace) -> None:
    """A control: with clusters drowned in noise, accuracy is at chance."""
    drowned = Splits(part(small, 60, 0, 1e3), part(small, 30, 1, 1e3), part(small, 120, 2, 1e3), CLASSES)
    score = dict(linear(small.Identity(WIDTH), task(), drowned, subsets(drowned, "5"), seed=0))["5"]
    assert abs(score.metrics["top1"] - 1 / 3) < 0.12


def test_the_head_of_the_first_draw_gives_its_predictions(small: SimpleNamespace, splits: Splits) -> None:
    encoder = small.Net(WIDTH, 8, seed=0)
    scores = dict(linear(encoder, task(), splits, subsets(splits, "3"), seed=0))["3"]
    output = scores.head(cached(encoder, task(), splits, subsets(splits, "3")).test.features())
    assert torch.equal(output.argmax(1), scores.predictions["class"])


def test_labelled_finds_what_has_the_target(small: SimpleNamespace) -> None:
    x = np.zeros((5, WIDTH), np.float32)
    views = small.views(x, "b", np.array([0, 2, 3, 4]))
    targets: list[dict] = [{"label": 0}, {"label": 1}, {"label": 2}, {}, {"label": 0}]
    samples = [Sample(f"k{i}", {}, targets[i]) for i in range(5)]
    found = labelled(samples, views, task(), CLASSES, None)
    assert found.keys == ("k0", "k2", "k4")
    assert found.targets.at(np.arange(3)).tolist() == [0, 2, 0]
    assert found.strata == (0, 2, 0)
    assert views.decoded.rows[found.rows].tolist() == [0, 2, 4]


def test_nothing_labelled(small: SimpleNamespace) -> None:
    views = small.views(np.zeros((2, WIDTH), np.float32), "b")
    with pytest.raises(DataError, match="no sample of this split has a 'label'"):
        labelled([Sample("a", {}), Sample("b", {})], views, task(), CLASSES, None)


def test_features_are_kept_for_the_labelled_rows_and_standardised_over_all(small: SimpleNamespace) -> None:
    many = part(small, 600, 0)
    splits = Splits(many, part(small, 30, 1), part(small, 60, 2), CLASSES)
    encoder = small.Net(WIDTH, 8, seed=0)
    with torch.no_grad():
        expected = encoder.eval()(many.views.plain(np.arange(600))).pooled
    found = cached(encoder, task(), splits, {"few": [np.array([3, 500]), np.array([3, 599])]})
    assert torch.allclose(found.train.at(found.place[torch.tensor([500, 3])]).parts[0], expected[[500, 3]], atol=1e-6)
    assert len(found.train.parts[0]) == 3
    assert torch.allclose(found.mean[0], expected.mean(0), atol=1e-5)
    assert torch.allclose(found.std[0], expected.std(0, correction=0) + 1e-6, atol=1e-5)


def test_nearest_neighbours(small: SimpleNamespace, splits: Splits) -> None:
    encoder = small.Identity(WIDTH)
    found = dict(nearest_neighbours(encoder, task(), splits, subsets(splits, "1", "10"), seed=0))
    assert found["10"].metrics["top1"] > 0.9
    assert set(found["1"].chosen) <= {1.0, 3.0}, "one label a class: one neighbour, or all three"
    assert torch.allclose(found["10"].predictions["probability"].sum(1), torch.ones(60), atol=1e-3)


def test_nearest_neighbours_of_one_label_find_the_nearest(small: SimpleNamespace, splits: Splits) -> None:
    """With one neighbour, each test sample gets the class of the labelled one with the highest cosine."""
    encoder, rows = small.Identity(WIDTH), subsets(splits, "1", draws=1)
    known = cached(encoder, task(), splits, rows)
    unit = [
        torch.nn.functional.normalize((p.parts[0] - known.mean[0]) / known.std[0]) for p in (known.train, known.test)
    ]
    nearest = (unit[1] @ unit[0].T).argmax(1)
    expected = torch.tensor([splits.train.strata[row] for row in rows["1"][0]])[nearest]
    scores = dict(nearest_neighbours(encoder, task(), splits, rows, seed=0))["1"]
    assert torch.equal(scores.predictions["class"], expected)
