"""The contact sheet: some pairs side by side, with key and label, for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from ..data.decoded import BoundModality, decode_one
from ..data.targets import read_target
from ..errors import CmcdError
from ..files import replacing
from ..interfaces.loader import Sample
from ..interfaces.task import Task
from .look import Looked, Seen
from .opened import Opened
from .samples import label_of

SIDE = 112
GAP = 4
ACROSS = 4
MOST = 24
ODD = 4
"""So many of the samples shown are taken from those with a view that is unreadable or says nothing."""
IGNORED = 255
GREY = np.full(3, 128, np.uint8)


def write_sheet(opened: Opened, looked: Looked, path: Path) -> None:
    """Write a PNG of up to 24 training samples: their views side by side, and what a task reads as a picture.

    Raises:
        OSError: It cannot be written.
    """
    samples = chosen(opened, looked)
    masks = sorted(name for name, task in opened.tasks.items() if task.spatial and _any_has(samples, name))
    across = max(1, min(ACROSS, len(samples)))
    down = max(1, -(-len(samples) // across))
    wide = max(1, len(opened.modalities) + len(masks))
    figure = Figure(figsize=(across * (1.1 * wide + 0.3), 1.5 * down + 0.6), layout="constrained")
    figure.suptitle(f"{opened.name}, train: {' | '.join([*opened.modalities, *masks])}", fontsize=9, parse_math=False)
    fields = list(np.ravel(figure.subplots(down, across, squeeze=False)))
    for axes in fields:
        axes.axis("off")
    for axes, sample in zip(fields, samples, strict=False):  # the last row may be short
        axes.imshow(strip(opened, sample, masks), interpolation="nearest")
        title = f"{shortened(sample.key)}\n{shortened(label_of(opened, sample))}"
        axes.set_title(title, fontsize=6, pad=2, parse_math=False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150, format="png")


def chosen(opened: Opened, looked: Looked) -> list[Sample]:
    """Evenly spaced training samples, fullest first, and a few of the odd ones; in their order."""
    samples = looked.samples["train"]
    odd = [at for at in range(len(samples)) if _is_odd(opened, looked, at)][:ODD]
    fullest = max((len(sample.views) for sample in samples), default=0)
    full = [at for at, sample in enumerate(samples) if len(sample.views) == fullest and at not in odd]
    count = min(MOST - len(odd), len(full))
    return [samples[at] for at in sorted([*odd, *(full[number * len(full) // count] for number in range(count))])]


def _is_odd(opened: Opened, looked: Looked, at: int) -> bool:
    views = [looked.views["train", name][at] for name in opened.modalities]
    return any(isinstance(view, str) or (isinstance(view, Seen) and view.low == view.high) for view in views)


def _any_has(samples: Sequence[Sample], target: str) -> bool:
    return any(target in sample.targets for sample in samples)


def strip(opened: Opened, sample: Sample, masks: Sequence[str]) -> np.ndarray:
    """(SIDE, width, 3) uint8: one sample's pictures side by side."""
    tiles = []
    for picture in list(_pictures(opened, sample, masks)) or [None]:
        tiles += [tile(picture), np.full((SIDE, GAP, 3), 255, np.uint8)]
    return np.hstack(tiles[:-1])


def _pictures(opened: Opened, sample: Sample, masks: Sequence[str]) -> Iterator[np.ndarray | None]:
    for name, bound in opened.modalities.items():
        yield _view(sample, name, bound)
    for name in masks:
        yield _mask(sample, opened.tasks[name], len(opened.loader.classes.get(name, ())))


def _view(sample: Sample, name: str, bound: BoundModality) -> np.ndarray | None:
    if name not in sample.views:
        return None
    try:
        return bound.modality.picture(decode_one(sample.key, sample.views[name], bound))
    except Exception:  # of a plugin's picture() too: the sheet shows that field crossed out
        return None


def _mask(sample: Sample, task: Task, classes: int) -> np.ndarray | None:
    """Class ids from dark to light, on a scale that reads the same for all eyes; ignored pixels are grey."""
    if task.target_name not in sample.targets:
        return None
    try:
        ids = read_target(task, sample.key, sample.targets[task.target_name]).numpy()
    except CmcdError:
        return None
    highest = max(classes - 1, int(ids[ids != IGNORED].max(initial=1)), 1)
    shown: np.ndarray = (colormaps["cividis"](ids / highest)[..., :3] * 255).astype(np.uint8)
    shown[ids == IGNORED] = GREY
    return shown


def tile(picture: np.ndarray | None) -> np.ndarray:
    """(h, w, 3) uint8 -> (SIDE, SIDE, 3), whole, on white; None: a crossed-out field."""
    out = np.full((SIDE, SIDE, 3), 255, np.uint8)
    if picture is None:
        line = np.arange(SIDE)
        out[line, line] = out[line, SIDE - 1 - line] = 0
        out[[0, -1]] = out[:, [0, -1]] = 0
        return out
    scale = SIDE / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    small = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    out[top : top + height, left : left + width] = small
    return out


def shortened(text: str, most: int = 30) -> str:
    """The text, its middle left out where it is long."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"
