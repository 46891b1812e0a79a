"""The demo data as a paired loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from cmcd_core import CmcdError, PairedLoader, Sample, cache_folder

from ..lazy import LazySamples
from .cache import Array, Recipe, rendered
from .modalities import SAMPLES
from .shapes import CLASSES
from .sound import RATE, wav_bytes

SplitName = Literal["train", "val", "test"]


class DemoSettings(Protocol):
    """The options that `DemoLoader` reads."""

    @property
    def seed(self) -> int: ...
    @property
    def train(self) -> int: ...
    @property
    def val(self) -> int: ...
    @property
    def test(self) -> int: ...
    @property
    def noise(self) -> float: ...
    @property
    def shuffled(self) -> float: ...


def image_sources(seed: int, count: int, shuffled: float) -> npt.NDArray[np.int64]:
    """(count,) which scene's image goes with each scene's other modalities.

    A share `shuffled` of the scenes (rounded, and never one scene alone) get the image of another one of
    them: a derangement, so that none of these pairs is true. A larger share breaks the pairs of a smaller
    one, and more.
    """
    sources = np.arange(count)
    broken = round(min(max(shuffled, 0.0), 1.0) * count)
    if broken == 1:
        broken = min(2, count)
    if broken < 2:
        return sources
    chosen = np.random.default_rng([seed, 0x5AFF]).permutation(count)[:broken]
    sources[chosen] = np.roll(chosen, 1)  # along one random cycle nobody keeps its own
    return sources


class DemoSplit(LazySamples):
    """Samples of one split, made on access; the arrays in them are read-only views of memory-mapped files."""

    def __init__(self, name: str, arrays: dict[str, Array], sources: npt.NDArray[np.int64]) -> None:
        self._name = name
        self._arrays = arrays
        self._sources = sources

    def __len__(self) -> int:
        return len(self._sources)

    def sample(self, row: int) -> Sample:
        """The scene at ``row``."""
        part = self._row
        return Sample(
            key=f"{self._name}-{row:06d}",
            views={
                "image": part("image", int(self._sources[row])),
                "depth": part("depth", row),
                "sketch": part("sketch", row),
                "audio": partial(wav_bytes, part("audio", row)),
            },
            targets={"label": int(self._arrays["label"][row]), "mask": part("mask", row)},
        )

    def _row(self, name: str, index: int) -> npt.NDArray[Any]:
        # A plain array, not a memmap: what copies or pickles it must not think that it holds the whole file.
        return np.asarray(self._arrays[name][index])


class DemoLoader(PairedLoader):
    """Rendered scenes of ten object classes: image, depth (mm), sketch and sound, with label and mask.

    `shuffled` breaks pairs of the training split only. Such a sample keeps the depth, sketch, sound, label
    and mask of the scene in its key; its image is another scene's, of any class. Nothing is rendered anew for
    it.
    """

    modalities = frozenset({"image", "depth", "sketch", "audio"})
    aligned = frozenset({"image", "depth", "sketch"})

    def __init__(self, options: DemoSettings) -> None:
        self._options = options
        self.classes = {"label": list(CLASSES), "mask": ["background", *CLASSES]}

    def modality_options(self, modality: str) -> Mapping[str, Any]:
        return {"seconds": SAMPLES / RATE} if modality == "audio" else {}

    def split(self, name: SplitName) -> Sequence[Sample]:
        options = self._options
        count = {"train": options.train, "val": options.val, "test": options.test}[name]
        recipe = Recipe(options.seed, name, count, options.noise)
        folder = Path(cache_folder("demo"))
        try:
            arrays = dict(rendered(recipe, folder))
        except OSError as error:
            raise CmcdError(
                f"the demo data cannot be written to {folder}: {error.strerror or error}",
                "Free some room, or set CMCD_CACHE to a folder on another disk.",
            ) from error
        shuffled = options.shuffled if name == "train" else 0.0
        return DemoSplit(name, arrays, image_sources(options.seed, count, shuffled))
