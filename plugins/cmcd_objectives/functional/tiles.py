"""A similarity matrix in tiles that are computed, used and forgotten: memory grows with N, not with N².

The backward pass computes the tiles again. Logits are kept in bits (times log2 e): exp2 is a few times as fast as exp
on CPUs, and does not slow down where it underflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

SIDE = 512
"""Of a tile: large enough for matrix products at full speed, small enough for a few to share the cache."""

TILED_FROM = 2**20
"""Entries of a matrix from which on it is tiled. On a CPU whole ones are faster only up to a quarter of this."""

BITS = math.log2(math.e)


def in_tiles(rows: int, columns: int, *temperatures: float | Tensor) -> bool:
    """Is a matrix large enough to be tiled? Not where temperatures differ by anchor: only whole ones can have that."""
    single = all(not isinstance(t, Tensor) or t.numel() == 1 for t in temperatures)
    return single and rows * columns >= TILED_FROM


Backward = Callable[..., tuple[Tensor | None, ...]]


def once(backward: Backward) -> Backward:
    """Refuse ``create_graph``. torch's ``once_differentiable`` would take the gradient for a constant, without a word,
    where the incoming gradient is one."""

    @wraps(backward)
    def refusing(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a loss in tiles can be differentiated only once: for create_graph=True, raise "
                "cmcd_objectives.functional.tiles.TILED_FROM above the entries of the similarity matrix"
            )
        return backward(ctx, *slopes)

    return refusing


def common_dtype(raw: tuple[Tensor, ...]) -> torch.dtype:
    """Of the computation: the batch's, its first two tensors', lifted as :func:`.operands.lift` does."""
    return torch.promote_types(torch.float32, torch.promote_types(raw[0].dtype, raw[1].dtype))


def scalar(value: float | Tensor, raw: tuple[Tensor, ...]) -> float | Tensor:
    """A learnable scalar in the type and place of the computation, without dimensions, as is its gradient then."""
    if not isinstance(value, Tensor):
        return value
    return value.reshape(()).to(device=raw[0].device, dtype=common_dtype(raw))


@dataclass(frozen=True)
class InBatch:
    """Batch rows as candidates of each other, as :func:`.candidates.in_batch` has them whole."""

    own: bool  # each row its own candidate
    group: Tensor | None = None  # (N,)
    others: bool = True  # and of others, but those of its group

    def skips(self, i: slice, j: slice) -> bool:
        """Has the tile no candidates at all?"""
        return not self.others and i != j

    def hide(self, tile: Tensor, i: slice, j: slice) -> None:
        """Put disallowed logits at the lowest finite value, in place."""
        lowest = torch.finfo(tile.dtype).min
        if self.others and self.group is None:
            if i == j and not self.own:
                tile.fill_diagonal_(lowest)
            return
        if self.others and self.group is not None:
            hidden = self.group[i, None] == self.group[None, j]
        else:
            hidden = torch.ones_like(tile, dtype=torch.bool)
        if i == j:
            hidden.fill_diagonal_(not self.own)
        tile.masked_fill_(hidden, lowest)

    def count(self, like: Tensor) -> Tensor:
        """(N,) number of candidates of each row of (N, D) ``like``."""
        n = like.shape[0]
        if self.group is None:
            return torch.full((n,), self.own + (n - 1) * self.others, device=like.device)
        _, place, size = torch.unique(self.group, return_inverse=True, return_counts=True)
        candidates: Tensor = n - size[place] + int(self.own)
        return candidates


@dataclass(frozen=True)
class InQueue:
    """Queue rows as candidates of every anchor but where ``exclude`` (N or 1, K) is true."""

    exclude: Tensor | None = None

    def skips(self, i: slice, j: slice) -> bool:
        """Every tile counts."""
        return False

    def hide(self, tile: Tensor, i: slice, j: slice) -> None:
        """Put disallowed logits at the lowest finite value, in place."""
        if self.exclude is not None:
            rows = i if self.exclude.shape[0] > 1 else slice(None)
            tile.masked_fill_(self.exclude[rows, j], torch.finfo(tile.dtype).min)

    def count(self, like: Tensor, queue: Tensor | None) -> Tensor:
        """(N or 1,) number of candidates in ``queue`` of each row of ``like``."""
        size = 0 if queue is None else queue.shape[0]
        if self.exclude is None or queue is None:
            return torch.full((1,), size, device=like.device)
        return size - self.exclude.count_nonzero(dim=1)


def spans(rows: int, columns: int, candidates: InBatch | InQueue, *, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each tile, both ascending (:class:`LogSumExp` relies on it); of a symmetric matrix those
    on and above the diagonal."""
    for i in _cut(rows):
        for j in _cut(columns):
            if not (symmetric and j.start < i.start) and not candidates.skips(i, j):
                yield i, j


