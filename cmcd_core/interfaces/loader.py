"""Paired data: samples that hold several views of one thing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Raw = Path | bytes | np.ndarray | Callable[[], bytes]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """One thing, seen by one or more modalities.

    Attributes:
        key: Unique within the data set.
        views: Modality name -> raw data (a path, bytes, an array, or a function that returns bytes). Decoding is
            the modality's job. A modality may be missing: such rows serve steps 1 and 3. A function with an attribute
            ``known_by``, a text that changes whenever its bytes do, is not called to look for them in the cache.
        targets: What tasks read: ``"label"`` an int, ``"mask"`` a path, bytes or (H, W) array of class ids.
        weight: Trust in the pair, at least 0.
    """

    key: str
    views: Mapping[str, Raw]
    targets: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0


class PairedLoader(ABC):
    """A data set of pairs.

    Attributes:
        modalities: Names of the modalities that samples may have.
        aligned: Those on one pixel grid (the mask too): shared crops and dense terms are refused elsewhere.
        classes: Target name -> names of its classes, in the order of their ids.
        pairs: ``"instance"`` (two views of one thing) or ``"label"`` (two things of one class).
        notes: Sentences about the data that the user should read (a split made here, rows left out).
    """

    modalities: frozenset[str]
    aligned: frozenset[str] = frozenset()
    classes: Mapping[str, Sequence[str]] = {}
    pairs: str = "instance"
    notes: Sequence[str] = ()

    @abstractmethod
    def split(self, name: Split) -> Sequence[Sample]:
        """Samples of one split, map-style; empty where the data has none."""

    def modality_options(self, modality: str) -> Mapping[str, Any]:
        """Defaults that the data set brings for a modality's options (depth: its unit). The user's win."""
        return {}
