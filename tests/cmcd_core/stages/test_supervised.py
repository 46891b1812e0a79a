"""Trainings of whole networks on few labels: what they learn, when they stop, and what they leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cmcd_core import Encoder, Features, Modality, Sample, TimmEncoder
from cmcd_core.catalog import load
from cmcd_core.contenders import trainable
from cmcd_core.data.decoded import BoundModality, decode_views
from cmcd_core.data.digest import weights_digest
from cmcd_core.data.labels import label_subset
from cmcd_core.data.views import Views
from cmcd_core.progress import Progress
from cmcd_core.stages import supervised as stage
from cmcd_core.stages.labelled import Splits, labelled
from cmcd_core.stages.scoring import Scores, score
from cmcd_core.stages.supervised import TrainingRecipe, layer_scales, supervised
from cmcd_core.stages.training import Plan, Session, fit

CLASSES, WIDTH = ("a", "b", "c"), 6
QUICK = {
    "steps": 15,
    "epochs": 1,
    "lrs": (0.02,),
    "layer_decays": (1.0,),
    "weight_decay": 0.01,
    "crop_min": 1.0,
    "flip": False,
}


@pytest.fixture(scope="module", autouse=True)
def few_bootstraps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 20)
        yield


def built(name: str) -> Any:
    part = load().task(name)
    return part.build(part.options())


def part(small: SimpleNamespace, count: int, seed: int, spread: float = 0.6) -> Any:
    """Three clusters of vectors, ``spread`` wide."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = (np.eye(3, WIDTH)[labels] * 2 + spread * rng.standard_normal((count, WIDTH))).astype(np.float32)
    samples = [Sample(f"s{i}", {}, {"label": int(label)}) for i, label in enumerate(labels)]
    return labelled(samples, small.views(x, "b"), built("recognition"), CLASSES, None)


@pytest.fixture
def splits(small: SimpleNamespace) -> Splits:
    return Splits(part(small, 60, 0), part(small, 30, 1), part(small, 60, 2), CLASSES)


class Plain(Encoder):
    """A linear layer: it has no state but its weights."""

    channels = 1

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dim = 8
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layer = nn.Linear(WIDTH, 8)

    def forward(self, x: Tensor) -> Features:
        return Features(pooled=self.layer(x.flatten(1)))


