"""What a source encoder makes of the target's views before anything is trained, told without a label."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .data.arrays import evenly
from .encoders import AsItIs
from .interfaces.encoder import Encoder, pooled
from .stages.pairs import match_pairs
from .theory.samples import Floats, shares_behind
from .workbench import Side, Workbench, frozen

MOST = 400
SIDES: tuple[Side, Side] = ("source", "target")


@torch.no_grad()
def partner_rank(bench: Workbench, source: Encoder) -> float:
    """How far from its partner the source, shown a target picture as it is, puts it: the mean share of other source
    pictures that are nearer, by cosine after each modality's mean is taken away. 0: none is; 0.5: chance. (The
    forecast's feature of that name counts those that are farther, under a map that it fits.)

    Looks at up to 400 training pairs, one of each source item, at the size that the source sees. Spatial targets only.
    """
    listed = bench.paired()
    samples = [listed[at] for at in evenly(len(listed), MOST)]
    first, second = (bench.part(side, samples, bench.source_size) for side in SIDES)
    pairs = match_pairs(first, second, [sample.weight for sample in samples])
    _, chosen = np.unique(pairs.group, return_index=True)
    shown = frozen(bench, AsItIs(source, bench.target.modality.channels))
    a = pooled(frozen(bench, source), first.chunks(rows=pairs.source[chosen]))
    b = pooled(shown, second.chunks(rows=pairs.target[chosen]))
    return mean_rank(_centred(b), _centred(a))


def mean_rank(targets: Floats, sources: Floats) -> float:
    """(n, d) and (n, d), partners at the same place -> the mean share of other sources that are nearer, by cosine."""
    return 1 - float(shares_behind(targets, sources).mean())


def _centred(features: Tensor) -> Floats:
    return (features - features.mean(0)).double().numpy()
