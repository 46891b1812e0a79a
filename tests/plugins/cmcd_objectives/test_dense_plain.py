"""l2, cosine and CMC place by place: the formulas on maps, places that hold no measurement, and a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cmcd_objectives import functional
from rivals import PLUGINS, draw

from cmcd_core import ConfigError, Features, RunConfig, Widths, run

NAMES = ("dense_l2", "dense_cosine", "dense_cmc")
PLAIN = {"standardise": "none", "head_layers": 0}
COUNT, HEIGHT, WIDTH = 3, 2, 4
PLACES = HEIGHT * WIDTH


def built(name, *, source=5, target=5, bank=None, **options):
    plugin = PLUGINS[name]
    if name == "dense_cmc":
        options = {"cells": PLACES, "temperature": 0.3} | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        about = Widths(source=7, target=7, source_dense=source, target_dense=target)
        objective = plugin.build(plugin.options(**options), about)
    bank = bank or Features(pooled=draw(8, 7), dense=draw(8, source, HEIGHT, WIDTH, seed=9))
    objective.attach(None, None, bank=bank, pairs=0, steps=10)
    return objective


def features(channels, seed, count=COUNT, **more):
    return Features(pooled=draw(count, 7), dense=draw(count, channels, HEIGHT, WIDTH, seed=seed), **more)


def rows(one):
    """(N·T, D) in float64: picture by picture, place by place."""
    dense = one.dense.detach().double().numpy()
    return np.stack([dense[n, :, y, x] for n in range(len(dense)) for y in range(HEIGHT) for x in range(WIDTH)])


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def twin(name, a, b, *, weight=None, group=None, temperature=0.3):
    """The loss of rows, as a loop; ``group`` and ``weight`` are one a row."""
    a, b = unit(a), unit(b)
    weight = np.ones(len(a)) if weight is None else weight
    if name == "dense_l2":
        losses = np.sqrt(((a - b) ** 2).sum(1))
    elif name == "dense_cosine":
        losses = 1 - (a * b).sum(1)
    else:
        losses = np.zeros(len(a))
        for anchors, candidates in ((a, b), (b, a)):
            for i, anchor in enumerate(anchors):
                kept = [j for j in range(len(a)) if j == i or group is None or group[j] != group[i]]
                scores = candidates[kept] @ anchor / temperature
                losses[i] += (np.log(np.exp(scores).sum()) - candidates[i] @ anchor / temperature) / 2
    return (weight * losses).sum() / weight.sum()


FORMULAS = {
    "dense_l2": functional.l2,
    "dense_cosine": functional.cosine,
    "dense_cmc": lambda a, b: functional.cmc(a, b, temperature=0.3),
}


# --- the formulas


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_formula_of_all_places(name):
    source, target = features(5, 1), features(5, 2)
    objective = built(name, **PLAIN)
    assert objective.needs == {"dense"}
    loss = objective(source, target)
    flat = [side.dense.permute(0, 2, 3, 1).reshape(-1, 5) for side in (source, target)]
    torch.testing.assert_close(loss, FORMULAS[name](*flat))
    assert loss.item() == pytest.approx(twin(name, rows(source), rows(target)), rel=1e-5)
    assert objective.embed(source, target) is None


@pytest.mark.parametrize("name", NAMES)
def test_directions_count_and_lengths_do_not(name):
    source, target = features(5, 1), features(5, 2)
    stretched = Features(pooled=source.pooled, dense=source.dense * torch.rand(COUNT, 1, HEIGHT, WIDTH).add(0.5))
    objective = built(name, **PLAIN)
    torch.testing.assert_close(objective(stretched, target), objective(source, target))


@pytest.mark.parametrize("name", ["dense_l2", "dense_cosine"])
def test_equal_maps_are_the_least_there_is(name):
    source, objective = features(5, 1), built(name, **PLAIN)
    dense = source.dense.clone().requires_grad_()
    loss = objective(source, Features(pooled=source.pooled, dense=dense))
    assert loss.item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert torch.isfinite(dense.grad).all()
    for seed in range(20, 25):
        beside = Features(pooled=source.pooled, dense=source.dense + 0.01 * draw(*source.dense.shape, seed=seed))
        assert objective(source, beside) > 1e-6
    opposite = Features(pooled=source.pooled, dense=-source.dense)
    assert objective(source, opposite).item() == pytest.approx(2, rel=1e-5)


def test_contrast_falls_towards_equal_maps():
    """On maps whose places are unlike each other."""
    dense = torch.eye(COUNT * PLACES).reshape(COUNT, HEIGHT, WIDTH, -1).permute(0, 3, 1, 2)
    source, far = Features(pooled=draw(COUNT, 7), dense=dense), draw(*dense.shape, seed=1)
    objective = built("dense_cmc", source=COUNT * PLACES, target=COUNT * PLACES, **PLAIN)
    losses = [objective(source, Features(pooled=source.pooled, dense=dense + t * far)).item() for t in (1, 0.3, 0.1, 0)]
    assert losses == sorted(losses, reverse=True)
    e, others = math.exp(1 / 0.3), COUNT * PLACES - 1
    assert losses[-1] == pytest.approx(math.log(1 + others / e), rel=1e-5)


# --- places that hold no measurement


def holes():
    """Shares of both sides; below .5 in places of the first two pictures, nothing of the third's first row."""
    generator = torch.Generator().manual_seed(5)
    shares = torch.rand(2, COUNT, HEIGHT, WIDTH, generator=generator)
    shares[:, 2, 0] = 0
    shares[:, 2, 1] = 1
    return shares


