"""Gradient caching: a batch in chunks has the whole batch's loss and gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from cmcd_core import Encoder, Features, Objective, Widths
from cmcd_core.catalog import load
from cmcd_core.stages.distill import Student


class Small(Encoder):
    """(N, C, H, W) -> 6 features, with dropout, and BatchNorm if asked for; counts what it is given at a time."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.channels, self.dim = 2, 6
        self.net = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8) if norm else nn.ReLU(), nn.Dropout(0.3))
        self.out = nn.Linear(8, 6)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Features:
        self.seen.append(len(x))
        maps = self.net(x)
        return Features(pooled=self.out(maps.mean(dim=(2, 3))), dense=maps)


def objective(name: str) -> Objective:
    torch.manual_seed(1)
    part = load().objective(name)
    return part.build(part.options(), Widths(source=5, target=6))


def gradients(student: Student, seed: int = 3) -> tuple[float, list[Tensor]]:
    torch.manual_seed(0)
    x, source, index = torch.randn(23, 2, 7, 7).double(), torch.randn(23, 5).double(), torch.arange(23)
    student.double().train().zero_grad()
    torch.manual_seed(seed)
    loss = student(x, source, index, index, torch.ones(23).double())
    loss.backward()
    return float(loss), [p.grad.clone() for p in student.parameters() if p.grad is not None]


def no_dropout(encoder: Small) -> Small:
    encoder.net[2].p = 0.0
    return encoder


@pytest.mark.parametrize("name", ["cmd", "cmc", "nt_xent"])
@pytest.mark.parametrize("chunk", [2, 5, 22, 23, 100])
def test_loss_and_gradient_are_the_whole_batchs(name: str, chunk: int) -> None:
    encoder = no_dropout(Small())
    whole, chunked = (Student(copy.deepcopy(encoder), objective(name), 0.9, size) for size in (None, chunk))
    (loss, expected), (other, found) = gradients(whole), gradients(chunked)
    assert other == pytest.approx(loss, abs=1e-12)
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, atol=1e-10, rtol=0)
    assert max(chunked.encoder.seen) <= max(chunk, 3)
    assert min(chunked.encoder.seen) > 1


def test_dropout_is_the_same_when_a_chunk_is_computed_again() -> None:
    """The gradient is that of the loss which was reported: a small step along it lowers that very loss."""
    student = Student(Small(), objective("cmc"), 0.9, 5)
    loss, grads = gradients(student)
    norm = sum(float(g.square().sum()) for g in grads)
    with torch.no_grad():
        for parameter, grad in zip(student.parameters(), grads, strict=True):
            parameter -= 1e-6 * grad
    again, _ = gradients(student)
    assert (loss - again) / 1e-6 == pytest.approx(norm, rel=1e-3)


def test_batchnorms_statistics_are_counted_once() -> None:
    encoder = no_dropout(Small(norm=True))
    student = Student(encoder, objective("cmc"), 0.9, 8)
    gradients(student)
    norm = encoder.net[1]
    expected = nn.BatchNorm2d(8).double()
    torch.manual_seed(0)
    x = torch.randn(23, 2, 7, 7).double()
    for part in x.tensor_split(3):
        expected(encoder.net[0](part))
    assert torch.allclose(norm.running_mean, expected.running_mean, atol=1e-12)
    assert torch.allclose(norm.running_var, expected.running_var, atol=1e-12)
    assert norm.momentum == 0.1
    assert norm.num_batches_tracked == 3


def test_it_saves_memory() -> None:
    """What autograd keeps for the backward pass shrinks with the chunk."""

    def kept(chunk: int | None) -> int:
        student, total = Student(Small(), objective("cmc"), 0.9, chunk).train(), 0
        seen: set[int] = set()

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                total += tensor.numel()
            return tensor

        x, index = torch.randn(64, 2, 31, 31), torch.arange(64)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            student(x, torch.randn(64, 5), index, index, torch.ones(64))
        return total

    assert kept(8) < kept(None) / 4
