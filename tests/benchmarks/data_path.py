"""Pairs/s of the data path beside loading both files of a pair anew each time, as torchvision's ImageFolder does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from cmcd_core import Sample
from cmcd_core.cores import usable_cores
from cmcd_core.data.bank import FeatureBank
from cmcd_core.data.decoded import BoundModality, decode_one, decode_views, stored_alone
from cmcd_core.data.threads import one_core_each
from cmcd_core.data.views import Views
from cmcd_core.progress import Progress
from cmcd_core.stages.training import batch_seed, shuffled_batches

from .measuring import Found, alternating, at_least, both_clocks, clocked, middle, ratio, require
from .setting import DEVICE, fresh_cache, modality, write_pairs

SIDE, BATCH, AREA, WIDTH = 480, 64, 0.4, 256
"""Of the files; 480 x 480 is about an ImageNet picture's number of pixels."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PairedFolder(Dataset[tuple[Tensor, Tensor]]):
    """What one writes first: open, crop, mirror and normalise both files of a pair, each time."""

    def __init__(self, samples: list[Sample], size: int) -> None:
        crop: list[Any] = [v2.RandomResizedCrop(size, scale=(AREA, 1), antialias=True), v2.RandomHorizontalFlip()]
        floats: list[Any] = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        self.samples, self.image, self.depth = samples, v2.Compose([*crop, *floats]), v2.Compose(crop)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        views = self.samples[index].views
        metres = torch.from_numpy(np.array(opened(views["depth"]), dtype=np.float32)[None] / 1000)
        return self.image(opened(views["image"]).convert("RGB")), self.depth(metres)


def measure(repeats: int, quick: bool) -> Found:
    """First and later epochs, at the default size and at ImageNet's."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        samples = write_pairs(Path(folder), 64 if quick else 160, SIDE)
        for size in (64,) if quick else (64, 224):
            found.rows += measure_size(samples, size, repeats, Path(folder))
        found.details = parts(samples[:32])
    return found


def measure_size(samples: list[Sample], size: int, repeats: int, folder: Path) -> list[Any]:
    """Rows of one size."""
    workers = usable_cores() if usable_cores() > 1 else 0
    loader = DataLoader(
        PairedFolder(samples, size), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    source, target = modality("image"), modality("depth")
    fresh_cache(folder)
    _, depth = decoded(samples, source, target, size)
    bank = FeatureBank(np.zeros((4, len(samples), WIDTH), np.float32))
    require(faithful(samples, source, target, size), "the cache holds the files' pictures")
    taken = alternating(
        {
            "later": lambda: drain(later(depth, bank)),
            "first": lambda: first(samples, source, target, size, folder),
            "torchvision": lambda: drain(loader),
        },
        repeats,
    )
    later_, first_, theirs = taken["later"], taken["first"], taken["torchvision"]
    count = len(samples)
    files = f"{SIDE} px files, {size} px seen, {workers or 1} of its workers"
    return [
        at_least(
            f"pairs/s from the second epoch on / torchvision loading both sides ({files})",
            ratio(theirs, later_), 10,
            f"{count / middle(later_):,.0f} and {count / middle(theirs):,.0f} pairs/s; "
            f"in CPU time with its workers' not counted {ratio(theirs, later_, 'cpu')}" if workers else
            f"{count / middle(later_):,.0f} and {count / middle(theirs):,.0f} pairs/s; {both_clocks(theirs, later_)}",
        ),
        at_least(
            f"pairs/s of the first epoch, decoding and caching both sides / torchvision ({files})",
            ratio(theirs, first_), 1, f"{count / middle(first_):,.0f} pairs/s",
        ),
    ]  # fmt: skip


def parts(samples: list[Sample]) -> str:
    """What a first look at a file costs, as a table."""
    lines = [
        "", f"What the first look at a file of {SIDE} x {SIDE} pixels costs, in ms of one core:", "",
        "| file | Pillow opens and decodes it | as numbers, checked | scaled for 64 px and stored | for 224 px |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for name in ("image", "depth"):
        bound, raws = modality(name), [sample.views[name] for sample in samples]
        views = [decode_one("", raw, bound) for raw in raws]
        opening = each(lambda raw: opened(raw).load(), raws)
        reading = each(partial(decode_one, "", bound=bound), raws)
        storing = [each(partial(stored_alone, bound=bound, size=size), views) for size in (64, 224)]
        lines.append(f"| {name} | " + " | ".join(f"{t:.1f}" for t in (opening, reading - opening, *storing)) + " |")
    return "\n".join([*lines, ""])


def each(look: Callable[[Any], Any], given: Sequence[Any]) -> float:
    """Milliseconds of the processor for each, by one thread."""
    with one_core_each(1) as core:
        taken = clocked(lambda: drain(core.map(look, given)))
    return 1000 * taken.cpu / len(given)


def opened(raw: Any) -> Picture.Image:
    return Picture.open(raw)


def decoded(samples: list[Sample], source: BoundModality, target: BoundModality, size: int) -> tuple[Views, Views]:
    """Both sides, from the cache or from the files."""

    def side(bound: BoundModality) -> Views:
        made = decode_views(samples, bound, size, on_error="fail", progress=Progress(), title="")
        return Views(made, bound, size, DEVICE)

    return side(source), side(target)


def first(samples: list[Sample], source: BoundModality, target: BoundModality, size: int, folder: Path) -> None:
    """Decode both sides, show the teacher each picture, and augment each target."""
    fresh_cache(folder)
    image, depth = decoded(samples, source, target, size)
    drain(image.plain(rows) for rows in shuffled_batches(len(image), BATCH, 0, 0))
    drain(augmented(depth))


def later(depth: Views, bank: FeatureBank) -> Iterator[tuple[Tensor, Tensor]]:
    """What each epoch of step 2 reads."""
    views = np.random.default_rng(0).integers(bank.views, size=len(depth))
    for rows, x in zip(shuffled_batches(len(depth), BATCH, 0, 0), augmented(depth), strict=True):
        yield bank.pooled(views[rows], rows), x


def augmented(depth: Views) -> Iterator[Tensor]:
    for number, rows in enumerate(shuffled_batches(len(depth), BATCH, 0, 0)):
        yield depth.augmented(rows, batch_seed(0, 0, number), area_min=AREA, flip=True)


def drain(batches: Any) -> None:
    for _ in batches:
        pass


def faithful(samples: list[Sample], source: BoundModality, target: BoundModality, size: int) -> bool:
    """Whether what is cached is what Pillow reads, scaled down."""
    image, depth = decoded(samples, source, target, size)
    rows = np.arange(8)
    side = image.decoded.array.shape[-1]

    def apart(views: Views, name: str, scale: float, read: Callable[[Any], np.ndarray]) -> float:
        here = views.decoded.batch(rows)
        there = torch.stack([torch.from_numpy(read(samples[row].views[name])) for row in rows])
        shrunk = torch.nn.functional.interpolate(there, size=(side, side), mode="bilinear", antialias=True)
        return float((here - shrunk).abs().median()) / scale

    picture = apart(image, "image", 1, lambda raw: np.asarray(opened(raw), np.float32).transpose(2, 0, 1) / 255)
    metres = apart(depth, "depth", 2.5, lambda raw: np.asarray(opened(raw), np.float32)[None] / 1000)
    return picture < 0.01 and metres < 0.05