def train(
    fabric: Fabric,
    splits: Splits,
    start: Any = Plain,
    *,
    task: Any = None,
    labels: str = "3",
    draws: int = 1,
    seed: int = 0,
    **changed: Any,
) -> Scores:
    subsets = {labels: [label_subset(splits.train.strata, labels, draw=d, seed=0) for d in range(draws)]}
    recipe = TrainingRecipe(**(QUICK | changed))
    found = supervised(
        fabric, start, task or built("recognition"), splits, subsets, recipe, seed=seed, progress=Progress(), title=""
    )
    return dict(found)[labels]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Counts optimiser steps, and keeps what each look at val found."""
    seen = SimpleNamespace(steps=0, looks=[])
    forward = stage.Supervised.forward

    def counted(self: Any, x: Tensor, target: Tensor) -> Tensor:
        seen.steps += 1
        return forward(self, x, target)

    def kept(*arguments: Any) -> float:
        seen.looks.append(score(*arguments))
        return seen.looks[-1]

    monkeypatch.setattr(stage.Supervised, "forward", counted)
    monkeypatch.setattr(stage, "score", kept)
    return seen


# --- learning


def test_it_learns(fabric: Fabric, splits: Splits) -> None:
    found = train(fabric, splits, draws=3, lrs=(1e-9, 0.02))
    assert (found.n_train, found.n_test, found.draws) == (9, 60, 3)
    assert found.metrics["top1"] > 0.9
    assert found.chosen == (0.02, 0.02, 0.02)  # of the first draw, for all
    assert found.encoder is not None
    untaught = train(fabric, splits, lrs=(1e-9,))
    assert untaught.metrics["top1"] < 0.75


def test_head_encoder_and_predictions_are_the_first_draws(fabric: Fabric, splits: Splits) -> None:
    found = train(fabric, splits, draws=2)
    assert found.encoder is not None
    with torch.no_grad():
        output = found.head(found.encoder.eval()(next(iter(splits.test.batches()))))
    assert torch.equal(output.argmax(1), found.predictions["class"])
    right = found.predictions["class"] == splits.test.targets.at(np.arange(60))
    assert float(right.float().mean()) == pytest.approx(found.per_draw[0])


def test_the_same_seed_gives_the_same_numbers(fabric: Fabric, small: SimpleNamespace, splits: Splits) -> None:
    def one(seed: int) -> Scores:
        return train(fabric, splits, lambda s: small.Net(WIDTH, 8, seed=s), draws=2, seed=seed)

    first = one(0)
    torch.manual_seed(99)
    again = one(0)
    assert first.encoder is not None
    assert again.encoder is not None
    assert (first.metrics, first.intervals, first.per_draw) == (again.metrics, again.intervals, again.per_draw)
    assert weights_digest(first.encoder) == weights_digest(again.encoder)
    assert weights_digest(first.head) == weights_digest(again.head)
    other = one(1)
    assert other.encoder is not None
    assert weights_digest(other.encoder) != weights_digest(first.encoder)


def test_the_encoder_to_start_from_is_left_bit_for_bit_as_it_was(
    fabric: Fabric, small: SimpleNamespace, splits: Splits
) -> None:
    encoder = small.Net(WIDTH, 8, seed=0).eval().requires_grad_(False)
    before = weights_digest(encoder)
    found = train(fabric, splits, trainable(encoder), draws=2, lrs=(0.01, 0.02))
    assert weights_digest(encoder) == before
    assert not encoder.training
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())
    assert found.encoder is not None
    moved = found.encoder.state_dict()
    assert all(not torch.equal(moved[name], value) for name, value in encoder.state_dict().items())


def test_it_starts_from_the_weights_that_it_is_given(fabric: Fabric, splits: Splits) -> None:
    encoder = Plain(3)
    found = train(fabric, splits, trainable(encoder), lrs=(1e-12,))
    assert found.encoder is not None
    torch.testing.assert_close(found.encoder.state_dict(), encoder.state_dict(), atol=1e-9, rtol=0)


# --- how long


def test_it_stops_once_nothing_gets_better(fabric: Fabric, splits: Splits, calls: SimpleNamespace) -> None:
    """So slow a training changes no score: the first look is the best, and PATIENCE more are taken."""
    train(fabric, splits, labels="100%", steps=40, lrs=(1e-12,))
    assert len(set(calls.looks)) == 1
    assert len(calls.looks) == 1 + stage.PATIENCE
    assert calls.steps == len(calls.looks) * (40 // stage.LOOKS)


def test_enough_ends_a_training(fabric: Fabric) -> None:
    model, asked = nn.Linear(2, 1), []

    def enough() -> bool:
        asked.append(len(asked))
        return len(asked) == 3

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x).square().mean()

    plan = Plan(epochs=9, steps_per_epoch=1, lr=0.1, weight_decay=0)
    history = fit(
        fabric, Loss(), plan, lambda epoch: [(4, (torch.ones(4, 2),))], session=Session(), title="", enough=enough
    )
    assert len(history.losses) == len(asked) == 3


def test_the_best_state_on_val_is_kept(fabric: Fabric, small: SimpleNamespace, calls: SimpleNamespace) -> None:
    """At so high a rate, on noisy clusters, scores go up and down."""
    noisy = Splits(part(small, 60, 0, 2.0), part(small, 90, 1, 2.0), part(small, 30, 2, 2.0), CLASSES)
    found = train(fabric, noisy, labels="5", steps=10, lrs=(0.5,))
    assert calls.looks[-1] < max(calls.looks)  # else the last would do
    assert found.val == max(calls.looks)
    assert found.encoder is not None
    with torch.no_grad():
        output = found.head(found.encoder.eval()(next(iter(noisy.val.batches()))))
    right = (output.argmax(1) == noisy.val.targets.at(np.arange(90))).float().mean()
    assert float(right) == pytest.approx(found.val)


@pytest.mark.parametrize(("labels", "rows"), [("1", 3), ("10", 30), ("100%", 60)])
def test_fewer_labels_get_more_of_the_cheap_steps(
    fabric: Fabric, splits: Splits, calls: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, labels: str, rows: int
) -> None:
    monkeypatch.setattr(stage, "PATIENCE", 10**6)
    train(fabric, splits, labels=labels, steps=12)
    assert calls.steps == round(12 * min(stage.MORE, max(1, stage.FULL / rows)))


def test_epochs_are_a_least(fabric: Fabric, small: SimpleNamespace, calls: SimpleNamespace) -> None:
    """150 rows are 3 steps an epoch."""
    big = Splits(part(small, 150, 0), part(small, 30, 1), part(small, 30, 2), CLASSES)
    train(fabric, big, labels="100%", steps=1, epochs=4)
    assert calls.steps == 12


# --- rates


@pytest.mark.parametrize(
    ("architecture", "arguments", "order"),
    [
        (None, {}, ["conv1.0.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight"]),
        ("vit_tiny_patch16_224", {"img_size": 64}, ["patch_embed.proj.weight", "blocks.0.norm1.weight", "norm.weight"]),
    ],
)
def test_earlier_layers_learn_more_slowly(architecture: str | None, arguments: Any, order: list[str]) -> None:
    encoder = TimmEncoder(architecture, in_chans=1, **arguments)
    scales = layer_scales(encoder, 0.5, "encoder.")
    assert {name.removeprefix("encoder.") for name in scales} == {name for name, _ in encoder.named_parameters()}
    assert max(scales.values()) == 1
    powers = {float(np.log2(value)) for value in scales.values()}
    assert all(power == round(power) for power in powers)
    assert powers == set(range(int(min(powers)), 1))  # no layer is skipped
    chosen = [scales[f"encoder.model.{name}"] for name in order]
    assert chosen == sorted(set(chosen))


def test_one_rate_for_all(small: SimpleNamespace) -> None:
    assert layer_scales(TimmEncoder(None, in_chans=1), 1.0) == {}
    assert layer_scales(small.Net(WIDTH, 8, seed=0), 0.5) == {}


def test_a_scale_is_a_share_of_the_rate(fabric: Fabric) -> None:
    """AdamW's first step is as long as the rate, whatever the gradient."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.early, self.late = nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(3, 2))

        def forward(self, x: Tensor) -> Tensor:
            return (5 * self.early + self.late).mean() * x

    model = Sum()
    plan = Plan(epochs=1, steps_per_epoch=1, lr=0.1, weight_decay=0)
    fit(
        fabric, model, plan, lambda epoch: [(1, (torch.ones(()),))],
        session=Session(), title="", scales={"early": 0.25},
    )  # fmt: skip
    assert torch.allclose(model.late, torch.full((3, 2), -0.1))
    assert torch.allclose(model.early, torch.full((3, 2), -0.025))


