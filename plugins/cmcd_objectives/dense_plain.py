"""Objectives that compare each place of the target's map with the same place of the source's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cmcd_core import ConfigError, Encoder, Features, Objective, Widths

from . import functional
from .cells import maps_on_one_grid, tokens, valid_cells
from .functional.candidates import own_is_nearest
from .functional.operands import lift, unit
from .means import Means
from .space import Space, about, require_common_width


class DensePlain(Objective):
    """l2, cosine or CMC (:mod:`cmcd_objectives.functional`) over the cells of both sides' dense maps.

    With the rows of a and b the source's and the target's features in one cell each, of all pictures of the batch::

        dense_l2     = l2(a, b)                         mean of ||a_i - b_i||, rows at unit length
        dense_cosine = cosine(a, b)                     mean of 1 - cos(a_i, b_i)
        dense_cmc    = cmc(a, b, temperature=t)         of ``cells`` rows drawn of each picture

    The target's cells go through a head, one linear layer by default, to the source's width. Cells with too few valid
    pixels on either side are left out; a pair's weight is that of its cells. In dense_cmc the negatives are the others
    that were drawn, of the same and of other pictures, but for the same cell of pictures that share one source item.
    """

    needs = frozenset({"dense"})

    def __init__(self, name: str, options: Any, widths: Widths) -> None:
        super().__init__()
        if not (widths.source_dense and widths.target_dense):
            raise ConfigError(f"{name} needs encoders with dense maps on both sides")
        self.name, self.options = name, options
        dense = Widths(source=widths.source_dense, target=widths.target_dense)
        require_common_width(name, options.head_layers, dense)
        self.space = Space(name, dense, options.standardise, layers=options.head_layers, hidden=None)
        self.means = Means()

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation to the cells of the cached maps."""
        if bank is not None and bank.dense is not None:
            cells = bank.dense.permute(0, 2, 3, 1).reshape(-1, bank.dense.shape[1])
            self.space.standardise.fit(self.name, Features(pooled=cells))
        else:
            self.space.standardise.fit(self.name, None)

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs with dense maps on one grid."""
        a, b = (tokens(side) for side in maps_on_one_grid(self.name, source, target))
        valid = valid_cells(source, target, a, self.options.min_valid)
        known = about(source, target, group_aware=True)
        if self.name == "dense_cmc":
            return self._contrast(a, b, valid, known.group, known.weight)
        rows_a, rows_b = self.space.source(a.flatten(0, 1)), self.space.target(b.flatten(0, 1))
        weight = valid.to(rows_b.dtype)
        if known.weight is not None:
            weight = weight * known.weight.to(weight)[:, None]
        self._report(rows_a, rows_b)
        formula = functional.l2 if self.name == "dense_l2" else functional.cosine
        return formula(rows_a, rows_b, weight=weight.flatten())

    def _contrast(self, a: Tensor, b: Tensor, valid: Tensor, group: Tensor | None, weight: Tensor | None) -> Tensor:
        count, places = a.shape[:2]
        drawn = (
            torch.rand(valid.shape, device=a.device).masked_fill(~valid, -1).topk(min(self.options.cells, places), 1)
        )
        picture, at = torch.arange(count, device=a.device)[:, None].expand_as(drawn.indices), drawn.indices
        kept = drawn.values >= 0
        picture, at = picture[kept], at[kept]
        if len(picture) < 2:
            return b.sum() * 0
        rows_a, rows_b = self.space.source(a[picture, at]), self.space.target(b[picture, at])
        self._report(rows_a, rows_b)
        items = None if group is None else group.to(a.device)[picture] * places + at
        trust = None if weight is None else weight.to(rows_b)[picture]
        return functional.cmc(rows_a, rows_b, temperature=self.options.temperature, group=items, weight=trust)

    @torch.no_grad()
    def _report(self, a: Tensor, b: Tensor) -> None:
        chosen = torch.linspace(0, len(a) - 1, min(len(a), 512)).long()
        a, b = lift(a[chosen]), lift(b[chosen])
        self.means.add(r1_target_to_source=own_is_nearest(unit(b - b.mean(dim=0)), unit(a - a.mean(dim=0))))

    def diagnostics(self) -> Mapping[str, float]:
        """``r1_target_to_source``: share of up to 512 cells whose most similar source cell is its own."""
        return self.means.read()
