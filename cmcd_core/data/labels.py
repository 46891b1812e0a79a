"""Few labels: nested, stratified subsets that are the same for every encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..grammar import parse_labels


def label_subset(strata: Sequence[int | None], budget: str, *, draw: int, seed: int) -> np.ndarray:
    """Positions of the labelled samples of one draw, sorted.

    Subsets of one draw and seed are nested: a bigger budget holds the smaller ones. ``"5"`` is 5 a class (all of a
    class that has fewer; 5 in all without classes), ``"10%"`` a tenth of each class, at least one.
    """
    count, share = parse_labels(budget)
    if not len(strata):
        raise DataError("no labelled training sample for step 3")
    values = np.asarray([-1 if stratum is None else stratum for stratum in strata])
    order = np.random.default_rng([seed, draw]).permutation(len(values))
    chosen = []
    for value in np.unique(values):
        members = order[values[order] == value]
        wanted = count if count is not None else max(1, math.ceil((share or 0) * len(members) - 1e-9))
        chosen.append(members[:wanted])
    return np.sort(np.concatenate(chosen))