def test_the_stem_moves_less_in_a_fine_tuning(fabric: Fabric) -> None:
    splits = pictures(6)
    encoder = TimmEncoder(None, in_chans=1)

    def moved(decay: float) -> tuple[float, float]:
        found = train(
            fabric, splits, trainable(encoder), task=built("segmentation"), labels="100%", steps=1, lrs=(1e-3,),
            layer_decays=(decay,), weight_decay=0.0,
        )  # fmt: skip
        assert isinstance(found.encoder, TimmEncoder)
        first, last = (
            (found.encoder.model.get_parameter(name) - encoder.model.get_parameter(name)).abs().mean().item()
            for name in ("conv1.0.weight", "layer4.0.conv2.weight")
        )
        return first, last

    alike, decayed = moved(1.0), moved(0.5)
    assert decayed[1] == pytest.approx(alike[1], rel=0.3)
    assert decayed[0] < 0.2 * alike[0]


@pytest.fixture
def paces(monkeypatch: pytest.MonkeyPatch) -> list[tuple[stage.Pace, float]]:
    """Of each training, in order: how fast its layers learnt, and what it reached on val."""
    seen: list[tuple[stage.Pace, float]] = []
    original = stage._train

    def kept(*given: Any) -> Any:
        trained = original(*given)
        seen.append((next(one for one in given if isinstance(one, stage.Pace)), trained[0]))
        return trained

    monkeypatch.setattr(stage, "_train", kept)
    return seen


def test_each_decay_is_tried_with_each_rate_and_the_best_pair_serves_all_draws(
    fabric: Fabric, paces: list[tuple[stage.Pace, float]]
) -> None:
    task, rates, decays = built("segmentation"), (1e-9, 1e-2), (0.01, 1.0)
    encoder, splits = TimmEncoder(None, in_chans=1), pictures(12)
    found = train(
        fabric, splits, trainable(encoder), task=task, labels="4", draws=3, steps=3, lrs=rates, layer_decays=decays
    )
    tried = paces[:4]
    assert [pace for pace, _ in tried] == [(rate, decay) for rate in rates for decay in decays]
    best = max(tried, key=lambda one: one[1])[0]
    assert [pace for pace, _ in paces[4:]] == [best, best]
    assert found.chosen == (best.lr,) * 3