@pytest.mark.parametrize("name", NAMES)
def test_places_that_hold_no_measurement_are_left_out(name):
    shares = holes()
    kept = ((shares[0] >= 0.5) & (shares[1] >= 0.5)).flatten().numpy()
    assert 4 < kept.sum() < len(kept) - 4
    source, target = features(5, 1, valid=shares[0]), features(5, 2, valid=shares[1])
    target.dense.requires_grad_()
    loss = built(name, **PLAIN)(source, target)
    assert loss.item() == pytest.approx(twin(name, rows(source)[kept], rows(target)[kept]), rel=1e-5)
    loss.backward()
    moved = target.dense.grad.abs().sum(1).flatten()
    assert moved[~torch.from_numpy(kept)].max() == 0
    assert moved[torch.from_numpy(kept)].min() > 0
    garbage = source.dense.clone()
    garbage.permute(0, 2, 3, 1)[~torch.from_numpy(kept).view(COUNT, HEIGHT, WIDTH)] = 1e3
    other = built(name, **PLAIN)(Features(pooled=source.pooled, dense=garbage, valid=shares[0]), target)
    torch.testing.assert_close(other, loss)


@pytest.mark.parametrize("name", NAMES)
def test_how_much_a_place_needs_is_an_option(name):
    shares = holes()[0]
    source, target = features(5, 1), features(5, 2, valid=shares)
    for least in (0.0, 0.3, 0.9):
        kept = (shares >= least).flatten().numpy()
        loss = built(name, **PLAIN, min_valid=least)(source, target)
        assert loss.item() == pytest.approx(twin(name, rows(source)[kept], rows(target)[kept]), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_compare_is_0_and_still_trains(name):
    source, target = features(5, 1), features(5, 2, valid=torch.zeros(COUNT, HEIGHT, WIDTH))
    target.dense.requires_grad_()
    loss = built(name)(source, target)
    assert loss.item() == 0
    loss.backward()
    assert target.dense.grad.abs().max() == 0


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_the_pictures(name):
    weight = torch.tensor([3.0, 0.0, 1.0])
    source, target = features(5, 1, weight=weight), features(5, 2)
    expected = twin(name, rows(source), rows(target), weight=weight.repeat_interleave(PLACES).numpy())
    assert built(name, **PLAIN)(source, target).item() == pytest.approx(expected, rel=1e-5)


# --- contrast


def test_the_same_place_of_pictures_of_one_group_is_no_negative():
    """Five sketches of one photo have the source's map in common."""
    group = torch.tensor([4, 9, 4])
    source, target = features(5, 1, group=group), features(5, 2)
    items = (group[:, None] * PLACES + torch.arange(PLACES)).flatten().tolist()
    aware, blind = (twin("dense_cmc", rows(source), rows(target), group=g) for g in (items, None))
    assert built("dense_cmc", **PLAIN)(source, target).item() == pytest.approx(aware, rel=1e-5)
    assert abs(aware - blind) > 1e-3


@pytest.mark.parametrize("cells", [1, 3, PLACES, 100])
def test_so_many_cells_are_drawn_of_each_picture(cells):
    """Where all are alike, the loss is the logarithm of their number."""
    flat = Features(pooled=draw(COUNT, 7), dense=torch.ones(COUNT, 5, HEIGHT, WIDTH))
    expected = math.log(COUNT * min(cells, PLACES))
    assert built("dense_cmc", **PLAIN, cells=cells)(flat, flat).item() == pytest.approx(expected, rel=1e-5)
    valid = torch.zeros(COUNT, HEIGHT, WIDTH)
    valid[:, 0, :2] = 1  # two places of each are left
    some = Features(pooled=flat.pooled, dense=flat.dense, valid=valid)
    loss = built("dense_cmc", **PLAIN, cells=cells)(flat, some)
    assert loss.item() == pytest.approx(math.log(COUNT * min(cells, 2)), rel=1e-5)


def test_cells_are_drawn_anew_and_follow_the_seed():
    source, target = features(5, 1), features(5, 2)
    objective = built("dense_cmc", **PLAIN, cells=2)

    def losses(seed):
        torch.manual_seed(seed)
        return [objective(source, target).item() for _ in range(4)]

    one = losses(0)
    assert len(set(one)) > 1
    assert losses(0) == one
    assert losses(1) != one
    many = [objective(source, target).item() for _ in range(300)]
    singles = twin("dense_cmc", rows(source), rows(target))
    assert np.mean(many) < singles  # fewer candidates are easier


# --- heads, gradients, state


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_only_the_target_and_the_head_learn(name, layers):
    source, target = features(5, 1), features(9, 2)
    target.dense.requires_grad_()
    objective = built(name, target=9, head_layers=layers)
    objective(source, target).backward()
    assert source.dense.grad is None
    assert target.dense.grad.abs().sum() > 0
    parameters = list(objective.parameters())
    assert len(parameters) == 2 * layers
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)


