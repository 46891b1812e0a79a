"""The objectives: options, heads, queues, groups, state and diagnostics."""

from __future__ import annotations

import math
import subprocess
import sys

import cmcd_objectives
import pytest
import torch
from cmcd_objectives import CmcOptions, CmdOptions, NtXentOptions
from cmcd_objectives.functional import cmc, cmd, nt_xent
from cmcd_objectives.further import NOTHING
from pydantic import ValidationError

from cmcd_core import ConfigError, Features, Objective, Widths

ALL = {plugin.name: plugin for plugin in cmcd_objectives.cmcd_objectives()}
PLUGINS = {name: ALL[name] for name in ("cmd", "cmc", "nt_xent")}  # the rivals have tests of their own
NO_ENCODER = None  # attach never looks at the encoders


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def build(name, *, source=6, target=6, bank=None, **options):
    torch.manual_seed(0)
    plugin = PLUGINS[name]
    if name == "cmd":  # these tests are about target anchors unless they say otherwise
        options = {"anchors": "target", **options}
    objective = plugin.build(plugin.options(**options), Widths(source=source, target=target))
    objective.attach(NO_ENCODER, NO_ENCODER, bank=bank, pairs=20 if bank is None else len(bank.pooled), steps=10)
    return objective


def make_bank(rows=20, width=6):
    return Features(pooled=rand(rows, width), index=torch.arange(rows), group=torch.arange(rows) // 2)


def batch(bank, index, width=6, seed=1, **more):
    """Features of the bank's rows and of targets beside them."""
    index = torch.as_tensor(index)
    source = Features(pooled=bank.pooled[index], index=index, group=None if bank.group is None else bank.group[index])
    target = rand(len(index), width, seed=seed)
    return source, Features(pooled=target, momentum=target + 0.1, **more)


PLAIN = {"standardise": "none", "head_layers": 0}


def test_the_hook_gives_its_objectives_without_torch():
    assert set(PLUGINS) < set(ALL)
    code = "import sys, cmcd_objectives; cmcd_objectives.cmcd_objectives(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("options", [CmdOptions, CmcOptions, NtXentOptions])
def test_options_are_described_and_bounded(options):
    for name, field in options.model_fields.items():
        assert field.description, name
    for wrong in ({"temperature": 0}, {"temperature_target": -1}, {"queue": -1}, {"head_layers": 3}, {"nonsense": 1}):
        with pytest.raises(ValidationError):
            options(**wrong)


@pytest.mark.parametrize("name", PLUGINS)
def test_without_head_and_standardisation_it_is_the_formula(name):
    bank = make_bank()
    source, target = batch(bank, [0, 1, 4, 5, 9])
    formula = {"cmd": cmd, "cmc": cmc, "nt_xent": lambda *x, **o: nt_xent(*x, temperature=0.2, **o)}[name]
    for aware in (True, False):
        objective = build(name, **PLAIN, group_aware=aware)
        assert isinstance(objective, Objective)
        assert not list(objective.parameters())
        expected = formula(source.pooled, target.pooled, group=source.group if aware else None)
        torch.testing.assert_close(objective(source, target), expected)
        weighted = Features(pooled=target.pooled, weight=torch.tensor([1.0, 2, 0, 1, 1]))
        assert abs(objective(source, weighted) - expected) > 1e-4


def test_cmd_options_reach_the_formula():
    bank = make_bank()
    source, target = batch(bank, [0, 2, 4, 6])
    for options in (
        {"temperature_source": 0.2, "temperature_target": 0.3},
        {"include_self": True},
        {"anchors": "source"},
        {"anchors": "source", "include_self": False, "temperature_target": 0.1},
    ):
        torch.testing.assert_close(
            build("cmd", **PLAIN, **options)(source, target), cmd(source.pooled, target.pooled, **options)
        )


@pytest.mark.parametrize("direction", ["both", "target_to_source", "source_to_target"])
def test_cmc_options_reach_the_formula(direction):
    source, target = batch(make_bank(), [0, 2, 4, 6])
    objective = build("cmc", **PLAIN, direction=direction, temperature=0.3)
    expected = cmc(source.pooled, target.pooled, direction=direction, temperature=0.3)
    torch.testing.assert_close(objective(source, target), expected)


@pytest.mark.parametrize(
    ("name", "options", "layers", "out"),
    [
        ("cmd", {}, 2, 6),
        ("cmd", {"head_width": 11}, 2, 11),
        ("cmd", {"anchors": "source"}, 1, 6),
        ("cmd", {"head_layers": 0}, 0, None),
        ("cmc", {}, 1, 6),
        ("cmc", {"head_layers": 2, "head_hidden": 13}, 2, 6),
        ("nt_xent", {}, 1, 6),
    ],
)
def test_heads(name, options, layers, out):
    objective = build(name, target=9, bank=make_bank(), **options)
    linear = [m for m in objective.modules() if isinstance(m, torch.nn.Linear)]
    assert len(linear) == layers
    if layers:
        assert linear[0].in_features == 9
        assert linear[-1].out_features == out
    if layers == 2:
        assert linear[0].out_features == options.get("head_hidden", 9)
    source, given = batch(make_bank(), [0, 2, 4], width=9)
    given.pooled.requires_grad_()
    objective(source, given).backward()
    assert given.pooled.grad.abs().sum() > 0


def test_nt_xent_has_no_head_between_equal_widths():
    assert not list(build("nt_xent").parameters())


@pytest.mark.parametrize("name", PLUGINS)
def test_a_source_without_gradient_stays_so_and_all_parameters_learn(name):
    bank = make_bank()
    objective = build(name, bank=bank, target=9)
    source, target = batch(bank, [0, 2, 4], width=9)
    target.pooled.requires_grad_()
    objective(source, target).backward()
    assert source.pooled.grad is None
    assert target.pooled.grad.abs().sum() > 0
    assert all(p.grad is not None for p in objective.parameters())


def test_nt_xent_passes_gradient_to_both_views():
    a, b = rand(4, 6).requires_grad_(), rand(4, 6, seed=1).requires_grad_()
    build("nt_xent")(Features(pooled=a), Features(pooled=b)).backward()
    assert a.grad.abs().sum() > 0
    assert b.grad.abs().sum() > 0


@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize("kind", ["center", "phi_s"])
def test_without_a_head_both_sides_get_the_same_map(name, kind):
    """A target that equals the source is at the formula's value for equal sides."""
    bank = make_bank()
    objective = build(name, bank=bank, head_layers=0, standardise=kind)
    source, _ = batch(bank, [0, 2, 4, 6])
    mapped = objective.space.source(source.pooled)
    assert not torch.equal(mapped, source.pooled)
    formula = {"cmd": cmd, "cmc": cmc, "nt_xent": lambda *x: nt_xent(*x, temperature=0.2)}[name]
    torch.testing.assert_close(objective(source, Features(pooled=source.pooled)), formula(mapped, mapped))


def test_embed():
    bank = make_bank()
    source, target = batch(bank, [0, 2, 4], width=9)
    assert build("cmd", bank=bank, target=9).embed(source, target) is None
    for objective in (
        build("cmc", bank=bank, target=9),
        build("cmd", bank=bank, target=9, anchors="source"),
        build("nt_xent", bank=bank, target=9),
    ):
        a, b = objective.embed(source, target)
        assert a.shape == b.shape == (3, 6)
        for side in (a, b):
            torch.testing.assert_close(side.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(a, torch.nn.functional.normalize(objective.space.source(source.pooled), dim=1))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cmc", {"head_layers": 0}, "head_layers=1"),
        ("cmd", {"anchors": "source", "head_layers": 0}, "head_layers=1"),
        ("nt_xent", {"head_layers": 0}, "head_layers=1"),
        ("cmd", {"anchors": "source", "head_width": 3}, "head_width"),
        ("cmd", {"head_width": 3, "head_layers": 0}, r"cmd\.head_width=3 .* there is none\n.*head_layers=2"),
        ("cmd", {"head_hidden": 8, "head_layers": 1}, r"cmd\.head_hidden=8 .* has 1\n.*cmd\.head_layers=2"),
        ("cmc", {"head_hidden": 8}, r"cmc\.head_hidden=8 .* has 1\n.*cmc\.head_layers=2"),
        ("nt_xent", {"head_hidden": 8}, r"nt_xent\.head_layers=2, or leave head_hidden out"),
        ("cmd", {"queue": "bank"}, "anchors=source"),
        ("cmd", {"anchors": "source", "queue": "bank", "standardise": "none"}, "queue=4096"),
        ("cmc", {"queue": "bank", "standardise": "none"}, "queue=4096"),
        ("cmc", {"queue": 8, "direction": "source_to_target"}, "direction=both"),
        ("cmc", {"standardise": "center"}, "standardise=none"),
        ("cmd", {"standardise": "phi_s"}, "standardise=none"),
    ],
)
def test_impossible_options_say_what_to_type(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build(name, target=9, **options)


# Queues


def test_queue_is_first_in_first_out_and_fills_after_the_loss():
    bank = make_bank()
    objective = build("cmc", **PLAIN, queue=5)
    queue = objective.further
    first, second, third = batch(bank, [0, 2, 4]), batch(bank, [6, 8, 10]), batch(bank, [12, 14, 16])
    torch.testing.assert_close(objective(*first), cmc(first[0].pooled, first[1].pooled))
    assert queue.count == 0
    objective.after_step()
    assert queue.count == 3
    assert queue.index.tolist() == [0, 2, 4, NOTHING, NOTHING]
    expected = cmc(second[0].pooled, second[1].pooled, queue=bank.pooled[[0, 2, 4]])
    torch.testing.assert_close(objective(*second), expected)
    objective.after_step()
    assert queue.index.tolist() == [10, 2, 4, 6, 8]
    expected = cmc(third[0].pooled, third[1].pooled, queue=bank.pooled[[2, 4, 6, 8, 10]])
    torch.testing.assert_close(objective(*third), expected)
    objective.after_step()
    objective.after_step()  # nothing new: nothing happens
    assert queue.index.tolist() == [10, 12, 14, 16, 8]
    assert queue.count == 5
    assert queue.place == 4
    torch.testing.assert_close(queue.source, bank.pooled[queue.index])


def test_a_batch_longer_than_the_queue_leaves_its_last_rows():
    bank = make_bank()
    objective = build("cmc", **PLAIN, queue=2)
    objective(*batch(bank, [0, 2, 4, 6]))
    objective.after_step()
    assert sorted(objective.further.index.tolist()) == [4, 6]


def steps(objective, bank, *, epochs, size):
    """Train on shuffled batches of the bank's 20 items; control comes back after each step."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(20, generator=generator).split(size):
            source, _ = batch(bank, rows)
            objective(source, Features(pooled=source.pooled))
            objective.after_step()
            yield


@pytest.mark.parametrize("name", ["cmd", "cmc"])
def test_a_queue_longer_than_an_epoch_holds_no_item_twice(name):
    """Or the copies would be wrong answers that no one can tell from one another, and count in the bound."""
    bank = make_bank()
    options = {"anchors": "source"} if name == "cmd" else {"direction": "target_to_source"}
    objective = build(name, **PLAIN, bank=bank, queue=4096, group_aware=False, **options)
    assert objective.further.size == 20
    for _ in steps(objective, bank, epochs=4, size=5):
        held = objective.further.index[~objective.further.exclude(None, None)[0]].tolist()
        assert len(held) == len(set(held))
    rows = torch.tensor([3, 0, 11])
    source, target = batch(bank, rows)
    others = [i for i in held if i not in rows]
    expected = {"cmd": cmd, "cmc": cmc}[name](source.pooled, target.pooled, queue=bank.pooled[others], **options)
    torch.testing.assert_close(objective(source, target), expected)


def test_the_bound_on_mutual_information_is_no_more_than_the_entropy_of_the_items():
    bank = make_bank()
    options = {"temperature": 1e-3, "direction": "target_to_source", "group_aware": False}
    objective = build("cmc", **PLAIN, bank=bank, queue=4096, **options)
    for _ in steps(objective, bank, epochs=10, size=4):
        pass
    assert objective.diagnostics()["mutual_information_bound"] <= math.log(20)


def test_evaluation_enqueues_nothing():
    objective = build("cmc", **PLAIN, queue=5).eval()
    objective(*batch(make_bank(), [0, 2, 4]))
    objective.after_step()
    assert objective.further.count == 0


def test_queue_leaves_out_the_batchs_own_rows_and_group_mates():
    """Row 0 is in the queue and in the batch; row 3 in the queue is of the group of the batch's row 2."""
    bank = make_bank()
    objective = build("cmc", **PLAIN, queue=4, direction="target_to_source", temperature=0.5)
    objective(*batch(bank, [0, 3, 8]))
    objective.after_step()
    source, target = batch(bank, [0, 2], seed=7)
    exclude = objective.further.exclude(source.index, source.group)
    assert exclude.tolist() == [[True, False, False, True], [True, True, False, True]]
    a, b = (torch.nn.functional.normalize(x, dim=1) for x in (bank.pooled, target.pooled))
    first = (b[0] @ a[[0, 2, 3, 8]].T / 0.5).log_softmax(0)[0]
    second = (b[1] @ a[[2, 0, 8]].T / 0.5).log_softmax(0)[0]
    torch.testing.assert_close(objective(source, target), -(first + second) / 2)


def test_without_index_and_group_only_empty_slots_are_left_out():
    objective = build("cmc", **PLAIN, queue=4)
    pooled = Features(pooled=rand(3, 6))
    objective(pooled, pooled)
    objective.after_step()
    assert objective.further.exclude(None, None).tolist() == [[False, False, False, True]]
    assert objective.further.exclude(torch.tensor([0, 1]), torch.tensor([0, 1])).any(0).tolist() == [
        False,
        False,
        False,
        True,
    ]


def test_cmd_queue_of_pairs_maps_momentum_features_by_todays_head():
    bank = make_bank()
    objective = build("cmd", target=9, bank=bank, queue=8)
    assert objective.needs == {"momentum"}
    first, second = batch(bank, [0, 2, 4], width=9), batch(bank, [6, 8, 10], width=9, seed=5)
    objective(*first)
    objective.after_step()
    torch.testing.assert_close(objective.further.target[:3], first[1].momentum)
    with torch.no_grad():
        objective.space.head[0].weight.mul_(1.5)
    centred, head = objective.space.source, objective.space.head
    expected = cmd(
        centred(second[0].pooled),
        head(second[1].pooled),
        queue=(centred(first[0].pooled), head(first[1].momentum).detach()),
    )
    loss = objective(*second)
    torch.testing.assert_close(loss, expected)
    ours, theirs = (torch.autograd.grad(x, head[0].weight)[0] for x in (loss, expected))
    torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="momentum"):
        objective(second[0], Features(pooled=second[1].pooled))


