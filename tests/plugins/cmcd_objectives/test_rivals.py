"""What all rival objectives have in common: options, heads, learning, state, and being the formula they name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from cmcd_objectives import functional
from pydantic import ValidationError
from rivals import PAIRS, PLUGINS, POOLED, RIVALS, WIDTH, Net, attached, batch, build, draw, make_bank

from cmcd_core import ConfigError, Features

ONE_QUEUE = {"variant": "1q"}
RELATIONAL = {"rkd", "sp", "pkt", "cka", "compress", "dense_cmd"}
CASES = [(name, {}) for name in POOLED] + [("compress", ONE_QUEUE)]
PLAIN = {"standardise": "none", "head_layers": 0}


def test_the_rivals_are_the_ones_that_were_meant():
    assert set(RIVALS) == {
        *("barlow_twins", "cka", "compress", "cosine", "crd", "cwcl", "dense_cmc", "dense_cmd", "dense_cosine"),
        *("dense_l2", "hint", "l2", "mmd", "pkt", "rkd", "seed", "siglip", "socket", "sp", "srd", "unic", "vicreg"),
        "vkd",
    }


@pytest.mark.parametrize("name", RIVALS)
def test_options_are_described_and_bounded(name):
    plugin = PLUGINS[name]
    assert plugin.summary.endswith(").")  # the formula's source comes last
    for key, field in plugin.options.model_fields.items():
        assert field.description, key
        if field.annotation in (int, float):
            for wrong in (-1e9, 1e9):
                with pytest.raises(ValidationError):
                    plugin.options(**{key: type(field.default)(wrong)})
    with pytest.raises(ValidationError):
        plugin.options(nonsense=1)


@pytest.mark.parametrize("target", [WIDTH, 4, 9])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_equal_and_different_widths(name, options, target):
    bank = make_bank()
    objective = attached(name, bank, target=target, **options)
    source, given = batch(bank, [0, 3, 8, 9], target)
    given.pooled.requires_grad_()
    if name in ("seed", "compress"):  # their candidates are past batches
        objective(*batch(bank, range(12, 20), target))
        objective.after_step()
    loss = objective(source, given)
    assert loss.ndim == 0
    assert torch.isfinite(loss)
    loss.backward()
    assert given.pooled.grad.abs().sum() > 0
    assert source.pooled.grad is None
    for key, parameter in objective.named_parameters():
        assert parameter.grad is not None, key
    space = objective.embed(source, given)
    assert (space is None) == (name in RELATIONAL and not options)
    if space is not None:
        assert space[0].shape == space[1].shape == (4, 128 if name == "crd" else WIDTH)


@pytest.mark.parametrize("name", ["l2", "siglip", "seed", "cwcl", "vicreg"])
def test_widths_that_differ_without_a_head_say_what_to_type(name):
    with pytest.raises(ConfigError, match=f"objective.{name}.head_layers=1"):
        build(name, target=9, head_layers=0)


WITH_HIDDEN = sorted(name for name in RIVALS if "head_hidden" in PLUGINS[name].options.model_fields)


@pytest.mark.parametrize("name", WITH_HIDDEN)
def test_a_hidden_width_of_a_head_without_hidden_layer_is_refused(name):
    for layers in (0, 1):
        with pytest.raises(
            ConfigError, match=f"objective.{name}.head_hidden=8 .*\nType -o objective.{name}.head_layers=2"
        ):
            build(name, head_layers=layers, head_hidden=8)
    assert build(name, head_layers=2, head_hidden=8).space.head[0].out_features == 8


@pytest.mark.parametrize("target", [WIDTH, 4])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_thirty_steps_lower_the_loss(name, options, target):
    """Another sensor's readings of the same latent, through a small net. The first step of an empty queue has no
    candidates, so that the second counts."""
    latent = draw(PAIRS, WIDTH)
    sensed = latent @ draw(WIDTH, 9, seed=5)
    bank = Features(pooled=latent, index=torch.arange(PAIRS), group=torch.arange(PAIRS))
    net = Net(9, target, seed=3)
    objective = attached(name, bank, target=target, teacher=Net(9, WIDTH, seed=4).eval(), student=net, **options)
    optimiser = torch.optim.Adam([*net.parameters(), *objective.parameters()], lr=1e-2)
    losses = []
    for _ in range(31):
        seen = net(sensed).pooled
        loss = objective(bank, Features(pooled=seen, momentum=seen.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        objective.after_step()
        losses.append(loss.item())
    assert losses[30] < 0.65 * losses[1]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_state_goes_on_identically_and_embeds_without_being_attached(name, options):
    bank = make_bank()
    one, two = (attached(name, bank, target=9, **options) for _ in range(2))
    for seed in range(3):
        source, given = batch(bank, [seed, 5 + seed, 10 + seed], 9, seed=seed)
        given.pooled.requires_grad_()
        one(source, given).backward()
        with torch.no_grad():
            for parameter in one.parameters():
                parameter -= 1e-3 * parameter.grad
        one.after_step()
    state = {key: value.clone() for key, value in one.state_dict().items()}
    two.load_state_dict(state)
    for seed in range(3, 6):
        step = batch(bank, [seed, 5 + seed, 10 + seed], 9, seed=seed)
        assert torch.equal(one(*step), two(*step))
        one.after_step()
        two.after_step()
    fresh, trained = build(name, target=9, seed=7, **options), build(name, target=9, seed=8, **options)
    fresh.load_state_dict(state)
    trained.load_state_dict(state)
    ours, theirs = fresh.embed(*step), trained.embed(*step)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert torch.equal(ours[1], theirs[1])


def test_a_state_of_another_width_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        build("l2", target=9).load_state_dict(build("l2", target=8).state_dict())


FORMULAS = {
    "hint": (PLAIN, lambda a, b: 100 * functional.hint(a, b)),
    "l2": (PLAIN, functional.l2),
    "cosine": (PLAIN, functional.cosine),
    "unic": (PLAIN, functional.unic),
    "mmd": (PLAIN, functional.mmd),
    "vicreg": (PLAIN, functional.vicreg),
    "barlow_twins": (
        {"head_layers": 0, "off_diagonal_weight": 0.1},
        lambda a, b: functional.barlow_twins(a, b, off_diagonal_weight=0.1),
    ),
    "srd": ({"head_layers": 0}, lambda a, b: 2 * functional.srd(a, b)),
    "rkd": ({}, functional.rkd),
    "rkd distances": (
        {"distance_weight": 3, "angle_weight": 0},
        lambda a, b: functional.rkd(a, b, distance_weight=3, angle_weight=0),
    ),
    "sp": ({}, lambda a, b: 3000 * functional.sp(a, b)),
    "pkt": ({"scale": 5}, lambda a, b: 5 * functional.pkt(a, b)),
    "cka": ({}, functional.cka),
    "siglip": ({**PLAIN, "scale": 3, "bias": -2}, lambda a, b: functional.siglip(a, b, scale=3, bias=-2)),
    "cwcl": (
        {**PLAIN, "temperature": 0.3},
        lambda a, b: (
            functional.cwcl(a, b, temperature=0.3) + functional.cmc(a, b, temperature=0.3, direction="source_to_target")
        ),
    ),
    "socket": ({**PLAIN, "statistics_weight": 0}, lambda a, b: 0.5 * functional.socket(a, b)),
}


@pytest.mark.parametrize("case", FORMULAS)
def test_without_head_and_standardisation_it_is_the_formula(case):
    options, formula = FORMULAS[case]
    bank = make_bank()
    source, target = batch(bank, [0, 3, 8, 9, 11])
    objective = attached(case.split()[0], bank, **options)
    torch.testing.assert_close(objective(source, target), formula(source.pooled, target.pooled))


def test_vkd_is_the_formula_of_an_orthogonal_projection():
    bank = make_bank()
    for width in (4, WIDTH, 9):
        objective = attached("vkd", bank, target=width)
        weight = objective.space.head.linear.weight
        gram = weight.T @ weight if width < WIDTH else weight @ weight.T
        torch.testing.assert_close(gram, torch.eye(min(width, WIDTH)))
        source, target = batch(bank, [0, 3, 8], width)
        expected = functional.vkd(source.pooled, target.pooled @ weight.T)
        torch.testing.assert_close(objective(source, target), expected)


@pytest.mark.parametrize("name", ["hint", "unic", "vicreg", "mmd", "l2", "siglip", "cwcl", "seed", "crd"])
def test_defaults_standardise_the_source(name):
    bank = Features(pooled=draw(200, WIDTH) * 3 + 5, index=torch.arange(200))
    mapped = attached(name, bank).space.source(bank.pooled)
    torch.testing.assert_close(mapped.mean(dim=0), torch.zeros(WIDTH), atol=1e-4, rtol=0)
    if name in ("hint", "unic", "vicreg", "mmd"):
        torch.testing.assert_close(mapped.var(dim=0), torch.ones(WIDTH))


@pytest.mark.parametrize("name", ["barlow_twins", "srd"])
def test_batch_normalised_sides_embed_single_rows_by_the_statistics_of_training(name):
    bank = Features(pooled=draw(64, WIDTH) * 3 + 5)
    objective = attached(name, bank, head_layers=0)
    for _ in range(100):
        objective(bank, Features(pooled=2 * bank.pooled - 1))
    a, b = objective.embed(Features(pooled=bank.pooled[:1]), Features(pooled=2 * bank.pooled[:1] - 1))
    expected = (bank.pooled[0] - bank.pooled.mean(0)) / bank.pooled.std(0)
    torch.testing.assert_close(a[0], expected, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(b[0], expected, atol=1e-2, rtol=1e-2)
    before = objective.norms[0].running_mean.clone()
    objective.eval()(bank, bank)
    assert torch.equal(objective.norms[0].running_mean, before)


def test_diagnostics_of_a_common_space():
    bank = make_bank()
    objective = attached("cosine", bank, head_layers=0)
    source, _ = batch(bank, [0, 3, 8, 9])
    objective(source, source)
    assert objective.diagnostics() == {"r1_target_to_source": 1}
    objective(source, Features(pooled=source.pooled.roll(1, 0)))
    assert objective.diagnostics() == {"r1_target_to_source": 0}
    relational = attached("sp", bank)
    relational(source, source)
    assert relational.diagnostics() == {}


# Groups and weights of the batch's contrasts, against slow, obvious loops

GROUP = torch.tensor([0, 1, 0, 2, 1])
WEIGHT = torch.tensor([1.0, 2.0, 0.0, 0.5, 1.0])


def cosines(x, y):
    return torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(y, dim=1).T


def slow_siglip(a, b, scale, bias):
    rows, logits = [], cosines(a, b) * scale + bias
    for i in range(len(a)):
        others = [j for j in range(len(a)) if GROUP[j] != GROUP[i]]
        rows.append(
            -torch.nn.functional.logsigmoid(torch.stack([logits[i, i], *(-logits[i, j] for j in others)])).sum()
        )
    return torch.stack(rows)


def slow_cwcl(a, b, temperature):
    rows, closeness, logits = [], (cosines(a, a) + 1) / 2, cosines(b, a) / temperature
    for i in range(len(a)):
        kept = [j for j in range(len(a)) if j == i or GROUP[j] != GROUP[i]]
        log_q = logits[i, kept].log_softmax(0)
        rows.append(-(closeness[i, kept] * log_q).sum() / closeness[i, kept].sum())
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["siglip", "cwcl"])
def test_pairs_of_one_group_are_no_negatives_of_each_other(name):
    a, b = draw(5, WIDTH), draw(5, WIDTH, seed=1)
    source, target = Features(pooled=a, group=GROUP, weight=WEIGHT), Features(pooled=b)
    if name == "siglip":
        rows, fixed = slow_siglip(a, b, 10, -3), {"bias": -3}
        alone = functional.siglip(a, b, scale=10, bias=-3)
        expected = (rows * WEIGHT).sum() / WEIGHT.sum()
    else:
        rows, fixed = slow_cwcl(a, b, 0.2), {"temperature": 0.2}
        other = {"temperature": 0.2, "direction": "source_to_target"}
        alone = functional.cwcl(a, b, temperature=0.2) + functional.cmc(a, b, **other)
        expected = (rows * WEIGHT).sum() / WEIGHT.sum() + functional.cmc(a, b, group=GROUP, weight=WEIGHT, **other)
    torch.testing.assert_close(attached(name, **PLAIN, **fixed)(source, target), expected)
    unaware = attached(name, **PLAIN, **fixed, group_aware=False)
    torch.testing.assert_close(unaware(Features(pooled=a, group=GROUP), target), alone)


# Weights of the pairs

WEIGHTLESS = {"barlow_twins", "cka", "mmd", "pkt", "rkd", "sp", "srd", "vicreg"}
"""They take statistics of the whole batch."""


@pytest.mark.parametrize(("name", "options"), CASES)
def test_weights_change_the_loss_or_the_objective_says_that_they_do_not(name, options):
    bank = make_bank()
    losses = []
    for weight in (None, torch.full((5,), 3.0), torch.tensor([1.0, 0, 0, 2, 0])):
        objective = attached(name, bank, **options)
        if name in ("seed", "compress"):  # their candidates are past batches
            objective(*batch(bank, range(12, 20)))
            objective.after_step()
        source, target = batch(bank, [0, 3, 8, 9, 11])
        torch.manual_seed(0)
        losses.append(objective(replace(source, weight=weight), target))
    torch.testing.assert_close(losses[1], losses[0])
    assert torch.isclose(losses[2], losses[0]) == (name in WEIGHTLESS)
    assert objective.uses_weights == (name not in WEIGHTLESS)


@pytest.mark.parametrize("name", ["hint", "l2", "cosine", "unic", "vkd"])
def test_a_pair_of_twice_the_weight_counts_twice_and_one_of_none_not_at_all(name):
    function = getattr(functional, name)
    a, b = draw(4, WIDTH), draw(4, WIDTH, seed=1)
    twice = function(a[[0, 1, 1]], b[[0, 1, 1]])
    torch.testing.assert_close(function(a, b, weight=torch.tensor([1, 2, 0, 0])), twice)
    assert function(a, b, weight=torch.zeros(4)) == 0
    with pytest.raises(ValueError, match=r"weight must be \(4,\)"):
        function(a, b, weight=torch.ones(3))


def test_socket_weighs_the_rows_of_its_norm():
    a, b = draw(4, WIDTH), draw(4, WIDTH, seed=1)
    b.requires_grad_()
    loss = functional.socket(a, b, weight=torch.tensor([1.0, 2, 0, 1]))
    torch.testing.assert_close(loss, functional.socket(a[[0, 1, 1, 3]], b[[0, 1, 1, 3]]))
    loss.backward()
    assert b.grad[2].abs().max() == 0
    source, target = Features(pooled=a, weight=torch.tensor([1.0, 2, 0, 1])), Features(pooled=b)
    features_only = attached("socket", make_bank(), **PLAIN, statistics_weight=0)
    torch.testing.assert_close(features_only(source, target), 0.5 * loss)


# The sigmoid loss's scale and bias


def test_siglip_learns_its_scale_and_bias_within_bounds():
    bank = make_bank()
    objective = attached("siglip", bank)
    scale, bias = objective.temperature.log_scale, objective.bias
    assert scale.item() == pytest.approx(math.log(10))
    assert bias.item() == -10
    optimiser = torch.optim.SGD([scale, bias], lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        objective(*batch(bank, range(8))).backward()
        optimiser.step()
        objective.after_step()
    assert scale.item() != pytest.approx(math.log(10))
    assert bias.item() != pytest.approx(-10)
    assert set(objective.diagnostics()) == {"r1_target_to_source", "scale", "bias"}
    with torch.no_grad():
        scale.fill_(50.0)
        bias.fill_(-1e6)
    objective.after_step()
    assert scale.exp().item() == pytest.approx(100, rel=1e-5)
    assert bias.item() == -100
    assert torch.isfinite(objective(*batch(bank, range(8))))


def test_siglip_with_fixed_scale_and_bias_has_nothing_to_learn():
    objective = attached("siglip", **PLAIN, learnable=False)
    assert not list(objective.parameters())
    a, b = draw(5, WIDTH), draw(5, WIDTH, seed=1)
    expected = functional.siglip(a, b, scale=10, bias=-10)
    torch.testing.assert_close(objective(Features(pooled=a), Features(pooled=b)), expected)
    assert set(objective.diagnostics()) == {"r1_target_to_source"}
