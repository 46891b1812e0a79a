"""Which views belong together, and the order in which objectives know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.bank import FeatureBank
from ..data.views import Views
from ..errors import DataError
from ..interfaces.encoder import Features


@dataclass(frozen=True)
class Further:
    """Source samples of other data than the pairs': candidates that have no partner.

    Attributes:
        pooled: (M, D) features of the whole pictures.
        names: (M,) what each one's raw data is known by.
    """

    pooled: Tensor
    names: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Training pairs: positions of each in the source's and the target's decoded views, and the bank's order.

    Attributes:
        source: (N,) positions in the source's views and in the feature bank.
        target: (N,) positions in the target's views.
        unpaired: Positions of the source's views that belong to no pair.
        group: (N,) equal where pairs share one source item; ``unpaired_group`` goes on for the unpaired ones.
        weight: (N,) trust in each pair.
        further: (M, D) source features from other data, which come last in the bank.
    """

    source: np.ndarray
    target: np.ndarray
    unpaired: np.ndarray
    group: np.ndarray
    unpaired_group: np.ndarray
    weight: np.ndarray
    further: Tensor | None = None

    def __len__(self) -> int:
        return len(self.source)


def match_pairs(source: Views, target: Views, weights: Sequence[float], further: Further | None = None) -> Pairs:
    """Pair the views that belong to one sample.

    Raises:
        DataError: Fewer than two pairs.
    """
    _, at_source, at_target = np.intersect1d(source.decoded.rows, target.decoded.rows, return_indices=True)
    if len(at_source) < 2:
        raise DataError(
            f"step 2 needs pairs, and {len(at_source)} training samples have both views",
            "Check the metadata (or the file stems) with `cmcd run --dry-run`.",
        )
    unpaired = np.setdiff1d(np.arange(len(source)), at_source)
    weight = np.asarray(weights, dtype=np.float32)[target.decoded.rows[at_target]]
    names = source.decoded.names
    if further is not None:
        names = np.concatenate([names, further.names])
    _, groups = np.unique(names, return_inverse=True)  # one photo is one item, whichever data set lists it
    last = np.concatenate([groups[unpaired], groups[len(source) :]])
    more = None if further is None else further.pooled
    return Pairs(at_source, at_target, unpaired, groups[at_source], last, weight, more)


def bank_features(bank: FeatureBank, pairs: Pairs) -> Features:
    """The bank in the order that objectives are promised: pairs first, unpaired source rows after them."""
    order = np.concatenate([pairs.source, pairs.unpaired])
    whole = bank.whole()
    maps = None if bank.maps is None else torch.from_numpy(bank.maps[0])
    if not np.array_equal(order, np.arange(len(order))):  # the usual order stays memory-mapped
        whole = whole[torch.from_numpy(order)]
        maps = None if maps is None else maps[torch.from_numpy(order)]
    if pairs.further is not None:
        whole = torch.cat([whole, pairs.further])
    group = torch.from_numpy(np.concatenate([pairs.group, pairs.unpaired_group]))
    return Features(pooled=whole, dense=maps, index=torch.arange(len(whole)), group=group)
