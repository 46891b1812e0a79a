"""Softmax and sigmoid contrast with memory linear in N."""

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
    """Similarities of the operands x and y, by their places; where they are one, a symmetric matrix."""

    x: int  # anchors
    y: int  # their candidates
    candidates: InBatch | InQueue
    both: bool = False  # the rows of y are anchors too, with those of x as candidates
    paired: bool = False  # the diagonal holds each anchor's partner; such a block comes first


class Plan(NamedTuple):
    """What is contrasted with what."""

    anchors: tuple[int, ...]  # the operands whose rows pick a partner
    blocks: tuple[Block, ...]


class Picked(NamedTuple):
    """How anchors picked their partners."""

    surprise: Tensor  # (N,) minus log-probability of the partner
    hit: Tensor  # (N,) bool: is the partner the most similar in the batch?


def contrast(plan: Plan, temperature: float | Tensor, *operands: Tensor) -> dict[int, Picked]:
    """Of each operand in ``plan.anchors``; ``operands`` are rows of any length."""
    results = _Contrast.apply(plan, scalar(temperature, operands), *operands)
    count = len(plan.anchors)
    pairs = zip(plan.anchors, results[:count], results[count:], strict=True)
    return {place: Picked(surprise, hit) for place, surprise, hit in pairs}


class _Contrast(torch.autograd.Function):
    """Saves the raw operands and one log-sum-exp an anchor; can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, temperature: float | Tensor, *raw: Tensor) -> tuple[Tensor, ...]:
        dtype = common_dtype(raw)
        with full_precision(raw[0]):
            operands = [Operand(x, dtype) for x in raw]
            scale = BITS / float(temperature)
            sums = {place: LogSumExp(operands[place], scale=scale) for place in plan.anchors}
            for block in plan.blocks:
                _sum_up(block, operands, sums, scale)
        ctx.plan, ctx.temperature = plan, float(temperature)
        ctx.save_for_backward(*raw, *(one.value() for one in sums.values()))
        hits = [one.hit for one in sums.values()]
        ctx.mark_non_differentiable(*hits)
        return (*(one.surprise() for one in sums.values()), *hits)

    @staticmethod
    @once
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        raw = ctx.saved_tensors[: -len(ctx.plan.anchors)]
        sums = dict(zip(ctx.plan.anchors, ctx.saved_tensors[len(raw) :], strict=True))
        weights = dict(zip(ctx.plan.anchors, slopes, strict=False))
        dtype = common_dtype(raw)
        with full_precision(raw[0]):
            needs = ctx.needs_input_grad[2:]
            operands = [Operand(x, dtype, learns=need) for x, need in zip(raw, needs, strict=True)]
            heat = operands[0].unit.new_zeros(()) if ctx.needs_input_grad[1] else None
            for block in ctx.plan.blocks:
                _spread(block, operands, sums, weights, ctx.temperature, heat)
            return None, heat, *(operand.gradient() for operand in operands)


def _sum_up(block: Block, operands: list[Operand], sums: dict[int, LogSumExp], scale: float) -> None:
    """Add a block to its anchors' log-sum-exp."""
    x, y = operands[block.x], operands[block.y]
    logits, scratch = Scratch(x.unit), Scratch(x.unit)
    symmetric = block.x == block.y
    for i, j in spans(len(x), len(y), block.candidates, symmetric=symmetric):
        tile = cosines(x, y, i, j, scale=scale, out=logits(i, j))
        block.candidates.hide(tile, i, j)
        sides = [(block.x, i, 1)]
        if block.both and not (symmetric and i == j):
            sides.append((block.y, j, 0))
        for place, span, dim in sides:
            if block.paired and i == j:
                sums[place].meet(tile, span, dim)
            sums[place].add(tile, span, dim, scratch(i, j))
    if block.paired:
        for place in {block.x, block.y} & set(sums):
            sums[place].batch_ends()