def test_only_a_pair_queue_needs_the_momentum_encoder():
    bank = make_bank()
    assert build("cmd", bank=bank).needs == frozenset()
    assert build("cmd", bank=bank, anchors="source", queue=8).needs == frozenset()
    assert build("cmc", bank=bank, queue=8).needs == frozenset()


@pytest.mark.parametrize("name", ["cmd", "cmc"])
def test_bank_as_candidates(name):
    """Everything in the cache but the batch itself and each anchor's group mates."""
    bank = make_bank(8)
    anchors = {"anchors": "source"} if name == "cmd" else {"direction": "target_to_source"}
    objective = build(name, bank=bank, queue="bank", head_layers=0, standardise="phi_s", **anchors)
    source, target = batch(bank, [0, 3])
    a, b = objective.space.source(source.pooled), objective.space.target(target.pooled)
    everything = objective.space.source(bank.pooled)
    formula = {"cmd": cmd, "cmc": cmc}[name]
    # Rows 1 and 2 are the mates of 0 and 3: each row has its own further candidates, so one row at a time.
    expected = []
    for row, own in enumerate((0, 3)):
        other = 1 - row
        mates = [i for i in range(8) if i not in (0, 3) and i // 2 != own // 2]
        further = torch.cat([a[other : other + 1], everything[mates]])
        expected.append(formula(a[row : row + 1], b[row : row + 1], queue=further, **anchors))
    torch.testing.assert_close(objective(source, target), torch.stack(expected).mean())
    assert not [key for key in objective.state_dict() if key.startswith("further")]


def test_a_bank_without_index_or_group_counts_its_rows():
    bank = Features(pooled=rand(8, 6))
    objective = build("cmc", bank=bank, queue="bank")
    assert objective.further.index.tolist() == list(range(8))
    source, target = batch(bank, [1, 4])
    assert objective.further.exclude(source.index, None).flatten().nonzero().flatten().tolist() == [1, 4]
    assert torch.isfinite(objective(source, target))


# Temperature, state, diagnostics


@pytest.mark.parametrize("name", ["cmd", "cmc"])
def test_learnable_temperature(name):
    bank = make_bank()
    objective = build(name, bank=bank, learnable_temperature=True)
    parameter = objective.temperature.log_scale
    assert objective.temperature().item() == pytest.approx(0.07)
    objective(*batch(bank, [0, 2, 4])).backward()
    assert parameter.grad.abs() > 0
    with torch.no_grad():
        parameter.fill_(9.0)
    assert objective.temperature().item() == pytest.approx(0.01)
    objective.after_step()
    assert parameter.item() == pytest.approx(math.log(100))
    assert objective.diagnostics()["temperature"] == pytest.approx(0.07)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cmd", {"queue": 7, "standardise": "phi_s", "learnable_temperature": True}),
        ("cmd", {"queue": 7, "anchors": "source"}),
        ("cmd", {"queue": "bank", "anchors": "source"}),
        ("cmc", {"queue": 7, "standardise": "phi_s", "learnable_temperature": True}),
        ("cmc", {"queue": "bank"}),
        ("nt_xent", {"standardise": "center"}),
    ],
)
def test_state_round_trip_goes_on_identically(name, options):
    bank = make_bank()
    one, two = (build(name, target=9, bank=bank, **options) for _ in range(2))
    optimiser = torch.optim.SGD(one.parameters(), lr=0.1)
    for seed in range(3):
        one(*batch(bank, [seed, 5 + seed, 10 + seed], width=9, seed=seed)).backward()
        optimiser.step()
        one.after_step()
    two.load_state_dict(one.state_dict())
    for seed in range(3, 6):
        step = batch(bank, [seed, 5 + seed, 10 + seed], width=9, seed=seed)
        assert torch.equal(one(*step), two(*step))
        one.after_step()
        two.after_step()


