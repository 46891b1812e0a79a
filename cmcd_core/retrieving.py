"""Queries of one modality, and what is nearest to them in the other: what ``cmcd retrieve`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .catalog import Catalog, load
from .data.decoded import BoundModality, decode_one
from .data.loose import Input, Item, items_in
from .embedding import embed_split, features_of
from .errors import ConfigError, DataError
from .interfaces.loader import Sample, Split
from .latents import in_one_space
from .opened import OpenedRun, open_run
from .pictures import small_picture
from .progress import Progress
from .reading import Reader, SplitViews, open_reader
from .report.pictures import Shown, retrieval_sheet
from .workbench import Side

OTHER: dict[Side, Side] = {"source": "target", "target": "source"}
MOST_ROWS = 24
"""Queries on the sheet; a taller picture is no help."""


@dataclass(frozen=True)
class Retrieved:
    """The nearest of the other modality, for each query.

    Attributes:
        queries: (n,) paths as they were named, or keys of samples.
        keys: (n, k) of the samples that were found, nearest first.
        similarities: (n, k) cosines in the common space.
        space: Which space that is, in words.
        modalities: (of the queries, of what is found).
        gallery: How many samples were looked among, and which.
    """

    queries: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    similarities: np.ndarray
    space: str
    modalities: tuple[str, str]
    gallery: tuple[int, str]


def retrieve(
    run: str | Path,
    queries: Input | Sequence[Input],
    *,
    data: str | Path | None = None,
    split: Split = "test",
    side: Side = "target",
    k: int = 5,
    sheet: str | Path | None = None,
    progress: Progress | None = None,
    catalog: Catalog | None = None,
) -> Retrieved:
    """The samples of a split whose other modality is nearest to each query, in the trained objective's space.

    Where the objective has none, target features are taken to the source's by a linear map, fitted on the run's
    training pairs; ``space`` says which it was.

    Args:
        run: A run's folder, step 2 done.
        queries: Files, folders, bytes or arrays; or keys of the split's samples, which the demo data need.
        data: What is looked among; None: the run's own data.
        split: Which split of it.
        side: Whose modality the queries are of.
        k: How many are found for each.
        sheet: A PNG to draw: each query and what was found for it.
        progress: Told of the work; silent by default.
        catalog: Plugins to choose from; default: all that are installed.

    Raises:
        ConfigError: There is no such run.
        DataError: A query or the data cannot be read.
        PluginError: A modality or the objective is not installed.

    Example:
        >>> from cmcd_core import retrieve
        >>> found = retrieve(result.folder, "test-000003", k=2)
        >>> found.modalities, found.gallery, len(found.keys[0])
        (('depth', 'image'), (20, 'demo, test'), 2)
    """
    if k < 1:
        raise ConfigError(f"--k {k}: should be at least 1")
    path, progress, catalog = Path(run), progress or Progress(), catalog or load()
    opened = open_run(path, catalog, progress=progress)
    asking, answering = open_reader(path, side, catalog), open_reader(path, OTHER[side], catalog)
    there = answering.split(data, split)
    items, bound = _queries(queries, asking, data, split)
    keys, asked = features_of(asking, items, progress, bound)
    gallery = embed_split(answering, data, split, progress)
    both = (asked, torch.from_numpy(gallery.features))
    a, b, space = _together(opened, both if side == "source" else both[::-1])
    near, cosines = _nearest(*((a, b) if side == "source" else (b, a)), k)
    found = tuple(tuple(gallery.keys[at] for at in row) for row in near)
    if sheet is not None:
        if len(keys) > MOST_ROWS:
            progress.note(f"the sheet shows the first {MOST_ROWS} of {len(keys)} queries")
        raws = {item.key: item for item in items}
        _draw([raws[key] for key in keys[:MOST_ROWS]], bound, there, found, cosines, Path(sheet))
    modalities = (asking.bound.name, answering.bound.name)
    return Retrieved(keys, found, cosines, space, modalities, (len(gallery.keys), f"{there.name}, {split}"))


def _queries(
    queries: Input | Sequence[Input], reader: Reader, data: str | Path | None, split: Split
) -> tuple[list[Item], BoundModality]:
    """Files as they are; what is no file, as a sample's key."""
    several = [queries] if isinstance(queries, Input) else list(queries)
    words = [str(one) for one in several if isinstance(one, str | Path) and not Path(one).expanduser().exists()]
    if not words:
        return items_in(several), reader.bound
    there = reader.split(data, split)
    samples: dict[str, Sample] = {sample.key: sample for sample in there.samples}
    if unknown := [word for word in words if word not in samples]:
        raise DataError(
            f"{unknown[0]}: no such file, and {there.name} has no {split} sample of that key that shows "
            f"{there.bound.name}",
            f"Its keys are like {there.samples[0].key!r}.",
        )
    if len(words) < len(several):
        raise ConfigError("some queries are files and some are keys of samples", "Ask for them one after the other.")
    return there.items(samples[word] for word in words), there.bound


def _together(opened: OpenedRun, both: Sequence[Tensor]) -> tuple[Tensor, Tensor, str]:
    return in_one_space(opened.bench, opened.source, opened.target, opened.objective(), *both)


def _nearest(queries: Tensor, gallery: Tensor, k: int) -> tuple[list[list[int]], np.ndarray]:
    """(n, d), (m, d) -> rows of the k nearest by cosine, and the cosines; equal ones in the gallery's order."""
    cosines = F.normalize(queries.double(), dim=1) @ F.normalize(gallery.double(), dim=1).T
    values, rows = cosines.sort(dim=1, descending=True, stable=True)
    return rows[:, :k].tolist(), values[:, :k].float().numpy()


def _draw(
    items: Sequence[Item],
    bound: BoundModality,
    there: SplitViews,
    found: Sequence[Sequence[str]],
    cosines: np.ndarray,
    path: Path,
) -> None:
    """A row a query: itself, and what was found."""
    samples = {sample.key: sample for sample in there.samples}
    rows = []
    for item, keys, near in zip(items, found, cosines.tolist(), strict=False):
        first = Shown(item.key, {bound.name: _picture(item, bound)}, bound.name)
        others = [
            Shown(one.key, {there.bound.name: _picture(one, there.bound)}, f"{there.bound.name} {cosine:.3f}")
            for one, cosine in zip(there.items(samples[key] for key in keys), near, strict=True)
        ]
        rows.append([first, *others])
    retrieval_sheet(rows, path)


def _picture(item: Item, bound: BoundModality) -> np.ndarray:
    return small_picture(decode_one(item.key, item.raw, bound), bound)
