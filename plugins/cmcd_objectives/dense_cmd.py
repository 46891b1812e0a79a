"""CMD among the places of one picture, as an objective."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cmcd_core import Features, Objective, Widths

from .cells import maps_on_one_grid, tokens, valid_cells
from .functional import dense_cmd
from .means import Means
from .space import about
from .state_options import DenseCmdOptions


class DenseCmd(Objective):
    """Dense CMD (:func:`cmcd_objectives.functional.dense_cmd`) over the cells of both sides' dense maps.

    Cells with too few valid pixels on either side are neither anchors nor candidates; the mean is over the anchors
    that remain. Similarities are taken within each side, so that the channels may differ and no head is needed.
    """

    needs = frozenset({"dense"})

    def __init__(self, options: DenseCmdOptions, widths: Widths) -> None:
        super().__init__()
        self.options = options
        self.means = Means()

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs with dense maps on one grid."""
        a, b = (tokens(side) for side in maps_on_one_grid("dense_cmd", source, target))
        valid = valid_cells(source, target, a, self.options.min_valid)
        known = about(source, target, group_aware=False)
        temperature, own = self.options.temperature, self.options.include_self
        loss = dense_cmd(a, b, temperature=temperature, include_self=own, valid=valid, weight=known.weight)
        self.means.add(valid_share=valid.float().mean())
        return loss

    def diagnostics(self) -> Mapping[str, float]:
        """``valid_share``: share of the cells that are compared."""
        return self.means.read()