def _cut(n: int) -> Iterator[slice]:
    return (slice(start, min(start + SIDE, n)) for start in range(0, n, SIDE))


class Operand:
    """Rows brought to unit length, and the gradient in them."""

    def __init__(self, raw: Tensor, dtype: torch.dtype, *, learns: bool = False) -> None:
        self.dtype = raw.dtype
        lifted = raw.detach().to(dtype)
        self.norm = torch.linalg.vector_norm(lifted, dim=1, keepdim=True)
        self.norm.masked_fill_(self.norm == 0, 1.0)
        self.unit = lifted / self.norm
        self.slope = torch.zeros_like(self.unit) if learns else None

    def __len__(self) -> int:
        return len(self.unit)

    def gradient(self) -> Tensor | None:
        """Of the rows as they were given, from that of the unit rows; used up by this."""
        if self.slope is None:
            return None
        radial = torch.einsum("nd,nd->n", self.slope, self.unit)[:, None]
        return self.slope.addcmul_(self.unit, radial, value=-1).div_(self.norm).to(self.dtype)


class Scratch:
    """A tile's worth of memory, used again and again."""

    def __init__(self, like: Tensor) -> None:
        self.flat = like.new_empty(SIDE * SIDE)

    def __call__(self, i: slice, j: slice) -> Tensor:
        rows, columns = i.stop - i.start, j.stop - j.start
        return self.flat[: rows * columns].view(rows, columns)


def cosines(x: Operand, y: Operand, i: slice, j: slice, *, scale: float, out: Tensor) -> Tensor:
    """A tile of the similarities of x and y times ``scale``."""
    return torch.addmm(out, x.unit[i], y.unit[j].T, beta=0, alpha=scale, out=out)


def spread(slope: Tensor, x: Operand, y: Operand, i: slice, j: slice, *, scale: float) -> None:
    """Add a tile's gradient to that of its operands."""
    if x.slope is not None:
        x.slope[i].addmm_(slope, y.unit[j], alpha=scale)
    if y.slope is not None:
        y.slope[j].addmm_(slope.T, x.unit[i], alpha=scale)


class LogSumExp:
    """Of each anchor's logits in bits, from tiles that come in ascending order of the candidates.

    Attributes:
        most: (N,) largest logit up to now. It starts below any cosine's logit, so that hidden ones count for nothing.
        total: (N,) sum of exp2(logit - most) up to now; 0 without candidates.
        hit: (N,) is the own slot the largest in the batch? Of equal ones the first counts, as with argmax.
    """

    def __init__(self, anchors: Operand, *, scale: float) -> None:
        self.most = anchors.unit.new_full((len(anchors),), -2 * scale)
        self.total = torch.zeros_like(self.most)
        self.hit = torch.zeros_like(self.most, dtype=torch.bool)
        self._own = torch.zeros_like(self.most)

    def meet(self, tile: Tensor, span: slice, dim: int) -> None:
        """Look at a tile on the diagonal, before it is added."""
        self._own[span] = tile.diagonal()
        best = tile.argmax(dim) == torch.arange(tile.shape[0], device=tile.device)
        self.hit[span] = best & (self.most[span] < self._own[span])

    def batch_ends(self) -> None:
        """Settle ``hit``, before the queue's tiles."""
        self.hit &= self.most == self._own

    def add(self, tile: Tensor, span: slice, dim: int, out: Tensor) -> tuple[Tensor, Tensor]:
        """Add the logits of anchors ``span``, reduced over ``dim``.

        Returns:
            exp2(tile - most), in ``out``; and the factor that earlier sums shrink by, as ``most`` has grown.
        """
        most = torch.maximum(self.most[span], tile.amax(dim))
        shrink = (self.most[span] - most).exp2_()
        self.most[span] = most
        masses = torch.sub(tile, most.unsqueeze(dim), out=out).exp2_()
        self.total[span] = self.total[span] * shrink + masses.sum(dim)
        return masses, shrink

    def value(self) -> Tensor:
        """(N,) log-sum-exp in bits; 0 without candidates, so that hidden logits stay far below."""
        return torch.where(self.total == 0, 0.0, self.most + self.total.log2())

    def surprise(self) -> Tensor:
        """(N,) minus log-probability of the own slot, in nats. Differences first: no rounding of large logits."""
        bits: Tensor = self.most - self._own + self.total.log2()
        return bits / BITS
