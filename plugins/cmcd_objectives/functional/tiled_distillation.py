"""Cross-entropy between two similarity distributions with memory linear in N."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .operands import full_precision
from .tiles import (
    BITS,
    InBatch,
    InQueue,
    LogSumExp,
    Operand,
    Scratch,
    common_dtype,
    cosines,
    once,
    scalar,
    spans,
    spread,
)


class Block(NamedTuple):
    """Anchors and candidates of both sides, by their places among the operands; the batch comes before the queue."""

    teacher: tuple[int, int]
    student: tuple[int, int]
    candidates: InBatch | InQueue

    @property
    def symmetric(self) -> bool:
        """Are anchors and candidates the same on both sides?"""
        return self.teacher[0] == self.teacher[1] and self.student[0] == self.student[1]


class Plan(NamedTuple):
    """What is compared with what."""

    blocks: tuple[Block, ...]
    divergence: bool = False  # take the entropy of p off, in the gradient too


class Distilled(NamedTuple):
    """Each anchor's outcome."""

    loss: Tensor  # (N,) cross-entropy or divergence
    entropy: Tensor  # (N,) of p, without gradient
    hit: Tensor  # (N,) bool: is the student's own slot the most similar in the batch? False without own slots


def distil(
    plan: Plan, temperature_source: float | Tensor, temperature_target: float | Tensor, *operands: Tensor
) -> Distilled:
    """-sum_j p_ij log q_ij of each anchor; ``operands`` are rows of any length, the batch's a and b first."""
    tau_source, tau_target = scalar(temperature_source, operands), scalar(temperature_target, operands)
    return Distilled(*_Distillation.apply(plan, tau_source, tau_target, *operands))