def test_a_saved_objective_embeds_without_being_attached():
    bank = make_bank()
    options = {"standardise": "phi_s", "queue": 7}
    trained = build("cmc", target=9, bank=bank, **options)
    plugin = PLUGINS["cmc"]
    fresh = plugin.build(plugin.options(**options), Widths(source=6, target=9))
    fresh.load_state_dict(trained.state_dict())
    step = batch(bank, [0, 2], width=9)
    for one, other in zip(trained.embed(*step), fresh.embed(*step), strict=True):
        assert torch.equal(one, other)


def test_diagnostics_of_cmd_are_means_since_the_last_call():
    bank = make_bank()
    objective = build("cmd", **PLAIN)
    losses = [objective(*batch(bank, [0, 2, 4, 6], seed=seed)).item() for seed in range(3)]
    means = objective.diagnostics()
    assert list(means) == ["entropy", "kl", "tv_bound"]
    assert means["entropy"] + means["kl"] == pytest.approx(sum(losses) / 3, rel=1e-6)
    assert means["tv_bound"] == pytest.approx(math.sqrt(means["kl"] / 2))
    source, _ = batch(bank, [0, 2, 4, 6])
    assert means["entropy"] == pytest.approx(cmd(source.pooled, source.pooled).item(), rel=1e-6)
    assert objective.diagnostics() == {}
    objective(source, source)
    assert objective.diagnostics()["kl"] == pytest.approx(0, abs=1e-6)


