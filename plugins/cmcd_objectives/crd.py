"""Contrastive representation distillation as an objective."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcd_core import Encoder, Features, Objective, Widths

from .functional.candidates import own_is_nearest, weighted_mean
from .functional.operands import lift, similarity, unit
from .further import resize_on_load
from .means import Means
from .space import Space, about
from .state_options import CrdOptions

EPS = 1e-7  # of the published formula


class Crd(Objective):
    """CRD (Tian et al., "Contrastive Representation Distillation", ICLR 2020; its "exact" mode, as published in code).

    Both sides are mapped linearly to unit vectors of ``width`` and remembered, one row a training pair and side. With
    n pairs, K negatives, h = exp(<anchor, row> / temperature) and P = h / Z, where Z = n · mean h of the first batch::

        loss = -(scale/N) sum_anchors [ log(P+ / (P+ + K/n + 1e-7)) + sum_K log((K/n) / (P- + K/n + 1e-7)) ]

    with the anchor's own row of the other side as the positive, for target anchors over source rows plus source
    anchors over target rows. After the step, a row becomes ``momentum`` of itself plus the rest of the new feature,
    at unit length.

    Negatives are drawn once a step for the whole batch rather than for each anchor: one matrix product then serves
    them all. Those of an anchor's own pair and group are left out, and its K is what remains. The source's rows start
    from its cached features, the target's at random. Both are saved: the source's map learns, so that neither could
    be rebuilt.
    """

    group: Tensor | None

    def __init__(self, options: CrdOptions, widths: Widths) -> None:
        super().__init__()
        self.options = options
        self.space = Space("crd", widths, options.standardise, layers=1, hidden=None, out=options.width)
        self.source_map = nn.Linear(widths.source, options.width)
        self.sources, self.targets = Memory(options.width), Memory(options.width)
        self.register_buffer("group", None, persistent=False)
        self.means = Means()
        self._waiting: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation to the bank, and fill the memories."""
        self.space.standardise.fit("crd", bank)
        generator = torch.Generator().manual_seed(0)
        self.targets.begin(torch.randn(pairs, self.options.width, generator=generator))
        if bank is None:
            self.sources.begin(torch.randn(pairs, self.options.width, generator=generator))
            return
        paired = Features(pooled=bank.pooled[:pairs])
        self.sources.begin(self.source_map(self.space.bank(paired)))
        self.group = None if bank.group is None else bank.group[:pairs].to(self.sources.rows.device)

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs that carry their index."""
        a, b = self._both(source, target)
        pairs = about(source, target, group_aware=self.options.group_aware)
        if pairs.index is None:
            raise ValueError("crd needs the pairs' index in the training set")
        drawn = self.sources.draw(self.options.negatives)
        allowed = pairs.index[:, None] != drawn
        if pairs.group is not None and self.group is not None:
            allowed &= pairs.group[:, None] != self.group[drawn]
        rows = self._nce(b, self.sources, pairs.index, drawn, allowed)
        rows = rows + self._nce(a, self.targets, pairs.index, drawn, allowed)
        if self.training:
            self._waiting = (pairs.index, a.detach(), b.detach())
        with torch.no_grad():
            self.means.add(r1_target_to_source=own_is_nearest(b, a))
        return self.options.scale * weighted_mean(rows, pairs.weight)

    def _both(self, source: Features, target: Features) -> tuple[Tensor, Tensor]:
        mapped = self.source_map(self.space.source(source.pooled))
        return unit(lift(mapped)), unit(lift(self.space.target(target.pooled)))

    def _nce(self, anchor: Tensor, memory: Memory, index: Tensor, drawn: Tensor, allowed: Tensor) -> Tensor:
        """(N,) losses of anchors over one memory, in logarithms: exp(1 / temperature) may overflow."""
        positive = (anchor * memory.rows[index]).sum(dim=1) / self.options.temperature
        negatives = similarity(anchor, memory.rows[drawn]) / self.options.temperature
        log_z = memory.log_z(positive, negatives.masked_fill(~allowed, -math.inf), keep=self.training)
        noise = allowed.sum(dim=1).clamp(min=1) / memory.rows.shape[0]
        floor = (noise + EPS).log()
        hit = positive - log_z - torch.logaddexp(positive - log_z, floor)
        miss = noise.log()[:, None] - torch.logaddexp(negatives - log_z, floor[:, None])
        return -(hit + miss.masked_fill(~allowed, 0.0).sum(dim=1))

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides at unit length."""
        return self._both(source, target)

    def after_step(self) -> None:
        """Remember the batch, after its loss."""
        if self._waiting is None:
            return
        index, a, b = self._waiting
        self._waiting = None
        self.sources.update(index, a, self.options.momentum)
        self.targets.update(index, b, self.options.momentum)

    def diagnostics(self) -> Mapping[str, float]:
        """``r1_target_to_source``: share of a batch whose most similar source is its own."""
        return self.means.read()


class Memory(nn.Module):
    """One unit vector a training pair, and the logarithm of the normaliser Z of similarities to them."""

    rows: Tensor
    normaliser: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(0, width))
        self.register_buffer("normaliser", torch.tensor(math.nan))
        resize_on_load(self)

    def begin(self, rows: Tensor) -> None:
        """Start over with these rows, brought to unit length, and no normaliser."""
        self.rows = F.normalize(rows.float(), dim=1).to(self.rows.device)
        self.normaliser.fill_(math.nan)

    def draw(self, count: int) -> Tensor:
        """(K,) different rows at random; all of them if there are no more than ``count``."""
        rows, device = self.rows.shape[0], self.rows.device
        return torch.arange(rows, device=device) if rows <= count else torch.randperm(rows, device=device)[:count]

    @torch.no_grad()
    def log_z(self, positive: Tensor, negatives: Tensor, *, keep: bool) -> Tensor:
        """The normaliser's logarithm: the first batch's, n · mean h, from then on. Minus infinity marks what is no
        candidate; ``keep`` says whether this batch may be the first."""
        logits = torch.cat([positive, negatives.flatten()])
        count = torch.isfinite(logits).sum()
        mine = torch.logsumexp(logits, dim=0) - count.log() + math.log(self.rows.shape[0])
        log_z = torch.where(self.normaliser.isnan(), mine, self.normaliser)
        if keep:
            self.normaliser.copy_(log_z)
        return log_z

    @torch.no_grad()
    def update(self, index: Tensor, features: Tensor, momentum: float) -> None:
        """Move the rows ``index`` towards new features."""
        moved = momentum * self.rows[index] + (1 - momentum) * features.to(self.rows)
        self.rows[index] = F.normalize(moved, dim=1)
