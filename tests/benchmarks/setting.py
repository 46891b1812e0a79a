"""What the benchmarks are made on: generated pairs, and the parts of a run built as a run builds them."""

from __future__ import annotations

import csv
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image as Picture
from torch import Tensor, nn

from cmcd_core import Encoder, Objective, Sample, Widths
from cmcd_core.catalog import Catalog, load
from cmcd_core.config import MARGIN, RunSection
from cmcd_core.data.bank import FeatureBank
from cmcd_core.data.decoded import BoundModality, DecodedViews
from cmcd_core.data.views import Views
from cmcd_core.stages.pairs import Pairs
from cmcd_core.stages.weighted_sum import WeightedSum
from cmcd_core.workbench import make_fabric

DEVICE = torch.device("cpu")
CLASSES = 10


def fabric() -> Fabric:
    """On the CPU, as a run makes it."""
    made, _ = make_fabric(RunSection(device="cpu"))
    return made


def modality(name: str, catalog: Catalog | None = None) -> BoundModality:
    """An installed modality with its default options."""
    plugin = (catalog or load()).modality(name)
    return BoundModality(name, {"name": name}, plugin.build(plugin.options()))


def objective(name: str, source: int, target: int) -> Objective:
    """An installed objective with its default options, in a sum as every run has it."""
    plugin = load().objective(name)
    torch.manual_seed(0)
    return WeightedSum([(1.0, name, plugin.build(plugin.options(), Widths(source=source, target=target)))])


def encoder(bound: BoundModality, architecture: str | None = None, **arguments: object) -> Encoder:
    """One with the same random weights each time."""
    torch.manual_seed(0)
    return bound.modality.encoder(architecture, None, **arguments).to(memory_format=torch.channels_last)


def scenes(count: int, side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 3, S, S) uint8 pictures, (N, 1, S, S) float32 metres with holes, (N,) classes: blobs on a slope."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    pictures = np.empty((count, 3, side, side), np.uint8)
    depths = np.empty((count, 1, side, side), np.float32)
    kinds = rng.integers(CLASSES, size=count)
    for number, kind in enumerate(kinds):
        centre, radius = rng.uniform(0.35, 0.65, 2), 0.12 + 0.018 * kind
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        paint = rng.uniform(0.1, 0.9, (3, 1, 1)) + 0.3 * (x + y) - 0.3
        shown = np.where(inside, 1 - paint, paint) + rng.normal(0, 0.02, (3, side, side))
        pictures[number] = (shown.clip(0, 1) * 255).astype(np.uint8)
        far = 2.5 + 0.5 * y + rng.normal(0, 0.01, (side, side))
        depth = np.where(inside, 1.2 + 0.05 * rng.normal(), far)
        depths[number, 0] = np.where(rng.random((side, side)) < 0.02, 0, depth)
    return pictures, depths, kinds


def views_of(array: np.ndarray, bound: BoundModality, size: int) -> Views:
    """Views of what is decoded already."""
    count = len(array)
    names = np.arange(count).astype(str)
    return Views(DecodedViews(array, np.arange(count), names, (), "", tuple(names)), bound, size, DEVICE)


def stored_side(size: int) -> int:
    """The side at which pictures of that size lie in the cache."""
    return round(MARGIN * size)


@dataclass(frozen=True)
class Lesson:
    """Everything that step 2 takes but its encoders."""

    target: BoundModality
    views: Views
    bank: FeatureBank
    pairs: Pairs


def lesson(target: str, count: int, size: int, width: int = 256) -> Lesson:
    """Decoded views of ``target`` and random source features of ``count`` pairs, four views each."""
    pictures, depths, _ = scenes(count, stored_side(size))
    bound = modality(target)
    features = np.random.default_rng(1).standard_normal((4, count, width)).astype(np.float32)
    return Lesson(
        bound, views_of(depths if target == "depth" else pictures, bound, size), FeatureBank(features), paired(count)
    )


def paired(count: int) -> Pairs:
    """Pairs of equal trust, each of its own source item."""
    rows, none = np.arange(count), np.arange(0)
    return Pairs(rows, rows, none, rows, none, np.ones(count, np.float32))


def write_pairs(folder: Path, count: int, side: int) -> list[Sample]:
    """JPEGs and 16-bit depth PNGs in millimetres, with labels, as a camera leaves them; and a metadata.csv."""
    pictures, depths, kinds = scenes(count, side)
    samples, rows = [], []
    for name in ("image", "depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, kind in enumerate(kinds.tolist()):
        key = f"{number:05d}"
        picture, depth = folder / "image" / f"{key}.jpg", folder / "depth" / f"{key}.png"
        Picture.fromarray(pictures[number].transpose(1, 2, 0)).save(picture, quality=90)
        Picture.fromarray((depths[number, 0] * 1000).astype(np.uint16)).save(depth)
        samples.append(Sample(key, {"image": picture, "depth": depth}, {"label": kind}))
        rows.append([key, str(kind), f"image/{key}.jpg", f"depth/{key}.png"])
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "label", "image_file_name", "depth_file_name"], *rows])
    return samples


def fresh_cache(folder: Path) -> None:
    """From now on, nothing is in cmcd's cache."""
    os.environ["CMCD_CACHE"] = tempfile.mkdtemp(dir=folder)


def same_weights(one: nn.Module, other: nn.Module, tolerance: float = 0.0) -> bool:
    """Whether two networks hold the same numbers."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(_close(a[name], b[name], tolerance) for name in a)


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return bool(torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance))
