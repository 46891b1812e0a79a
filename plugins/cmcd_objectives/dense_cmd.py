"""CMD among the places of one picture, as an objective."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cmcd_core import Features, Objective, Widths

from .cells import maps_on_one_grid, tokens, valid_cells
from .functional.candidates import log_softmax, softmax, weighted_mean
from .functional.operands import lift, positive, similarity, unit
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
        weight = about(source, target, group_aware=False).weight
        loss = masked_dense_cmd(
            a, b, valid=valid, weight=weight, temperature=self.options.temperature, own=self.options.include_self
        )
        self.means.add(valid_share=valid.float().mean())
        return loss

    def diagnostics(self) -> Mapping[str, float]:
        """``valid_share``: share of the cells that are compared."""
        return self.means.read()


def masked_dense_cmd(
    a: Tensor, b: Tensor, *, valid: Tensor, weight: Tensor | None, temperature: float, own: bool
) -> Tensor:
    """KL of (N, T, D) tokens' similarity distributions over their item's (N, T) ``valid`` ones; ``weight`` is (N,)."""
    positive(temperature=temperature)
    a, b = unit(lift(a, b)), unit(lift(b, a))
    allowed = valid[:, :, None] & valid[:, None, :]
    if not own:
        allowed = allowed & ~allowed.new_ones(a.shape[1]).diag()
    teacher, student = similarity(a, a) / temperature, similarity(b, b) / temperature
    p = softmax(teacher, allowed)
    rows = (p * (log_softmax(teacher, allowed) - log_softmax(student, allowed))).sum(dim=2).flatten()
    anchors = allowed.any(dim=2).to(rows.dtype)
    if weight is not None:
        anchors = anchors * weight.to(rows)[:, None]
    return weighted_mean(rows, anchors.flatten())