@pytest.mark.parametrize("name", NAMES)
def test_impossible_widths_say_what_to_type(name):
    with pytest.raises(ConfigError, match=f"objective.{name}.head_layers=1"):
        built(name, target=9, head_layers=0)
    with pytest.raises(ConfigError, match="dense maps on both sides"):
        built(name, target=0)


@pytest.mark.parametrize("name", NAMES)
def test_missing_maps_and_other_grids_are_refused(name):
    objective = built(name)
    with pytest.raises(ValueError, match=f"{name} needs the dense maps"):
        objective(features(5, 1), Features(pooled=draw(COUNT, 7)))
    with pytest.raises(ValueError, match="one grid"):
        objective(features(5, 1), Features(pooled=draw(COUNT, 7), dense=draw(COUNT, 5, 2, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_the_sources_cells_are_centred(name):
    bank = Features(pooled=draw(40, 7), dense=draw(40, 5, HEIGHT, WIDTH) * 2 + 5)
    objective = built(name, bank=bank)
    cells = bank.dense.permute(0, 2, 3, 1).reshape(-1, 5)
    torch.testing.assert_close(objective.space.source(cells).mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    half = Features(pooled=bank.pooled, dense=bank.dense.half())  # as it is cached
    torch.testing.assert_close(
        built(name, bank=half).space.source(cells), objective.space.source(cells), atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_state_goes_on_identically(name):
    bank = Features(pooled=draw(40, 7), dense=draw(40, 5, HEIGHT, WIDTH) + 3)
    one, other = built(name, target=9, bank=bank), built(name, target=9)
    other.load_state_dict(one.state_dict())
    source, target = features(5, 1), features(9, 2)
    losses = []
    for objective in (one, other):
        torch.manual_seed(3)
        losses.append(objective(source, target))
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_lower_it_and_find_each_place(name):
    """Another sensor's view of the same places, through the head."""
    latent = draw(4, 6, HEIGHT, WIDTH, seed=3)
    sensed = torch.einsum("nchw,cd->ndhw", latent, draw(6, 9, seed=4))
    source = Features(pooled=draw(4, 7), dense=latent)
    objective = built(name, source=6, target=9, standardise="none")
    optimiser = torch.optim.Adam(objective.parameters(), lr=0.02)
    losses = []
    for _ in range(120):
        loss = objective(source, Features(pooled=source.pooled, dense=sensed))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    objective.diagnostics()
    objective(source, Features(pooled=source.pooled, dense=sensed))
    assert objective.diagnostics()["r1_target_to_source"] > 0.9


# --- a run


@pytest.fixture(scope="module")
def teacher(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    run(configured("cmd", tiny_folder, out, pretrain={"epochs": 1, "batch_size": 16}), steps=("pretrain",))
    return out / "source"


def configured(expression: str, data: Path, out: Path, **more: object) -> RunConfig:
    return RunConfig.from_mapping(
        {
            "target": "depth", "data": str(data), "objective": expression,
            "distill": {"epochs": 2, "batch_size": 16, "views": 1}, "evaluate": {"baselines": ["none"]},
            "run": {"out": str(out), "device": "cpu", "size": 64}, **more,
        }
    )  # fmt: skip


@pytest.mark.parametrize("expression", ["cmd + 0.5*dense_l2", "dense_cosine", "dense_cmc + 0.1*dense_cmd"])
def test_a_run(expression: str, teacher: Path, tiny_folder: Path, tmp_path: Path) -> None:
    config = configured(
        expression, tiny_folder, tmp_path / "run", pretrain={"teacher": [str(teacher)]},
        run={"out": str(tmp_path / "run"), "device": "cpu", "size": 64, "source_size": 64},
    )  # fmt: skip
    result = run(config, steps=("pretrain", "distill"))
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["stage"] == "distill"]
    assert [line["epoch"] for line in epochs] == [0, 1]
    assert epochs[1]["loss"] == result.values["distill"]["loss"] < epochs[0]["loss"]
    for name in NAMES:
        if name in expression:
            reported = [value for key, value in epochs[1].items() if key.endswith("r1_target_to_source")]
            assert reported
            assert all(0 <= value <= 1 for value in reported)
    assert (result.folder / "objective" / "objective.safetensors").is_file()
