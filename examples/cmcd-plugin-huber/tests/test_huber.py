import subprocess
import sys

import pytest
import torch
from cmcd_huber import HuberOptions, build, cmcd_objectives

from cmcd_core import Features
from cmcd_core.plugin import Widths
from cmcd_core.testing import check_plugin

WIDTHS = Widths(source=6, target=4)


def pair(count=8):
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(count, WIDTHS.source, generator=generator)
    target = torch.randn(count, WIDTHS.target, generator=generator).requires_grad_()
    return Features(pooled=source), Features(pooled=target)


def test_contract():
    check_plugin("huber")


@pytest.mark.parametrize("delta", [0.1, 1.0, 5.0])
def test_formula_by_hand(delta):
    source, target = pair()
    huber = build(HuberOptions(delta=delta), WIDTHS)
    difference = (huber.head(target.pooled) - source.pooled).abs()
    squared = difference <= delta
    by_hand = torch.where(squared, difference**2 / 2, delta * (difference - delta / 2)).mean()
    torch.testing.assert_close(huber(source, target), by_hand)


def test_gradient_reaches_the_target_and_the_head():
    source, target = pair()
    huber = build(HuberOptions(), WIDTHS)
    huber(source, target).backward()
    assert target.pooled.grad.abs().sum() > 0
    assert huber.head.weight.grad.abs().sum() > 0
    assert source.pooled.grad is None


def test_nothing_is_left_to_learn_where_both_agree():
    source, target = pair()
    huber = build(HuberOptions(), WIDTHS)
    agreeing = Features(pooled=huber.head(target.pooled).detach())
    assert huber(agreeing, target).item() == 0
    assert all(side.shape == (8, WIDTHS.source) for side in huber.embed(source, target))


def test_options():
    with pytest.raises(ValueError, match="greater than 0"):
        HuberOptions(delta=0)
    (part,) = cmcd_objectives()
    assert (part.name, part.options) == ("huber", HuberOptions)


def test_light():
    heavy = "import cmcd_huber, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy]).returncode == 0