def test_an_encoder_that_learns_at_one_rate_is_not_trained_twice_alike(
    fabric: Fabric, splits: Splits, paces: list[tuple[stage.Pace, float]]
) -> None:
    train(fabric, splits, draws=2, lrs=(0.01, 0.02), layer_decays=(0.75, 1.0))
    assert [pace.layer_decay for pace, _ in paces] == [0.75] * 3


# --- masks

TOP, SIDE = 250, 40


class Pixels(Modality):
    """(1, H, W) arrays as they are."""

    channels = 1

    def decode(self, raw: Any) -> Tensor:
        return torch.from_numpy(raw)


def pictures(count: int) -> Splits:
    """Pictures of a coordinate, in turn down and across, with masks of the same numbers."""
    ramp = np.linspace(0, 1, SIDE, dtype=np.float32)
    grids = [np.repeat(ramp[:, None], SIDE, 1), np.repeat(ramp[None], SIDE, 0)]
    samples = [
        Sample(f"s{n}", {"p": grids[n % 2][None].copy()}, {"mask": (grids[n % 2] * TOP).round().astype(np.uint8)})
        for n in range(count)
    ]
    bound = BoundModality("p", {"name": "p"}, Pixels())
    decoded = decode_views(samples, bound, 32, on_error="fail", progress=Progress(), title="")
    names = tuple(str(n) for n in range(TOP + 1))
    views = Views(decoded, bound, 32, torch.device("cpu"))
    one = labelled(samples, views, built("segmentation"), names, "test")
    return Splits(one, one, one, names)


class Eye(Encoder):
    """Its map is the picture."""

    channels = dim = dense_dim = 1

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Features:
        return Features(pooled=x.mean((2, 3)), dense=x * self.scale)


def slim(seed: int) -> TimmEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TimmEncoder(None, in_chans=1)


class Seen(nn.Module):
    def forward(self, features: Features) -> Tensor:
        assert features.dense is not None
        return features.dense


def test_masks_follow_the_crops_and_mirrorings_of_their_views(fabric: Fabric) -> None:
    splits, task = pictures(24), built("segmentation")
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        seen.append((output.detach()[:, 0].clone(), target.float() / TOP))
        return output.sum() * 0

    task.loss, task.finetune_head = loss, lambda encoder, classes: Seen()
    train(fabric, splits, Eye, task=task, labels="100%", steps=10, lrs=(1e-9,), crop_min=0.3, flip=True)
    assert len(seen) >= 5
    mirrored, cropped = 0, 1.0
    for output, target in seen:
        assert output.shape == target.shape == (12, 32, 32), "24 masks in steps of at most 16"
        assert (output - target)[:, 1:-1, 1:-1].abs().max() < 1.5 / 32
        mirrored += int((target[:, 16, -1] < target[:, 16, 0]).sum())
        cropped = min(cropped, float((target.amax((1, 2)) - target.amin((1, 2))).min()))
    assert mirrored > 10
    assert cropped < 0.7


def test_one_labelled_picture_is_enough(fabric: Fabric) -> None:
    """BatchNorm cannot train on a single sample: it is shown twice, each time cropped anew."""
    found = train(fabric, pictures(4), slim, task=built("segmentation"), labels="1", steps=1)
    assert found.n_train == 1
    assert 0 <= found.metrics["miou"] <= 1


def test_a_training_learns_masks(fabric: Fabric) -> None:
    """Bright is one class, dark the other."""
    splits, task, names = pictures(16), built("segmentation"), ("dark", "bright")

    def two(one: Any) -> Any:
        values = zip(one.keys, one.views.decoded.array, one.targets.array, strict=True)
        samples = [Sample(key, {"p": np.asarray(x)}, {"mask": np.asarray(ids) > TOP // 2}) for key, x, ids in values]
        return labelled(samples, one.views, task, names, "two")

    both = Splits(*(two(one) for one in (splits.train, splits.val, splits.test)), names)
    found = train(fabric, both, slim, task=task, labels="100%", steps=12, lrs=(5e-3,), flip=True)
    assert found.metrics["miou"] > 0.8
    assert found.metrics["best_f"] > 0.85
