"""Copies: the same view twice, within a split or, worse, in two splits; exactly, or nearly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..interfaces.loader import SPLITS, Sample, Split
from .finding import Finding, of, warning
from .look import Looked, Seen
from .opened import Opened

NEAR_BITS = 3
"""Of 64 that may differ. With four bands of 16 bits, three changes leave one band whole, so that all are found."""
ALIKE = 0.999
"""Correlation of two 16 × 16 pictures that are taken for one."""
DETAIL = 12.0
"""Standard deviation, of 255, below which a picture is too plain to be told from others."""
MOST_IN_BAND = 200
"""A band that more views than this share tells nothing; comparing them all would take long."""


class Place(NamedTuple):
    """Where a view is."""

    split: Split
    sample: Sample
    view: Seen


def copies(opened: Opened, looked: Looked) -> Iterator[Finding]:
    """Exact copies and near copies of each modality's views."""
    for name, bound in opened.modalities.items():
        places = [
            Place(split, looked.samples[split][at], view)
            for split in SPLITS
            for at, view in looked.seen(split, name)
            if view.low < view.high
        ]
        yield from _exact(name, places)
        if bound.modality.spatial:
            yield from _near(name, places)


def repeated(opened: Opened, looked: Looked) -> Iterator[Finding]:
    """Whole samples that stand in one split twice: each of their views is that of another sample."""
    for split in SPLITS:
        known: dict[tuple[str, ...], Sample] = {}
        twice = []
        for at, sample in enumerate(looked.samples[split]):
            views = [looked.views[split, name][at] for name in opened.modalities]
            content = tuple(view.content if isinstance(view, Seen) else "" for view in views)
            if any(content) and known.setdefault(content, sample) is not sample:
                twice.append(f"{sample.key} = {known[content].key}")
        if twice:
            text = f"{of(len(twice), 'sample')} of {split} repeat another, view by view"
            yield warning("duplicate", text, "Leave the copies out.", twice)


def _exact(name: str, places: Sequence[Place]) -> Iterator[Finding]:
    groups: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        groups[place.view.content].append(place)
    across = [group for group in groups.values() if len({place.split for place in group}) > 1]
    if across:
        text = f"{of(len(across), f'{name} view')} lie in more than one split"
        yield warning("leak", text, "Scores are flattered: keep each in one split.", [_pair(group) for group in across])
    within = (group for group in groups.values() if len({place.split for place in group}) == 1)
    if inside := [group for group in within if len({place.view.item for place in group}) > 1]:
        text = f"{of(len(inside), f'{name} file')} have copies in their split, under other names"
        advice = "Pairs that share one file are no negatives of each other, copies are: let them share it."
        yield warning("duplicate", text, advice, [_pair(group) for group in inside])
    if torn := [group for group in groups.values() if len({_label(place.sample) for place in group} - {None}) > 1]:
        text = f"{of(len(torn), f'{name} view')} have more than one label"
        yield warning("label", text, "Which is right?", [_pair(group) for group in torn])


def _pair(group: Sequence[Place]) -> str:
    """Two places of a group, of two splits where there are two."""
    first = group[0]
    other = next((place for place in group if place.split != first.split), group[-1])
    return f"{first.split} {first.sample.key} = {other.split} {other.sample.key}"


def _label(sample: Sample) -> object:
    label = sample.targets.get("label")
    return label if isinstance(label, int | str) else None


def _near(name: str, places: Sequence[Place]) -> Iterator[Finding]:
    """Views in two splits that only re-encoding, scaling or a touch of light tells apart."""
    unique = list({place.view.content: place for place in places}.values())
    unique = [place for place in unique if place.view.thumb.std() >= DETAIL]
    hashes = [difference_hash(place.view.thumb) for place in unique]
    found = []
    for a, b in candidates(hashes):
        first, second = unique[a], unique[b]
        if first.split != second.split and (hashes[a] ^ hashes[b]).bit_count() <= NEAR_BITS and _alike(first, second):
            found.append(f"{first.split} {first.sample.key} ~ {second.split} {second.sample.key}")
    if found:
        text = f"{of(len(found), 'pair')} of {name} views in two splits are nearly the same picture"
        yield warning("leak", text, "Frames of one recording belong in one split: see data.group_column.", found)


def _alike(first: Place, second: Place) -> bool:
    a, b = (place.view.thumb.astype(np.float64).ravel() for place in (first, second))
    return float(np.corrcoef(a, b)[0, 1]) >= ALIKE


def difference_hash(thumb: np.ndarray) -> int:
    """(16, 16) -> 64 bits: is each of 8 × 9 cells brighter than its left neighbour?"""
    rows = thumb.astype(np.float64).reshape(8, 2, 16).mean(1)
    columns = np.array(
        [rows[:, round(16 * i / 9) : max(round(16 * (i + 1) / 9), round(16 * i / 9) + 1)].mean(1) for i in range(9)]
    )
    bits = (columns[1:] > columns[:-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def candidates(hashes: Sequence[int]) -> set[tuple[int, int]]:
    """Pairs of positions whose hashes agree in one of four bands of 16 bits."""
    found: set[tuple[int, int]] = set()
    for shift in (0, 16, 32, 48):
        bands: dict[int, list[int]] = defaultdict(list)
        for position, value in enumerate(hashes):
            bands[value >> shift & 0xFFFF].append(position)
        for members in bands.values():
            if len(members) <= MOST_IN_BAND:
                found.update(combinations(members, 2))
    return found