def _spread(
    block: Block,
    operands: list[Operand],
    sums: dict[int, Tensor],
    weights: dict[int, Tensor],
    temperature: float,
    heat: Tensor | None,
) -> None:
    """Add a block's gradient to its operands' and to ``heat``, the temperature's."""
    x, y = operands[block.x], operands[block.y]
    if x.slope is None and y.slope is None and heat is None:
        return
    logits, rows, columns = Scratch(x.unit), Scratch(x.unit), Scratch(x.unit)
    symmetric = block.x == block.y

    def slope(tile: Tensor, place: int, i: slice, j: slice, dim: int, out: Tensor) -> Tensor:
        """weight · (softmax - [partner]) of the anchors of one side."""
        span = i if dim == 1 else j
        torch.sub(tile, sums[place][span].unsqueeze(dim), out=out).exp2_()
        if block.paired and i == j:
            out.diagonal().sub_(1)
        return out.mul_(weights[place][span].unsqueeze(dim))

    for i, j in spans(len(x), len(y), block.candidates, symmetric=symmetric):
        tile = cosines(x, y, i, j, scale=BITS / temperature, out=logits(i, j))
        block.candidates.hide(tile, i, j)
        total = slope(tile, block.x, i, j, 1, rows(i, j))
        if block.both and not (symmetric and i == j):
            total += slope(tile, block.y, i, j, 0, columns(i, j))
        if heat is not None:
            heat -= torch.dot(total.view(-1), tile.view(-1)) / (BITS * temperature)
        spread(total, x, y, i, j, scale=1 / temperature)


def sigmoid_contrast(a: Tensor, b: Tensor, scale: float | Tensor, bias: float | Tensor, candidates: InBatch) -> Tensor:
    """(N,) losses of the rows of :func:`.contrast.siglip`; ``a`` and ``b`` are rows of any length."""
    rows: Tensor = _SigmoidContrast.apply(a, b, scalar(scale, (a, b)), scalar(bias, (a, b)), candidates)
    return rows


class _SigmoidContrast(torch.autograd.Function):
    """Saves nothing but its operands; can be differentiated once."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: float | Tensor, bias: float | Tensor, candidates: InBatch
    ) -> Tensor:
        ctx.scale, ctx.bias, ctx.candidates = float(scale), float(bias), candidates
        ctx.save_for_backward(a, b)
        dtype = common_dtype((a, b))
        with full_precision(a):
            x, y = Operand(a, dtype), Operand(b, dtype)
            logits, first, second = Scratch(x.unit), Scratch(x.unit), Scratch(x.unit)
            rows: Tensor = x.unit.new_zeros(len(x))
            for i, j in spans(len(x), len(y), candidates, symmetric=False):
                tile = cosines(x, y, i, j, scale=ctx.scale, out=logits(i, j)).add_(ctx.bias)
                candidates.hide(tile, i, j)
                if i == j:
                    tile.diagonal().neg_()
                rows[i] += _softplus(tile, first(i, j), second(i, j)).sum(dim=1)
            return rows

    @staticmethod
    @once
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        learns_a, learns_b, learns_scale, learns_bias, _ = ctx.needs_input_grad
        dtype = common_dtype((a, b))
        with full_precision(a):
            x, y = Operand(a, dtype, learns=learns_a), Operand(b, dtype, learns=learns_b)
            logits, scratch = Scratch(x.unit), Scratch(x.unit)
            by_scale, by_bias = x.unit.new_zeros(()), x.unit.new_zeros(())
            for i, j in spans(len(x), len(y), ctx.candidates, symmetric=False):
                cosine = cosines(x, y, i, j, scale=1.0, out=logits(i, j))
                tile = torch.mul(cosine, ctx.scale, out=scratch(i, j)).add_(ctx.bias)
                ctx.candidates.hide(tile, i, j)
                if i == j:
                    tile.diagonal().neg_()
                tile.sigmoid_().mul_(slope[i, None])
                if i == j:
                    tile.diagonal().neg_()
                if learns_scale:
                    by_scale += torch.dot(tile.view(-1), cosine.view(-1))
                if learns_bias:
                    by_bias += tile.sum()
                spread(tile, x, y, i, j, scale=ctx.scale)
            return (
                x.gradient(),
                y.gradient(),
                by_scale if learns_scale else None,
                by_bias if learns_bias else None,
                None,
            )


def _softplus(x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """log(1 + exp x), using up x, u and v.

    torch's own takes ten times as long on CPUs, for log1p has no vector form there. With w = exp(-|x|) and u = 1 + w
    as rounded, log1p(w) = w log(u) / (u - 1) to full precision, and w where u = 1.
    """
    torch.abs(x, out=u)
    w = u.mul_(-BITS).exp2_()
    x.clamp_(min=0)
    torch.add(w, 1, out=v)
    quotient = v.log().div_(v.sub_(1)).nan_to_num_(nan=1.0)
    return x.add_(quotient.mul_(w))
