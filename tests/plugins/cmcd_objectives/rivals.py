"""Encoders, pairs and built objectives that the tests of the rivals share."""

from __future__ import annotations

from typing import Any

import cmcd_objectives
import torch
from torch import Tensor, nn

from cmcd_core import Encoder, Features, Objective, Widths

PLUGINS = {plugin.name: plugin for plugin in cmcd_objectives.cmcd_objectives()}
RIVALS = sorted(set(PLUGINS) - {"cmd", "cmc", "nt_xent"})
DENSE = {"dense_cmc", "dense_cmd", "dense_cosine", "dense_l2"}
"""They compare places, and have tests of their own."""
POOLED = [name for name in RIVALS if name not in DENSE]
PAIRS, WIDTH = 24, 6


class Net(Encoder):
    """Two layers with BatchNorm between, or without."""

    def __init__(self, channels: int, dim: int, *, norm: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.channels, self.dim = channels, dim
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            middle = nn.BatchNorm1d(16) if norm else nn.Identity()
            self.layers = nn.Sequential(nn.Linear(channels, 16), middle, nn.Tanh(), nn.Linear(16, dim))

    def forward(self, x: Tensor) -> Features:
        return Features(pooled=self.layers(x))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_bank(rows: int = PAIRS, width: int = WIDTH, *, grouped: bool = False) -> Features:
    """Source features, all of different groups or two of each."""
    group = torch.arange(rows)
    return Features(pooled=draw(rows, width), index=torch.arange(rows), group=group // 2 if grouped else group)


def build(name: str, *, source: int = WIDTH, target: int = WIDTH, seed: int = 0, **options: Any) -> Objective:
    """An objective before it is attached."""
    plugin = PLUGINS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return plugin.build(plugin.options(**options), Widths(source=source, target=target))


def attached(
    name: str,
    bank: Features | None = None,
    *,
    target: int = WIDTH,
    teacher: Encoder | None = None,
    student: Encoder | None = None,
    **options: Any,
) -> Objective:
    """An objective ready for the first step."""
    bank = make_bank() if bank is None else bank
    objective = build(name, source=bank.pooled.shape[1], target=target, **options)
    teacher = teacher or Net(3, bank.pooled.shape[1]).eval()
    student = student or Net(3, target, norm=False, seed=1)
    objective.attach(teacher, student, bank=bank, pairs=len(bank.pooled), steps=10)
    return objective


def batch(bank: Features, index: Any, width: int = WIDTH, *, seed: int = 1) -> tuple[Features, Features]:
    """Rows of the bank, and targets beside them."""
    index = torch.as_tensor(index)
    source = Features(pooled=bank.pooled[index], index=index, group=None if bank.group is None else bank.group[index])
    target = draw(len(index), width, seed=seed)
    return source, Features(pooled=target, momentum=target + 0.1)
