"""What a source encoder makes of the target's views before anything is trained, told without a label."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .data.arrays import evenly
from .encoders import AsItIs
from .interfaces.encoder import Encoder, pooled
from .stages.pairs import match_pairs
from .workbench import Side, Workbench, frozen

MOST = 400
SIDES: tuple[Side, Side] = ("source", "target")


@torch.no_grad()
def partner_rank(bench: Workbench, source: Encoder) -> float:
    """How far from its partner the source, shown a target picture as it is, puts it: the mean share of other source
    pictures that are nearer, by cosine after each modality's mean is taken away. 0: none is; 0.5: chance.

    Looks at up to 400 training pairs, one of each source item, at the size that the source sees. Spatial targets only.
    """
    both = {bench.source.name, bench.target.name}
    samples = [sample for sample in bench.samples("distill", "train") if both <= sample.views.keys()]
    samples = [samples[at] for at in evenly(len(samples), MOST)]
    first, second = (bench.part(side, samples, bench.source_size) for side in SIDES)
    pairs = match_pairs(first, second, [sample.weight for sample in samples])
    _, chosen = np.unique(pairs.group, return_index=True)
    shown = frozen(bench, AsItIs(source, bench.target.modality.channels))
    a = pooled(frozen(bench, source), first.chunks(rows=pairs.source[chosen]))
    b = pooled(shown, second.chunks(rows=pairs.target[chosen]))
    return mean_rank(_directions(b) @ _directions(a).T)


def mean_rank(similarity: Tensor) -> float:
    """(n, n) similarities of targets to sources, partners on the diagonal -> mean share of others that are nearer,
    those as near counted half."""
    own = similarity.diagonal()[:, None]
    nearer = (similarity > own).double() + 0.5 * (similarity == own).double()
    return float((nearer.sum(1) - 0.5).mean() / max(1, len(similarity) - 1))


def _directions(features: Tensor) -> Tensor:
    return F.normalize((features - features.mean(0)).double(), dim=1)
