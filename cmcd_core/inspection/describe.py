"""What is in a data set: counts of everything, and sizes and ranges of some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..interfaces.loader import SPLITS, Sample
from ..progress import Progress
from .check import as_values
from .look import Looked, Seen, look
from .opened import Opened
from .pairing import pairings
from .samples import label_of


def describe(opened: Opened, most: int | None, progress: Progress) -> Mapping[str, Any]:
    """Counts over all samples; sizes, ranges and pairing from up to ``most`` of each split. JSON-ready."""
    looked = look(opened, most, progress)
    return {
        "data": opened.name,
        "loader": f"{opened.part.plugin.name}:{opened.part.name}",
        "pairs": opened.loader.pairs,
        "aligned": sorted(opened.loader.aligned),
        "classes": {target: list(names) for target, names in opened.loader.classes.items()},
        "splits": {split: _counted(opened, opened.loader.split(split)) for split in SPLITS},
        "looked_at": {split: len(samples) for split, samples in looked.samples.items()},
        "modalities": {name: _modality(opened, looked, name) for name in sorted(opened.loader.modalities)},
        "pairing": [as_values(pairing) for pairing in pairings(opened, looked)],
        "notes": list(opened.loader.notes),
    }


def _counted(opened: Opened, samples: Sequence[Sample]) -> dict[str, Any]:
    """Numbers of one split; no view is opened."""
    views: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    targets: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    weighted = 0
    for sample in samples:
        views.update(sample.views.keys())
        pairs.update(" + ".join(both) for both in combinations(sorted(sample.views), 2))
        targets.update(sample.targets.keys())
        labels.update(filter(None, [label_of(opened, sample)]))
        weighted += sample.weight != 1
    return {
        "samples": len(samples),
        "views": dict(sorted(views.items())),
        "pairs": dict(sorted(pairs.items())),
        "targets": dict(sorted(targets.items())),
        "labels": dict(sorted(labels.items())),
        "weighted": weighted,
    }


def _modality(opened: Opened, looked: Looked, name: str) -> dict[str, Any]:
    if name in opened.unknown:
        return {"unknown": opened.unknown[name]}
    bound = opened.modalities[name]
    every = [view for split in SPLITS for view in looked.views[split, name] if view is not None]
    views = [view for view in every if isinstance(view, Seen)]
    said = dict(opened.loader.modality_options(name))
    told = {
        "plugin": bound.identity["plugin"],
        "said": said,
        "looked_at": len(every),
        "unreadable": len(every) - len(views),
    }
    if not views:
        return told
    sizes = Counter(view.shape[1:] for view in views)
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    middles = np.percentile([view.middle for view in views], [5, 50, 95])
    return told | {
        "channels": views[0].shape[0],
        "sizes": {
            "distinct": len(sizes),
            "smallest": by_area[0],
            "commonest": sizes.most_common(1)[0][0],
            "largest": by_area[-1],
        },
        "range": [min(view.low for view in views), max(view.high for view in views)],
        "medians": [float(value) for value in middles],
        "items": len({view.content for view in views}),
        "doubts": sorted({view.doubt for view in views if view.doubt}),
    }
