"""SEED and CompRess: what is in the queue when, who is left out, and that a resumed run has the same queue."""

from __future__ import annotations

import pytest
import torch
from cmcd_objectives import functional
from cmcd_objectives.further import NOTHING
from rivals import PAIRS, WIDTH, attached, batch, build, draw, make_bank

from cmcd_core import Features

PLAIN = {"standardise": "none", "head_layers": 0}
SEED = {"temperature_source": 0.01, "temperature_target": 0.2}


def test_seed_starts_with_random_directions_and_then_is_the_formula_of_past_sources():
    bank = make_bank()
    objective = attached("seed", bank, **PLAIN, queue=6)
    start = objective.queue.source.clone()
    assert start.norm(dim=1).min() > 0
    steps = [batch(bank, [3 * i, 3 * i + 1, 3 * i + 2], seed=i) for i in range(3)]
    queues = [start, torch.cat([bank.pooled[:3], start[3:]]), bank.pooled[:6]]
    for (source, target), queue in zip(steps, queues, strict=True):
        expected = functional.seed(source.pooled, target.pooled, queue=queue, **SEED)
        torch.testing.assert_close(objective(source, target), expected)
        objective.after_step()
    assert objective.queue.index.tolist() == [6, 7, 8, 3, 4, 5]


@pytest.mark.parametrize("variant", ["1q", "2q"])
def test_compress_is_the_formula_of_past_pairs(variant):
    bank, two = make_bank(), variant == "2q"
    objective = attached("compress", bank, target=9, variant=variant, queue=6, **({} if two else {"head_layers": 1}))
    assert objective.needs == ({"momentum"} if two else frozenset())
    assert objective.queue.count == (0 if two else 6)
    past = [batch(bank, [3 * i, 3 * i + 1, 3 * i + 2], 9, seed=i) for i in range(2)]
    for step in past:
        objective(*step)
        objective.after_step()
    source, target = batch(bank, [10, 11, 12], 9, seed=5)
    a, b = objective.space.source(source.pooled), objective.space.target(target.pooled)
    queue = objective.space.source(bank.pooled[:6])
    if two:
        momentum = torch.cat([step[1].momentum for step in past])
        queue = (queue, objective.space.target(momentum))
    torch.testing.assert_close(objective(source, target), functional.compress(a, b, queue=queue, temperature=0.04))


def test_2q_maps_past_momentum_features_by_todays_head_without_gradient():
    bank = make_bank()
    objective = attached("compress", bank, target=9, head_layers=1)
    first, second = batch(bank, [0, 1, 2], 9), batch(bank, [3, 4, 5], 9, seed=4)
    objective(*first)
    objective.after_step()
    head = objective.space.head
    with torch.no_grad():
        head.weight.mul_(1.5)
    queue = objective.space.source(first[0].pooled), head(first[1].momentum).detach()
    expected = functional.compress(
        objective.space.source(second[0].pooled), head(second[1].pooled), queue=queue, temperature=0.04
    )
    loss = objective(*second)
    torch.testing.assert_close(loss, expected)
    ours, theirs = (torch.autograd.grad(x, head.weight)[0] for x in (loss, expected))
    torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="momentum"):
        objective(second[0], Features(pooled=second[1].pooled))


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("name", ["seed", "compress"])
def test_an_anchors_own_past_entries_and_its_groups_are_no_candidates(name, grouped):
    """Rows 2i and 2i + 1 share a source item. Batch mates' entries stay: they are no candidates in the batch."""
    bank = make_bank(grouped=True)
    options = {**PLAIN, "queue": 4, "group_aware": grouped, **({} if name == "seed" else {"variant": "1q"})}
    objective = attached(name, bank, **options)
    objective(*batch(bank, [0, 3, 8, 9]))
    objective.after_step()
    source, target = batch(bank, [0, 2], seed=7)
    rows = []
    for place, row in enumerate((0, 2)):
        kept = [i for i in (0, 3, 8, 9) if i != row and not (grouped and i // 2 == row // 2)]
        one = (source.pooled[place : place + 1], target.pooled[place : place + 1])
        queue = bank.pooled[kept]
        seed = name == "seed"
        formula = functional.seed(*one, queue=queue, **SEED) if seed else None
        rows.append(formula if seed else functional.compress(*one, queue=queue, temperature=0.04))
    torch.testing.assert_close(objective(source, target), torch.stack(rows).mean())
    weighted = Features(pooled=target.pooled, weight=torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(objective(source, weighted), (3 * rows[0] + rows[1]) / 4)


@pytest.mark.parametrize(("name", "default"), [("seed", 65_536), ("compress", 128_000)])
def test_the_queue_is_no_longer_than_an_epoch(name, default):
    objective = build(name)
    assert objective.options.queue == default
    assert attached(name).queue.size == PAIRS
    assert attached(name, queue=5).queue.size == 5


def test_a_resumed_run_has_the_queue_of_the_interrupted_one():
    bank = make_bank()
    whole, resumed = (attached("compress", bank, target=9, queue=7) for _ in range(2))
    for seed in range(3):
        whole(*batch(bank, [seed, 9 + seed, 20], 9, seed=seed))
        whole.after_step()
    resumed.load_state_dict(whole.state_dict())
    assert resumed.queue.index.tolist() == whole.queue.index.tolist()
    assert resumed.queue.size == 7
    assert NOTHING not in resumed.queue.index
    for objective in (whole, resumed):
        objective(*batch(bank, [5, 6], 9))
        objective.after_step()
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_attaching_again_starts_over_and_alike():
    bank = make_bank()
    objective = attached("seed", bank, **PLAIN, queue=6)
    start = objective.queue.source.clone()
    objective(*batch(bank, [0, 1]))
    objective.after_step()
    objective.attach(None, None, bank=bank, pairs=PAIRS, steps=1)
    assert torch.equal(objective.queue.source, start)
    assert objective.queue.place == 0


def test_evaluation_enqueues_nothing():
    bank = make_bank()
    objective = attached("compress", bank).eval()
    objective(*batch(bank, [0, 1, 2]))
    objective.after_step()
    assert objective.queue.count == 0


def test_seed_reports_what_is_left_to_learn():
    bank = make_bank()
    objective = attached("seed", bank, **PLAIN, temperature_source=0.2, temperature_target=0.2)
    source = batch(bank, [0, 1, 2])[0]
    loss = objective(source, source)
    means = objective.diagnostics()
    assert means["kl"] == pytest.approx(0, abs=1e-6)
    assert means["entropy"] == pytest.approx(loss.item(), rel=1e-6)
    objective(source, Features(pooled=draw(3, WIDTH, seed=9)))
    assert objective.diagnostics()["kl"] > 0.1
