"""Retrieval across modalities: does the nearest of the other modality belong to the query?"""

from __future__ import annotations

import numpy as np

from .estimate import Estimate
from .intervals import CONFIDENCE, clopper_pearson_high, clopper_pearson_low
from .samples import BLOCK, Array, Floats, Samples, blocks, pairs, unit

MOST_COMPARISONS = 100_000_000
"""Query times candidate of one retrieval: of up to 10,000 pairs all are queries, of more pairs fewer."""
TIE = 1e-12
"""Cosines as close as this are one: rounding differs with a row's place in a block."""


def retrieval_at(a: Samples, b: Samples, *, k: int = 1) -> Estimate:
    """R@k from source to target: the share of rows of a whose own partner is among the k rows of b nearest by cosine.

    ``retrieval_at(b, a)`` is the other direction. A partner that ties with others (five sketches of one photo;
    collapsed features) counts by its chance to come among the k in random order: collapsed features score k/n.

    The interval is Clopper and Pearson's at 95 %, for new queries to this gallery. A larger gallery is harder, so that
    values of different n do not compare.

    Above 100 million comparisons (10,000 pairs), evenly spread rows of a are the queries and all of b the gallery;
    ``n`` is the number of queries, and the direction becomes "plug-in".

    Args:
        a: (n, d) source features, the queries.
        b: (n, d) target features of the same pairs, the gallery.
        k: How many are retrieved.

    Returns:
        Value in [0, 1], named "retrieval_at_<k>"; "exact".

    Raises:
        ValueError: Shapes do not match, or k is not in 1 … n.

    Example:
        >>> retrieval_at(np.eye(3), np.eye(3)[[0, 2, 1]]).value == 1 / 3
        True
    """
    x, y = pairs(a, b, least=1)
    if not 1 <= k <= len(x):
        raise ValueError(f"k must be in 1 … {len(x)}, got {k}")
    asked = np.linspace(0, len(x) - 1, min(len(x), max(1, MOST_COMPARISONS // len(x)))).astype(int)
    hits = _hits(unit(np.asarray(x[asked], dtype=np.float64)), unit(np.asarray(y[asked], dtype=np.float64)), y, k)
    n = len(asked)
    risk = (1 - CONFIDENCE) / 2
    low, high = clopper_pearson_low(hits, n, risk), clopper_pearson_high(hits, n, risk)
    return Estimate(f"retrieval_at_{k}", hits / n, low, high, "exact" if n == len(x) else "plug-in", n)


def _hits(queries: Floats, partners: Floats, gallery: Array, k: int) -> float:
    """Expected number of queries whose partner comes among the first k."""
    own = np.einsum("ij,ij->i", queries, partners)
    nearer, level = np.zeros(len(queries), dtype=int), np.zeros(len(queries), dtype=int)
    for block in blocks(gallery):
        candidates = unit(block)
        rows = max(1, BLOCK // len(candidates))
        for span in (slice(start, start + rows) for start in range(0, len(queries), rows)):
            beyond = queries[span] @ candidates.T - own[span, None]
            nearer[span] += np.count_nonzero(beyond > TIE, axis=1)
            level[span] += np.count_nonzero(np.abs(beyond) <= TIE, axis=1)  # the partner among them
    return float(np.clip((k - nearer) / level, 0, 1).sum())
