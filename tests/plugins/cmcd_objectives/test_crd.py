"""CRD: its formula in slow loops, its memories and their update, its normaliser, its negatives."""

from __future__ import annotations

import math

import pytest
import torch
from cmcd_objectives.crd import Memory
from rivals import PAIRS, WIDTH, attached, batch, draw, make_bank

from cmcd_core import Features

OPTIONS = {"width": 5, "temperature": 0.3}


def slow(anchors, rows, index, banned, z, temperature=0.3):
    """(N,) losses, pair by pair; ``banned(i, j)``: j is no negative of i."""
    n, out = len(rows), []
    for anchor, i in zip(anchors, index, strict=True):
        h = torch.exp(rows @ anchor / temperature)
        negatives = [j for j in range(n) if not banned(i, j)]
        noise = len(negatives) / n
        loss = -torch.log(h[i] / z / (h[i] / z + noise + 1e-7))
        for j in negatives:
            loss = loss - math.log(noise) + torch.log(h[j] / z + noise + 1e-7)
        out.append(loss)
    return torch.stack(out)


def normaliser(anchors, rows, index, banned, temperature=0.3):
    n = len(rows)
    h = [
        torch.exp(rows[j] @ anchor / temperature)
        for anchor, i in zip(anchors, index, strict=True)
        for j in range(n)
        if j == i or not banned(i, j)
    ]
    return torch.stack(h).mean() * n


@pytest.mark.parametrize("grouped", [True, False])
def test_it_is_the_published_formula(grouped):
    bank, index = make_bank(grouped=True), [0, 3, 8, 9]
    objective = attached("crd", bank, target=9, **OPTIONS, group_aware=grouped)

    def banned(i, j):
        return i == j or (grouped and i // 2 == j // 2)

    source, target = batch(bank, index, 9)
    a, b = objective.embed(source, target)
    sources, targets = objective.sources.rows.clone(), objective.targets.rows.clone()
    z_b, z_a = normaliser(b, sources, index, banned), normaliser(a, targets, index, banned)
    rows = slow(b, sources, index, banned, z_b) + slow(a, targets, index, banned, z_a)
    torch.testing.assert_close(objective(source, target), 0.8 * rows.mean())
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0])
    weighted = objective(source, Features(pooled=target.pooled, weight=weight))
    torch.testing.assert_close(weighted, 0.8 * (rows * weight).sum() / 4)


def test_the_normaliser_is_the_first_batchs():
    bank = make_bank()
    objective = attached("crd", bank, **OPTIONS)
    assert objective.sources.normaliser.isnan()
    objective.eval()(*batch(bank, [0, 1, 2]))
    assert objective.sources.normaliser.isnan()
    objective.train()(*batch(bank, [0, 1, 2]))
    first = objective.sources.normaliser.clone()
    assert torch.isfinite(first)
    objective(*batch(bank, [5, 6], seed=8))
    assert objective.sources.normaliser == first


def test_rows_move_after_the_step_and_stay_at_unit_length():
    bank = make_bank()
    objective = attached("crd", bank, **OPTIONS, momentum=0.7)
    before = {side: getattr(objective, side).rows.clone() for side in ("sources", "targets")}
    source, target = batch(bank, [2, 11])
    objective(source, target)
    assert torch.equal(objective.sources.rows, before["sources"])
    features = dict(zip(("sources", "targets"), objective.embed(source, target), strict=True))
    objective.after_step()
    for side, old in before.items():
        moved = 0.7 * old[[2, 11]] + 0.3 * features[side]
        expected = old.clone()
        expected[[2, 11]] = moved / moved.norm(dim=1, keepdim=True)
        torch.testing.assert_close(getattr(objective, side).rows, expected)
    after = objective.targets.rows.clone()
    objective.after_step()  # nothing new: nothing happens
    objective.eval()(source, target)
    objective.after_step()
    assert torch.equal(objective.targets.rows, after)


def test_the_sources_memory_starts_from_the_cache_and_the_targets_at_random():
    bank = make_bank(PAIRS + 4)  # unpaired source rows come last
    objective = attached("crd", bank, **OPTIONS)
    objective.attach(None, None, bank=bank, pairs=PAIRS, steps=1)
    rows = objective.sources.rows
    assert rows.shape == objective.targets.rows.shape == (PAIRS, 5)
    mapped = objective.source_map(bank.pooled[:PAIRS] - bank.pooled.mean(0))
    torch.testing.assert_close(rows, torch.nn.functional.normalize(mapped, dim=1))
    torch.testing.assert_close(objective.targets.rows.norm(dim=1), torch.ones(PAIRS))
    again = attached("crd", bank, **OPTIONS)
    again.attach(None, None, bank=bank, pairs=PAIRS, steps=1)
    assert torch.equal(again.targets.rows, objective.targets.rows)
    bare = attached("crd", bank, **OPTIONS, standardise="none")
    bare.attach(None, None, bank=None, pairs=7, steps=1)
    assert bare.sources.rows.shape == (7, 5)


def test_negatives_are_drawn_without_repetition():
    memory = Memory(3)
    memory.begin(draw(50, 3))
    torch.manual_seed(0)
    one, other = memory.draw(20), memory.draw(20)
    assert len(set(one.tolist())) == 20
    assert one.tolist() != other.tolist()
    assert memory.draw(50).tolist() == memory.draw(16_384).tolist() == list(range(50))


def test_both_memories_and_normalisers_are_saved():
    state = attached("crd", **OPTIONS).state_dict()
    for side in ("sources", "targets"):
        assert state[f"{side}.rows"].shape == (PAIRS, 5)
        assert f"{side}.normaliser" in state
    assert "group" not in state


def test_cold_temperatures_stay_finite():
    bank = make_bank()
    objective = attached("crd", bank, temperature=0.001)
    source, target = batch(bank, range(6))
    target.pooled.requires_grad_()
    loss = objective(source, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(target.pooled.grad).all()


def test_one_group_of_all_has_no_negatives_and_a_finite_loss():
    bank = Features(pooled=draw(6, WIDTH), index=torch.arange(6), group=torch.zeros(6, dtype=torch.int64))
    assert torch.isfinite(attached("crd", bank)(*batch(bank, range(4))))


def test_without_an_index_it_says_so():
    with pytest.raises(ValueError, match="index"):
        attached("crd")(Features(pooled=draw(3, WIDTH)), Features(pooled=draw(3, WIDTH)))
