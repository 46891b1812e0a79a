"""Dense CMD: the formula on maps, and cells without valid pixels."""

from __future__ import annotations

import pytest
import torch
from cmcd_objectives import functional
from rivals import attached, draw

from cmcd_core import Features


def maps(channels, seed, **more):
    return Features(pooled=draw(2, 6), dense=draw(2, channels, 3, 4, seed=seed), **more)


def tokens(features):
    return torch.stack([features.dense[:, :, y, x] for y in range(3) for x in range(4)], dim=1)


@pytest.mark.parametrize("own", [False, True])
def test_with_every_cell_valid_it_is_the_formula(own):
    source, target = maps(5, 1), maps(7, 2, valid=torch.full((2, 3, 4), 0.5))
    objective = attached("dense_cmd", include_self=own)
    assert objective.needs == {"dense"}
    expected = functional.dense_cmd(tokens(source), tokens(target), temperature=0.07, include_self=own)
    torch.testing.assert_close(objective(source, target), expected)
    assert objective.embed(source, target) is None


def test_invalid_cells_are_neither_anchors_nor_candidates():
    valid = torch.ones(2, 3, 4)
    valid[0, 0, :3] = torch.tensor([0.0, 0.2, 0.49])
    source_valid = torch.ones(2, 3, 4)
    source_valid[1] = 0  # nothing is left of the second item
    target = maps(7, 2, valid=valid)
    source = maps(5, 1, valid=source_valid)
    objective = attached("dense_cmd", temperature=0.2)
    target.dense.requires_grad_()
    loss = objective(source, target)
    kept = functional.dense_cmd(tokens(source)[:1, 3:], tokens(target)[:1, 3:], temperature=0.2)
    torch.testing.assert_close(loss, kept)
    assert objective.diagnostics()["valid_share"] == pytest.approx(9 / 24)
    loss.backward()
    assert target.dense.grad[0, :, 0, :3].abs().max() == 0
    assert target.dense.grad[1].abs().max() == 0
    assert target.dense.grad[0, :, 1:].abs().min() > 0
    nothing = objective(maps(5, 1, valid=torch.zeros(2, 3, 4)), target)
    assert nothing == 0


def test_weights_are_the_items():
    source, target = maps(5, 1, weight=torch.tensor([3.0, 1.0])), maps(7, 2)
    one, other = (
        functional.dense_cmd(tokens(source)[i : i + 1], tokens(target)[i : i + 1], temperature=0.07) for i in range(2)
    )
    torch.testing.assert_close(attached("dense_cmd")(source, target), (3 * one + other) / 4)


def test_missing_maps_and_other_grids_are_refused():
    objective = attached("dense_cmd")
    with pytest.raises(ValueError, match="dense maps"):
        objective(maps(5, 1), Features(pooled=draw(2, 6)))
    with pytest.raises(ValueError, match="one grid"):
        objective(maps(5, 1), Features(pooled=draw(2, 6), dense=draw(2, 5, 2, 2)))


def test_a_few_steps_lower_it():
    source, student = maps(5, 1), draw(2, 7, 3, 4, seed=2).requires_grad_()
    objective = attached("dense_cmd", temperature=0.3)
    optimiser = torch.optim.Adam([student], lr=0.05)
    losses = []
    for _ in range(30):
        loss = objective(source, Features(pooled=draw(2, 6), dense=student))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
