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
from cmcd_core.stages.evaluate import Splits, labelled, linear, pooled_features

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
    return labelled(samples, small.views(x, "b"), task())


@pytest.fixture
def splits(small: SimpleNamespace) -> Splits:
    return Splits(part(small, 60, 0), part(small, 30, 1), part(small, 60, 2), CLASSES)


def subsets(splits: Splits, *budgets: str, draws: int = 3) -> dict[str, list[np.ndarray]]:
    return {b: [label_subset(splits.train.strata, b, draw=d, seed=0) for d in range(draws)] for b in budgets}


def test_linear_evaluation_leaves_the_encoder_bit_for_bit_as_it_was(small: SimpleNamespace, splits: Splits) -> None:
    encoder = small.Net(WIDTH, 8, seed=0).train()
    before, asked = weights_digest(encoder), [p.requires_grad for p in encoder.parameters()]
    linear(encoder, task(), splits, subsets(splits, "3"), seed=0)
    assert weights_digest(encoder) == before
    assert encoder.layers[1].num_batches_tracked == 0
    assert all(p.grad is None for p in encoder.parameters())
    assert [p.requires_grad for p in encoder.parameters()] == asked


def test_the_same_seed_gives_the_same_numbers(small: SimpleNamespace, splits: Splits) -> None:
    def score() -> Any:
        return linear(small.Net(WIDTH, 8, seed=0), task(), splits, subsets(splits, "3"), seed=0)["3"]

    one = score()
    torch.manual_seed(5)
    other = score()
    assert one.metrics == other.metrics
    assert one.intervals == other.intervals
    assert one.per_draw == other.per_draw
    assert torch.equal(one.replicates, other.replicates)
    assert weights_digest(one.head) == weights_digest(other.head)


def test_scores(small: SimpleNamespace, splits: Splits) -> None:
    found = linear(small.Identity(WIDTH), task(), splits, subsets(splits, "1", "5"), seed=0)
    assert found.keys() == {"1", "5"}
    for budget, n_train in (("1", 3), ("5", 15)):
        scores = found[budget]
        assert (scores.n_train, scores.n_test, scores.draws) == (n_train, 60, 3)
        assert scores.metrics["top1"] == pytest.approx(np.mean(scores.per_draw))
        low, high = scores.intervals["top1"]
        assert 0 <= low <= scores.metrics["top1"] <= high <= 1
        assert len(scores.chosen) == 3
        right = scores.predictions["class"] == splits.test.targets
        assert float(right.float().mean()) == pytest.approx(scores.per_draw[0])
        assert torch.allclose(scores.predictions["probability"].sum(1), torch.ones(60))
    assert found["5"].metrics["top1"] > 0.9


def test_labels_that_say_nothing_teach_nothing(small: SimpleNamespace) -> None:
    """A control: with clusters drowned in noise, accuracy is at chance."""
    drowned = Splits(part(small, 60, 0, 1e3), part(small, 30, 1, 1e3), part(small, 120, 2, 1e3), CLASSES)
    score = linear(small.Identity(WIDTH), task(), drowned, subsets(drowned, "5"), seed=0)["5"]
    assert abs(score.metrics["top1"] - 1 / 3) < 0.12


def test_the_head_of_the_first_draw_gives_its_predictions(small: SimpleNamespace, splits: Splits) -> None:
    from cmcd_core import Features

    encoder = small.Net(WIDTH, 8, seed=0)
    scores = linear(encoder, task(), splits, subsets(splits, "3"), seed=0)["3"]
    output = scores.head(Features(pooled=pooled_features(encoder, splits.test).clone()))
    assert torch.equal(output.argmax(1), scores.predictions["class"])


def test_labelled_finds_what_has_the_target(small: SimpleNamespace) -> None:
    x = np.zeros((5, WIDTH), np.float32)
    views = small.views(x, "b", np.array([0, 2, 3, 4]))
    targets: list[dict] = [{"label": 0}, {"label": 1}, {"label": 2}, {}, {"label": 0}]
    samples = [Sample(f"k{i}", {}, targets[i]) for i in range(5)]
    found = labelled(samples, views, task())
    assert found.keys == ("k0", "k2", "k4")
    assert found.targets.tolist() == [0, 2, 0]
    assert found.strata == (0, 2, 0)
    assert views.decoded.rows[found.rows].tolist() == [0, 2, 4]


def test_nothing_labelled(small: SimpleNamespace) -> None:
    views = small.views(np.zeros((2, WIDTH), np.float32), "b")
    with pytest.raises(DataError, match="no sample of this split has a 'label'"):
        labelled([Sample("a", {}), Sample("b", {})], views, task())


def test_pooled_features_do_not_depend_on_the_chunk(small: SimpleNamespace) -> None:
    many = part(small, 600, 0)
    encoder = small.Net(WIDTH, 8, seed=0)
    with torch.no_grad():
        expected = encoder.eval()(many.views.plain(np.arange(600))).pooled
    assert torch.allclose(pooled_features(encoder, many), expected, atol=1e-6)
