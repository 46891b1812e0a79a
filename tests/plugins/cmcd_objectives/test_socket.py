"""SOCKET: BatchNorm statistics of the running target, where they can be compared, and hooks that leave no trace."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest
import torch
from rivals import WIDTH, Net, attached, draw, make_bank
from torch import nn

from cmcd_core import Features


def hooks(encoder):
    return sum(len(layer._forward_pre_hooks) for layer in encoder.modules())


def settled(x, dim=WIDTH):
    """A source whose running statistics are exactly those of x's batch."""
    net = Net(x.shape[1], dim)
    inputs = net.layers[0](x).detach()
    net.layers[1].running_mean.copy_(inputs.mean(0))
    net.layers[1].running_var.copy_(inputs.var(0, correction=0))
    return net.eval()


def plain(**options):
    return {"standardise": "none", **options}


@pytest.mark.parametrize("training", [True, False])
def test_it_is_nothing_for_an_identical_network_on_the_same_data(training):
    x = draw(32, 4)
    source = settled(x)
    target = copy.deepcopy(source).train(training)
    objective = attached("socket", teacher=source, student=target, **plain())
    loss = objective(source(x), target(x))
    assert loss.item() == pytest.approx(0, abs=1e-3)
    means = objective.diagnostics()
    assert means["batchnorm_layers"] == 1
    assert means["statistics"] == pytest.approx(0, abs=1e-4)
    other = objective(source(x), target(2 * x + 1))
    assert other > 1


def test_it_is_the_published_sum_over_layers():
    """Two layers, convolutional ones, of which the first counts ten times."""

    class Convolutions(Net):
        def __init__(self, seed):
            super().__init__(2, 5, norm=False)
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5))

        def forward(self, x):
            return Features(pooled=self.layers(x).mean(dim=(2, 3)))

    source, target = Convolutions(0), Convolutions(1)
    source(draw(8, 2, 6, 6))
    source.eval()
    x = draw(4, 2, 6, 6, seed=3)
    objective = attached("socket", make_bank(width=5), target=5, teacher=source, student=target, **plain())
    with torch.no_grad():
        first = target.layers[0](x)
        second = target.layers[2](target.layers[1](first))
    expected = 0.0
    for weight, number, seen in ((10, 1, first), (1, 3, second)):
        norm = source.layers[number]
        mean = (seen.mean(dim=(0, 2, 3)) - norm.running_mean).norm()
        expected += weight * (mean + (seen.var(dim=(0, 2, 3), correction=0) - norm.running_var).norm())
    a, b = source(x), target(x)
    features = (a.pooled - b.pooled).norm()
    torch.testing.assert_close(objective(a, b), 0.5 * features + 0.5 * expected)
    assert objective.diagnostics()["batchnorm_layers"] == 2


def test_statistics_teach_the_layers_before_them():
    x = draw(16, 4)
    target = Net(4, WIDTH, seed=5)
    objective = attached("socket", teacher=settled(x), student=target, **plain(feature_weight=0))
    objective(Features(pooled=draw(16, WIDTH)), target(x)).backward()
    assert target.layers[0].weight.grad.abs().sum() > 0
    assert target.layers[3].weight.grad.abs().sum() == 0


@pytest.mark.parametrize("width", [WIDTH, 9])
def test_layers_that_are_not_alike_fall_back_on_the_pooled_features(width):
    x, bank = draw(16, 4), make_bank()
    target = Net(4, width, norm=False)
    objective = attached("socket", bank, target=width, teacher=settled(x), student=target, **plain())
    assert hooks(target) == 0
    a, b = Features(pooled=draw(16, WIDTH)), target(x)
    mapped = objective.space.target(b.pooled)
    mean = (mapped.mean(0) - bank.pooled.mean(0)).norm()
    spread = (mapped.var(0, correction=0) - bank.pooled.var(0, correction=0)).norm()
    torch.testing.assert_close(objective(a, b), 0.5 * (a.pooled - mapped).norm() + 0.5 * (mean + spread))
    assert objective.diagnostics()["batchnorm_layers"] == 0
    objective.attach(settled(x), target, bank=None, pairs=16, steps=1)
    torch.testing.assert_close(objective(a, b), 0.5 * (a.pooled - mapped).norm())


def test_without_a_run_of_the_encoder_there_are_features_only():
    x = draw(16, 4)
    target = Net(4, WIDTH, seed=5)
    objective = attached("socket", teacher=settled(x), student=target, **plain())
    a, b = Features(pooled=draw(16, WIDTH)), target(x)
    assert objective(a, b) > 0.5 * (a.pooled - b.pooled).norm() + 1
    torch.testing.assert_close(objective(a, b), 0.5 * (a.pooled - b.pooled).norm())


def test_hooks_go_with_the_objective_and_move_when_it_is_attached_again():
    x = draw(16, 4)
    source, first, second = settled(x), Net(4, WIDTH), Net(4, WIDTH)
    objective = attached("socket", teacher=source, student=first, **plain())
    assert (hooks(source), hooks(first)) == (0, 1)
    objective.attach(source, first, bank=None, pairs=16, steps=1)
    assert hooks(first) == 1
    objective.attach(source, second, bank=None, pairs=16, steps=1)
    assert (hooks(first), hooks(second)) == (0, 1)
    objective(source(x), second(x)).backward()
    del objective
    gc.collect()
    assert hooks(second) == 0


def test_copies_and_pickles_of_the_target_do_not_report():
    """The moving average of another term is a deep copy of the watched encoder, and runs after it."""
    x = draw(16, 4)
    source, target = settled(x), Net(4, WIDTH, seed=5)
    objective = attached("socket", teacher=source, student=target, **plain())
    a = source(x)
    expected = objective(a, target(x))
    seen = target(x)
    copy.deepcopy(target)(x + 100)
    pickle.loads(pickle.dumps(target))(x + 100)
    assert torch.equal(objective(a, seen), expected)


def test_state_holds_neither_hooks_nor_statistics():
    x = draw(16, 4)
    target = Net(4, WIDTH)
    before = set(target.state_dict())
    objective = attached("socket", teacher=settled(x), student=target, **plain())
    assert set(target.state_dict()) == before
    assert not objective.state_dict()