def test_diagnostics_of_cmc():
    bank = make_bank()
    objective = build("cmc", **PLAIN)
    source, target = batch(bank, [0, 2, 4, 6])
    loss = objective(source, target)
    means = objective.diagnostics()
    assert means["mutual_information_bound"] == pytest.approx(math.log(4) - loss.item(), abs=1e-6)
    objective(source, source)
    means = objective.diagnostics()
    assert means["r1_target_to_source"] == means["r1_source_to_target"] == 1
    objective(source, Features(pooled=source.pooled.roll(1, 0)))
    assert objective.diagnostics()["r1_target_to_source"] == 0
    with_bank = build("cmc", bank=bank, queue="bank", direction="target_to_source", group_aware=False, **PLAIN)
    loss = with_bank(source, target)
    assert with_bank.diagnostics()["mutual_information_bound"] == pytest.approx(math.log(20) - loss.item(), abs=1e-6)


def test_source_anchors_report_retrieval_where_their_own_slot_is_a_candidate():
    source, _ = batch(make_bank(), [0, 2, 4, 6])
    own = build("cmd", anchors="source", **PLAIN)
    own(source, source)
    assert own.diagnostics()["r1_target_to_source"] == 1
    without = build("cmd", anchors="source", include_self=False, **PLAIN)
    without(source, source)
    assert "r1_target_to_source" not in without.diagnostics()


@pytest.mark.parametrize("name", PLUGINS)
def test_training_brings_the_target_closer(name):
    """A linear target encoder of other sensors' readings of the same latent."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(48, 6, generator=generator)
    sensed = latent @ torch.randn(6, 9, generator=generator)
    bank = Features(pooled=latent, index=torch.arange(48))
    objective = build(name, bank=bank, target=9)
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-2)
    source = Features(pooled=latent, index=torch.arange(48))
    losses = []
    for _ in range(200):
        optimiser.zero_grad()
        loss = objective(source, Features(pooled=sensed))
        loss.backward()
        optimiser.step()
        objective.after_step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    if name != "cmd":
        objective.diagnostics()
        objective(source, Features(pooled=sensed))
        assert objective.diagnostics()["r1_target_to_source"] > 0.9


def test_cmd_defaults_to_the_anchors_that_measured_better_and_fix_the_space():
    options = PLUGINS["cmd"].options()
    assert options.anchors == "source"
    cmd = PLUGINS["cmd"].build(options, Widths(source=6, target=4))
    assert cmd.embed(Features(pooled=rand(3, 6)), Features(pooled=rand(3, 4))) is not None
