"""Step 2: the source is only read, pairs are matched, and what is stopped goes on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cmcd_core import ConfigError, DataError, Encoder, Features, Objective, PluginError, RunConfig, Widths
from cmcd_core.catalog import load
from cmcd_core.data.digest import weights_digest
from cmcd_core.stages.distill import Student, distill
from cmcd_core.stages.pairs import match_pairs
from cmcd_core.stages.training import Session
from cmcd_core.stages.weighted_sum import WeightedSum

COUNT, WIDTH = 40, 12
RNG = np.random.default_rng(0)
A, B = (RNG.standard_normal((COUNT, WIDTH)).astype(np.float32) for _ in range(2))


class Mean(Objective):
    """Mean squared difference through a head of its own; keeps what it was given."""

    def __init__(self, wanted: int = WIDTH, source: int = WIDTH) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.head = nn.Linear(8, source)
        self.seen: list[tuple[Features, Features]] = []
        self.attached: dict[str, Any] = {}
        self.after = 0

    def attach(self, source: Encoder, target: Encoder, **facts: Any) -> None:
        self.attached = {"source": weights_digest(source), **facts}

    def forward(self, source: Features, target: Features) -> Tensor:
        self.seen.append((source, target))
        return (self.head(target.pooled) - source.pooled).square().mean()

    def after_step(self) -> None:
        self.after += 1


def built(name: str, seed: int = 0, **options: Any) -> Objective:
    part = load().objective(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return part.build(part.options(**options), Widths(source=WIDTH, target=8))


@pytest.fixture
def world(small: SimpleNamespace) -> SimpleNamespace:
    """A source that sees A, a target that sees B; rows 0 and 5 have no target, row 7 has no source."""
    source_rows = np.setdiff1d(np.arange(COUNT), [7])
    target_rows = np.setdiff1d(np.arange(COUNT), [0, 5])
    source = small.Identity(WIDTH).eval()
    source.norm.running_mean.fill_(0.5)
    a, b = small.views(A, "a", source_rows), small.views(B, "b", target_rows)
    weights = np.linspace(0.1, 1, COUNT).tolist()
    return SimpleNamespace(source=source, a=a, b=b, bank=small.bank(source, a), weights=weights, Net=small.Net)


def run(
    fabric: Fabric,
    world: SimpleNamespace,
    objective: Objective,
    *,
    epochs: int = 4,
    seed: int = 0,
    session: Session | None = None,
) -> tuple[Encoder, list[float]]:
    target = world.Net(WIDTH, 8, seed=1)
    pairs = match_pairs(world.a, world.b, world.weights)
    config = RunConfig(target="b", distill={"batch_size": 16}).distill
    history = distill(
        fabric, world.source, target, objective, world.bank, world.b, pairs, config, epochs,
        seed=seed, session=session or Session(),
    )  # fmt: skip
    return target, history.losses


def same(one: nn.Module, other: nn.Module) -> bool:
    return weights_digest(one) == weights_digest(other)


# --- the source


@pytest.mark.parametrize("name", ["mean", "cmd", "cmc", "cmd+queue"])
def test_the_source_is_frozen(fabric: Fabric, world: SimpleNamespace, name: str) -> None:
    world.source.train()
    before = weights_digest(world.source)
    objective = {
        "mean": Mean,
        "cmd": lambda: built("cmd"),
        "cmc": lambda: built("cmc"),
        "cmd+queue": lambda: built("cmd", queue=16),
    }[name]()
    run(fabric, world, WeightedSum([(1, "x", objective)]))
    assert weights_digest(world.source) == before
    assert all(parameter.grad is None for parameter in world.source.parameters())
    assert world.source.norm.num_batches_tracked == 0
    assert torch.equal(world.source.norm.running_mean, torch.full((WIDTH,), 0.5))
    assert not {id(p) for p in world.source.parameters()} & {id(p) for p in objective.parameters()}


def test_source_features_carry_no_gradient_and_the_targets_do(fabric: Fabric, world: SimpleNamespace) -> None:
    objective = Mean()
    run(fabric, world, objective, epochs=1)
    for source, target in objective.seen:
        assert not source.pooled.requires_grad
        assert target.pooled.requires_grad


def test_the_target_and_the_objectives_head_learn(fabric: Fabric, world: SimpleNamespace) -> None:
    objective = Mean()
    target, losses = run(fabric, world, objective, epochs=30)
    assert losses[-1] < 0.8 * losses[0]
    assert not same(target, world.Net(WIDTH, 8, seed=1))
    assert not same(objective, Mean())


# --- what an objective is told


def test_an_objective_is_told_the_truth(fabric: Fabric, world: SimpleNamespace) -> None:
    objective = Mean()
    run(fabric, world, objective, epochs=2)
    pairs = match_pairs(world.a, world.b, world.weights)
    bank = objective.attached["bank"]
    steps = 2 * 3
    assert (objective.attached["pairs"], objective.attached["steps"]) == (37, steps)
    assert objective.attached["source"] == weights_digest(world.source)
    assert len(objective.seen) == objective.after == steps
    assert bank.pooled.shape == (39, WIDTH)  # the pairs first, then the two unpaired source rows
    expected = world.source(torch.from_numpy(A)).pooled.detach()
    kept = [row for row in range(COUNT) if row not in (0, 5, 7)]
    assert torch.allclose(bank.pooled, expected[[*kept, 0, 5]], atol=1e-6)
    for source, target in objective.seen:
        assert source.index is not None
        rows = np.asarray(kept)[source.index]
        assert torch.allclose(source.pooled, expected[rows], atol=1e-6)
        assert torch.equal(source.index, target.index)
        assert torch.equal(source.weight, torch.tensor(world.weights)[rows])
        assert torch.equal(source.group, torch.from_numpy(pairs.group)[source.index])
        assert torch.equal(bank.group[source.index], source.group)
    seen = torch.cat([source.index for source, _ in objective.seen[:3]])
    assert sorted(seen.tolist()) == list(range(37))


def test_target_and_source_are_of_one_sample(fabric: Fabric, small: SimpleNamespace, world: SimpleNamespace) -> None:
    """With identity encoders on both sides and equal views, both hold the same numbers."""
    b = small.views(A, "b", world.b.decoded.rows)
    source = small.Identity(WIDTH).eval()
    pairs = match_pairs(world.a, b, world.weights)
    seen = []

    class Spy(Mean):
        def forward(self, source: Features, target: Features) -> Tensor:
            seen.append((source.pooled, target.pooled.detach()))
            return (target.pooled * self.head.weight.sum()).mean()

    class Through(Encoder):
        channels, dim = 1, WIDTH

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Features:
            return Features(pooled=x.flatten(1) + 0 * self.one)

    config = RunConfig(target="b", distill={"batch_size": 16}).distill
    bank = small.bank(source, world.a)
    distill(fabric, source, Through(), Spy(), bank, b, pairs, config, 1, seed=0, session=Session())
    scale = (1 + source.norm.eps) ** 0.5
    for one, other in seen:
        assert torch.allclose(one * scale, other, atol=1e-5)


def test_needs_that_step_two_cannot_meet(fabric: Fabric, world: SimpleNamespace) -> None:
    objective = Mean()
    objective.needs = frozenset({"pyramid", "momentum"})
    with pytest.raises(ConfigError, match="needs pyramid features"):
        run(fabric, world, objective)


class Vector(Mean):
    def forward(self, source: Features, target: Features) -> Tensor:
        return (self.head(target.pooled) - source.pooled).square().mean(1)


def test_a_loss_that_is_no_scalar_is_refused(fabric: Fabric, world: SimpleNamespace) -> None:
    with pytest.raises((ConfigError, PluginError), match=r"shape \(13,\), expected a scalar"):
        run(fabric, world, Vector())


def test_a_loss_that_is_no_scalar_is_refused_in_a_sum(fabric: Fabric, world: SimpleNamespace) -> None:
    with pytest.raises((ConfigError, PluginError), match="scalar"):
        run(fabric, world, WeightedSum([(1, "vector", Vector())]))


# --- the same numbers


@pytest.mark.parametrize("name", ["cmd", "cmc", "nt_xent"])
def test_the_same_seed_gives_the_same_numbers(fabric: Fabric, world: SimpleNamespace, name: str) -> None:
    one, first = run(fabric, world, built(name))
    torch.manual_seed(5)
    other, second = run(fabric, world, built(name))
    assert first == second
    assert same(one, other)
    third, _ = run(fabric, world, built(name), seed=1)
    assert not same(one, third)


@pytest.mark.parametrize(
    "terms",
    [
        [(1.0, "cmd", {})],
        [(1.0, "cmd", {"queue": 24})],  # target anchors with a queue need the EMA encoder
        [(0.5, "cmd", {"queue": 24, "anchors": "source", "learnable_temperature": True}), (1.0, "cmc", {"queue": 16})],
        [(1.0, "cmc", {"queue": "bank"})],
    ],
    ids=["cmd", "queue and momentum", "two queues", "bank"],
)
@pytest.mark.parametrize("done", [1, 3])
def test_a_resumed_distillation_ends_where_an_uninterrupted_one_does(
    fabric: Fabric, world: SimpleNamespace, small: SimpleNamespace, recorder: Callable[..., Any], terms: list, done: int
) -> None:
    def objective() -> WeightedSum:
        return WeightedSum([(weight, name, built(name, **options)) for weight, name, options in terms])

    first, second, third = objective(), objective(), objective()
    whole, losses = run(fabric, world, first)
    with pytest.raises(small.StoppedError):
        run(fabric, world, second, session=recorder(stop_after=done).session())
    going_on = recorder()
    resumed, after = run(fabric, world, third, session=going_on.session())
    assert going_on.rewound == [done]
    assert after == losses
    assert same(whole, resumed)
    assert same(first, third)


# --- the moving average


def test_the_ema_encoder_follows(small: SimpleNamespace) -> None:
    objective = Mean()
    objective.needs = frozenset({"momentum"})
    student = Student(small.Net(WIDTH, 8, seed=1), objective, decay=0.9)
    before = {name: p.clone() for name, p in student.momentum.named_parameters()}
    assert all(not p.requires_grad for p in student.momentum.parameters())
    with torch.no_grad():
        for parameter in student.encoder.parameters():
            parameter += 1
        student.encoder.layers[1].running_mean += 2
    student.after_step()
    for name, average in student.momentum.named_parameters():
        assert torch.allclose(average, before[name] + 0.1)
    assert torch.equal(student.momentum.layers[1].running_mean, student.encoder.layers[1].running_mean)
    assert objective.after == 1


def test_without_need_there_is_no_ema_encoder(small: SimpleNamespace) -> None:
    assert Student(small.Net(WIDTH, 8, seed=1), Mean(), 0.9).momentum is None


def test_momentum_features_carry_no_gradient(fabric: Fabric, world: SimpleNamespace) -> None:
    objective = Mean()
    objective.needs = frozenset({"momentum"})
    run(fabric, world, objective, epochs=1)
    for source, target in objective.seen:
        assert source.momentum is None
        assert target.momentum.shape == target.pooled.shape
        assert not target.momentum.requires_grad


# --- pairs


def test_pairs_are_matched_by_their_sample(world: SimpleNamespace) -> None:
    pairs = match_pairs(world.a, world.b, world.weights)
    rows = world.a.decoded.rows[pairs.source]
    assert np.array_equal(rows, world.b.decoded.rows[pairs.target])
    assert rows.tolist() == [row for row in range(COUNT) if row not in (0, 5, 7)]
    assert world.a.decoded.rows[pairs.unpaired].tolist() == [0, 5]
    assert np.allclose(pairs.weight, np.asarray(world.weights)[rows])
    assert pairs.weight.dtype == np.float32
    assert len(pairs) == len(pairs.group) == 37
    assert len(pairs.unpaired_group) == 2


def test_pairs_share_a_group_where_they_share_the_source_item(small: SimpleNamespace) -> None:
    a = A[[0, 1, 0, 2, 1]]
    pairs = match_pairs(small.views(a, "a"), small.views(B[:5], "b", np.array([0, 1, 2, 3])), [1.0] * 5)
    g = pairs.group
    assert g[0] == g[2]
    assert len({g[0], g[1], g[3]}) == 3
    assert pairs.unpaired_group.tolist() == [g[1]]


@pytest.mark.parametrize("keep", [[3], [0, 3]])
def test_too_few_pairs(small: SimpleNamespace, keep: list[int]) -> None:
    a, b = small.views(A[:4], "a", np.array([0, 1])), small.views(B[:4], "b", np.array(keep))
    with pytest.raises(DataError, match=f"step 2 needs pairs, and {len(keep) - 1} training samples have both views"):
        match_pairs(a, b, [1.0] * 4)


# --- the sum


class Constant(Objective):
    def __init__(self, value: float, needs: frozenset[str] = frozenset(), space: Any = None) -> None:
        super().__init__()
        self.value, self.needs, self.space = value, needs, space
        self.calls: list[str] = []

    def attach(self, *arguments: Any, **facts: Any) -> None:
        self.calls.append("attach")

    def forward(self, source: Features, target: Features) -> Tensor:
        return torch.tensor(self.value)

    def embed(self, source: Features, target: Features) -> Any:
        return self.space

    def after_step(self) -> None:
        self.calls.append("after_step")

    def diagnostics(self) -> dict[str, float]:
        return {"value": self.value}


def test_a_sum_sums(small: SimpleNamespace) -> None:
    x = Features(pooled=torch.zeros(2, 3))
    one, other = Constant(2.0, frozenset({"momentum"})), Constant(5.0, frozenset({"dense"}), ("a", "b"))
    total = WeightedSum([(1.0, "cmd", one), (0.5, "cmd@wide", other)])
    assert total(x, x) == 2.0 + 0.5 * 5.0
    assert total.needs == {"momentum", "dense"}
    assert total.embed(x, x) == ("a", "b")
    assert WeightedSum([(1.0, "cmd", one)]).embed(x, x) is None
    assert total.diagnostics() == {"cmd.value": 2.0, "cmd@wide.value": 5.0}
    total.attach(small.Identity(3), small.Identity(3), bank=None, pairs=2, steps=1)
    total.after_step()
    assert one.calls == other.calls == ["attach", "after_step"]


def test_a_sums_parameters_are_its_terms() -> None:
    terms = [(1.0, "cmd", Mean()), (2.0, "cmd@b", Mean())]
    assert len(list(WeightedSum(terms).parameters())) == 4
    assert {name.split(".")[1] for name in WeightedSum(terms).state_dict()} == {
        "0",
        "1",
    }  # in the order of objective.json


@pytest.mark.parametrize("key", ["keys", "type", "half", "values", "update"])
def test_an_objective_may_be_called_anything(key: str) -> None:
    x = Features(pooled=torch.zeros(2, 3))
    assert WeightedSum([(1.0, key, Constant(1.0))])(x, x) == 1
