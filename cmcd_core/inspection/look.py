"""One look at every view: is it readable, how large, in what range, and how does it look from afar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..cores import usable_cores
from ..data.decoded import BoundModality, decode_one
from ..data.digest import raw_digest
from ..data.threads import one_core_each
from ..errors import CmcdError
from ..interfaces.loader import SPLITS, Raw, Sample, Split
from ..progress import Advance, Progress
from .opened import Opened

SMALL = 64
THUMB = 16
EDGES = 8
AHEAD = 256
"""So many samples are looked at at a time: what is decoded waits in memory only so far ahead."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one view looks like; nothing of its size stays in memory.

    Attributes:
        item: What its raw data is known by: equal where two samples share one file.
        content: Digest of its bytes: equal where two files are copies.
        shape: (C, H, W) as decoded.
        low, middle, high: Smallest, median and largest decoded value.
        thumb: (16, 16) uint8 of what an encoder sees, channels averaged.
        edges: (8, 8) mean steepness there, before it was made so small.
        colours: (2 · channels) their means and standard deviations.
        doubt: What the modality finds odd about it.
    """

    item: str
    content: str
    shape: tuple[int, int, int]
    low: float
    middle: float
    high: float
    thumb: np.ndarray
    edges: np.ndarray
    colours: np.ndarray
    doubt: str


@dataclass(frozen=True)
class Looked:
    """All that was looked at.

    Attributes:
        samples: Split -> the samples looked at, in order.
        totals: Split -> how many samples it has.
        views: (split, modality) -> one a sample: what was seen, the message where it is unreadable, or None.
    """

    samples: dict[Split, list[Sample]] = field(default_factory=dict)
    totals: dict[Split, int] = field(default_factory=dict)
    views: dict[tuple[Split, str], list[Seen | str | None]] = field(default_factory=dict)

    def seen(self, split: Split, modality: str) -> Iterator[tuple[int, Seen]]:
        """(position in ``samples``, view) of those that are readable."""
        for position, view in enumerate(self.views.get((split, modality), [])):
            if isinstance(view, Seen):
                yield position, view


def look(opened: Opened, most: int | None, progress: Progress) -> Looked:
    """Look at up to ``most`` samples of each split, evenly spaced; None: at all."""
    looked = Looked()
    for split in SPLITS:
        samples = opened.loader.split(split)
        count = len(samples) if most is None else min(most, len(samples))
        looked.totals[split] = len(samples)
        looked.samples[split] = [samples[number * len(samples) // count] for number in range(count)]
        with progress.track(f"look at {split}", count * len(opened.modalities)) as advance:
            for name, bound in opened.modalities.items():
                looked.views[split, name] = _look_at(looked.samples[split], bound, advance)
    return looked


def _look_at(samples: Sequence[Sample], bound: BoundModality, advance: Advance) -> list[Seen | str | None]:
    known: dict[str, Seen | str] = {}  # five sketches of one photo: it is decoded once
    found: list[Seen | str | None] = []

    def one(sample: Sample) -> Seen | str | None:
        raw = sample.views.get(bound.name)
        if raw is None:
            return None
        item = raw_digest(raw) if isinstance(raw, Path) else ""
        if item not in known:
            seen = _guarded(sample.key, raw, bound)
            if not item:
                return seen
            known[item] = seen
        return known[item]

    with one_core_each(usable_cores()) as pool:
        for start in range(0, len(samples), AHEAD):
            block = samples[start : start + AHEAD]
            found += pool.map(one, block)
            advance(len(block), bound.name)
    return found


def _guarded(key: str, raw: Raw, bound: BoundModality) -> Seen | str:
    try:
        return seen(key, raw, bound)
    except CmcdError as error:
        return error.message


def seen(key: str, raw: Raw, bound: BoundModality) -> Seen:
    """One view, decoded and looked at.

    Raises:
        DataError: It cannot be decoded.
    """
    x = decode_one(key, raw, bound)
    content = raw_digest(raw.read_bytes() if isinstance(raw, Path) else raw)
    far = from_afar(x, bound)
    return Seen(
        item=raw_digest(raw),
        content=content,
        shape=(int(x.shape[0]), int(x.shape[1]), int(x.shape[2])),
        low=float(x.min()),
        middle=float(x.median()),
        high=float(x.max()),
        thumb=far.thumb,
        edges=far.edges,
        colours=far.colours,
        doubt=bound.modality.doubt(x),
    )


class Afar(NamedTuple):
    """How one view looks from afar: of :class:`Seen`, what tells whether two views go together."""

    thumb: np.ndarray
    edges: np.ndarray
    colours: np.ndarray


def from_afar(x: Tensor, bound: BoundModality) -> Afar:
    """Thumb, edges and colours of one decoded view (C, H, W)."""
    small = bound.modality.resize(x[None], SMALL) if bound.modality.spatial else x[None]
    encoded = bound.modality.encode(small)[0].float().nan_to_num(0.0).clamp(0, 1)
    grey = F.adaptive_avg_pool2d(encoded.mean(0)[None, None], SMALL)
    thumb: np.ndarray = (F.adaptive_avg_pool2d(grey, THUMB)[0, 0] * 255).round().byte().numpy()
    steep = grey.diff(dim=2)[..., :-1].abs() + grey.diff(dim=3)[..., :-1, :].abs()
    edges: np.ndarray = F.adaptive_avg_pool2d(steep, EDGES)[0, 0].numpy()
    flat = encoded.flatten(1)
    colours: np.ndarray = torch.cat([flat.mean(1), flat.std(1, unbiased=False)]).numpy()
    return Afar(thumb, edges, colours)