class _Sums:
    """Each anchor's log-sum-exp of both sides, and the teacher's means of both sides' logits."""

    def __init__(self, anchors: Operand, teacher_scale: float, student_scale: float) -> None:
        self.teacher = LogSumExp(anchors, scale=teacher_scale)
        self.student = LogSumExp(anchors, scale=student_scale)
        # Sums of exp2(s - most) times the logit less its own `most`, as large logits would drown small differences.
        self.own = torch.zeros_like(self.teacher.most)
        self.cross = torch.zeros_like(self.own)

    def add(self, s: Tensor, t: Tensor, span: slice, dim: int, masses: Tensor, product: Tensor) -> None:
        """Add a tile of teacher logits s and student logits t, in bits."""
        old_s, old_t, total = self.teacher.most[span].clone(), self.student.most[span], self.teacher.total[span].clone()
        _, shrink = self.teacher.add(s, span, dim, masses)
        most_s, most_t = self.teacher.most[span], torch.maximum(old_t, t.amax(dim))
        for sums, logits, old, most in ((self.own, s, old_s, most_s), (self.cross, t, old_t, most_t)):
            torch.sub(logits, most.unsqueeze(dim), out=product).mul_(masses)
            sums[span] = (sums[span] + total * (old - most)) * shrink + product.sum(dim)
        self.student.add(t, span, dim, masses)

    def results(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N,) each: cross-entropy and entropy in nats, and p's means of both sides' logits in bits; all 0 for
        anchors without candidates."""
        empty = self.teacher.total == 0
        total = self.teacher.total.masked_fill(empty, 1.0)
        own, cross = self.own / total, self.cross / total
        loss = (self.student.total.log2() - cross) / BITS
        entropy = (total.log2() - own) / BITS
        means = (own + self.teacher.most, cross + self.student.most)
        return loss.masked_fill(empty, 0.0), entropy.masked_fill(empty, 0.0), *means


class _Distillation(torch.autograd.Function):
    """Saves the raw operands and four numbers an anchor; can be differentiated once."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, tau_source: float | Tensor, tau_target: float | Tensor, *raw: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = common_dtype(raw)
        ctx.plan, ctx.temperatures = plan, (float(tau_source), float(tau_target))
        with full_precision(raw[0]):
            operands = [Operand(x, dtype) for x in raw]
            scales = (BITS / ctx.temperatures[0], BITS / ctx.temperatures[1])
            sums = _Sums(operands[0], *scales)
            for block in plan.blocks:
                _sum_up(block, operands, sums, scales)
            loss, entropy, *means = sums.results()
            if plan.divergence:
                loss = loss - entropy
        ctx.save_for_backward(*raw, sums.teacher.value(), sums.student.value(), *means)
        ctx.mark_non_differentiable(entropy, sums.student.hit)
        return loss, entropy, sums.student.hit

    @staticmethod
    @once
    def backward(ctx: Any, weight: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        raw, vectors = ctx.saved_tensors[:-4], ctx.saved_tensors[-4:]
        dtype = common_dtype(raw)
        with full_precision(raw[0]):
            needs = ctx.needs_input_grad[3:]
            operands = [Operand(x, dtype, learns=need) for x, need in zip(raw, needs, strict=True)]
            heats = [weight.new_zeros(()) if need else None for need in ctx.needs_input_grad[1:3]]
            teacher, student, own, cross = vectors
            slopes = _Slopes(teacher, student, own, cross, weight, ctx.plan.divergence)
            for block in ctx.plan.blocks:
                _spread(block, operands, slopes, ctx.temperatures, heats)
            return None, *heats, *(operand.gradient() for operand in operands)


def _sides(block: Block, i: slice, j: slice) -> list[tuple[slice, int]]:
    """The anchors of a tile and the dimension of their candidates; above a symmetric diagonal, both ways round."""
    return [(i, 1), (j, 0)] if block.symmetric and i != j else [(i, 1)]


def _sum_up(block: Block, operands: list[Operand], sums: _Sums, scales: tuple[float, float]) -> None:
    """Add a block to the anchors' sums."""
    (a, a_candidates), (b, b_candidates) = ((operands[x], operands[y]) for x, y in block[:2])
    buffers = [Scratch(a.unit) for _ in range(4)]
    candidates = block.candidates
    for i, j in spans(len(a), len(a_candidates), candidates, symmetric=block.symmetric):
        s, t, masses, product = (buffer(i, j) for buffer in buffers)
        candidates.hide(cosines(a, a_candidates, i, j, scale=scales[0], out=s), i, j)
        candidates.hide(cosines(b, b_candidates, i, j, scale=scales[1], out=t), i, j)
        if isinstance(candidates, InBatch) and candidates.own and i == j:
            sums.student.meet(t, i, 1)
        for span, dim in _sides(block, i, j):
            sums.add(s, t, span, dim, masses, product)
    if isinstance(candidates, InBatch):
        sums.student.batch_ends()


class _Slopes(NamedTuple):
    """Gradients in tiles of logits: the log-sum-exp of both sides, p's means of the logits, and rows' weights."""

    teacher: Tensor
    student: Tensor
    own: Tensor
    cross: Tensor
    weight: Tensor
    divergence: bool

    def by_student(self, s: Tensor, t: Tensor, span: slice, dim: int, out: Tensor, scratch: Tensor) -> Tensor:
        """weight · (q - p)."""
        p = torch.sub(s, self.teacher[span].unsqueeze(dim), out=scratch).exp2_()
        q = torch.sub(t, self.student[span].unsqueeze(dim), out=out).exp2_()
        return q.sub_(p).mul_(self.weight[span].unsqueeze(dim))

    def by_teacher(self, s: Tensor, t: Tensor, span: slice, dim: int, out: Tensor, scratch: Tensor) -> Tensor:
        """-weight · p · (t - mean of t), and the same of s added where the loss is a divergence."""
        p = torch.sub(s, self.teacher[span].unsqueeze(dim), out=scratch).exp2_()
        torch.sub(t, self.cross[span].unsqueeze(dim), out=out)
        if self.divergence:
            out.sub_(s).add_(self.own[span].unsqueeze(dim))
        return out.mul_(p).mul_(self.weight[span].unsqueeze(dim) / -BITS)


def _spread(
    block: Block,
    operands: list[Operand],
    slopes: _Slopes,
    temperatures: tuple[float, float],
    heats: list[Tensor | None],
) -> None:
    """Add a block's gradient to its operands' and to ``heats``, the temperatures'."""
    sides = [(operands[x], operands[y]) for x, y in block[:2]]
    learns = [
        heat is not None or x.slope is not None or y.slope is not None
        for (x, y), heat in zip(sides, heats, strict=True)
    ]
    by = (slopes.by_teacher, slopes.by_student)
    buffers = [Scratch(sides[0][0].unit) for _ in range(5)]
    for i, j in spans(len(sides[0][0]), len(sides[0][1]), block.candidates, symmetric=block.symmetric):
        s, t, total, other, scratch = (buffer(i, j) for buffer in buffers)
        for (x, y), temperature, logits in zip(sides, temperatures, (s, t), strict=True):
            block.candidates.hide(cosines(x, y, i, j, scale=BITS / temperature, out=logits), i, j)
        for k in (0, 1):
            if not learns[k]:
                continue
            (span, dim), *transposed = _sides(block, i, j)
            by[k](s, t, span, dim, total, scratch)
            for span, dim in transposed:
                total += by[k](s, t, span, dim, other, scratch)
            heat = heats[k]
            if heat is not None:
                heat -= torch.dot(total.view(-1), (s, t)[k].view(-1)) / (BITS * temperatures[k])
            spread(total, *sides[k], i, j, scale=1 / temperatures[k])
