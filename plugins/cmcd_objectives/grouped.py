"""The pairwise formulas of ``functional`` that know no groups, with groups and weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .functional import siglip
from .functional.candidates import in_batch, log_softmax, weighted_mean
from .functional.operands import paired, similarity, unit


def grouped_siglip(
    a: Tensor, b: Tensor, *, scale: float | Tensor, bias: float | Tensor, group: Tensor | None, weight: Tensor | None
) -> Tensor:
    """:func:`cmcd_objectives.functional.siglip` without the combinations (i, j ≠ i) of one group; ``weight`` makes the
    mean over rows i a weighted one. Without either it is that function, which needs no N × N matrix."""
    a, b = paired(a, b)
    if _all_alike(group, weight):
        return siglip(a, b, scale=scale, bias=bias)
    allowed = in_batch(a, group, include_self=True)
    logits = similarity(unit(a), unit(b)) * scale + bias
    sign = logits.new_ones(logits.shape[0]).diag() * 2 - 1
    rows = -F.logsigmoid(sign * logits).masked_fill(~allowed, 0.0).sum(dim=1)
    return weighted_mean(rows, weight)


def _all_alike(group: Tensor | None, weight: Tensor | None) -> bool:
    """No two rows share a group, and every row weighs the same."""
    alone = group is None or len(torch.unique(group)) == len(group)
    return alone and (weight is None or bool(((weight == weight[0]) & (weight > 0)).all()))


def grouped_cwcl(
    a: Tensor, b: Tensor, *, temperature: float | Tensor, group: Tensor | None, weight: Tensor | None
) -> Tensor:
    """:func:`cmcd_objectives.functional.cwcl` where other rows of i's group are no candidates of i; ``weight`` makes
    the mean over anchors a weighted one."""
    a, b = paired(a, b, least=2)
    a, b = unit(a), unit(b)
    allowed = in_batch(a, group, include_self=True)
    closeness = ((similarity(a, a) + 1) / 2).masked_fill(~allowed, 0.0)
    log_q = log_softmax(similarity(b, a) / temperature, allowed)
    rows = -(closeness * log_q).sum(dim=1) / closeness.sum(dim=1)
    return weighted_mean(rows, weight)
