"""What a run's trained head says of files: classes with probabilities, or masks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .catalog import Catalog, load
from .data.loose import Batch, Input, items_in
from .data.targets import upsampled
from .errors import ConfigError
from .heads import chosen_evaluation, folder_of_encoder, load_head, task_of
from .interfaces.encoder import Features
from .interfaces.task import Task
from .progress import Progress
from .reading import Reader, reader_at
from .run_folder import RunFolder
from .stages.evaluate import CachedFeatures, parts_of

LARGEST = 1024
"""Masks are computed at a picture's own size up to so many pixels a side; larger ones are enlarged from there."""


@dataclass(frozen=True)
class Predictor:
    """One evaluation's encoder and head.

    Attributes:
        number: Of ``evaluations/<number>/``.
        entry: Its evaluation.json.
        classes: Names of the classes; None where the task has none.
    """

    number: int
    entry: Mapping[str, Any]
    reader: Reader
    task: Task
    head: nn.Module
    classes: tuple[str, ...] | None

    def output(self, features: Features) -> Tensor:
        """What the head makes of features; one that was solved on cached parts is given those parts."""
        if self.entry["protocol"] == "linear":
            features = CachedFeatures(parts_of(features, self.task)).features()
        output: Tensor = self.head(features)
        return output

    @torch.inference_mode()
    def rows(self, batch: Batch) -> Iterator[dict[str, np.ndarray]]:
        """The task's predictions of each item, maps at the item's own size."""
        outputs = self.output(self.reader.encoder(batch.pixels)).float().cpu()
        for output, shape in zip(outputs, batch.shapes, strict=True):
            seen = _within(shape)
            found = self.task.predict(upsampled(output[None], torch.empty(1, *seen)))
            yield {name: _enlarged(value, seen, shape)[0].numpy() for name, value in found.items()}

    @property
    def title(self) -> str:
        """For people: which evaluation this is, and how good it was."""
        entry = self.entry
        score = f"{entry['primary']} {entry['metrics'][entry['primary']]:.3f} on {entry['n_test']} test samples"
        return (
            f"evaluation {self.number}: {entry['encoder']}, {entry['task']}, {entry['protocol']}, {entry['labels']} "
            f"labels ({entry['n_train']}); {score}"
        )


@dataclass(frozen=True)
class Predictions:
    """What was predicted, item by item.

    Attributes:
        keys: (n,) paths as they were named.
        rows: (n,) of the task's predictions by name: ``class`` and ``probability`` (K,), or ``mask`` (H, W).
        classes: Names of the K classes; None where the task has none.
        about: The evaluation whose head it is: evaluation.json, and its ``number``.
    """

    keys: tuple[str, ...]
    rows: tuple[Mapping[str, np.ndarray], ...]
    classes: tuple[str, ...] | None
    about: Mapping[str, Any]

    @property
    def labels(self) -> list[str]:
        """The name of each item's class.

        Raises:
            ConfigError: The task predicts no class.
        """
        if self.classes is None or any("class" not in row for row in self.rows):
            raise ConfigError(f"the task {self.about['task']} predicts no classes", "See what rows holds.")
        return [self.classes[int(row["class"])] for row in self.rows]


def predict(
    run: str | Path,
    inputs: Input | Sequence[Input],
    *,
    evaluation: int | None = None,
    task: str | None = None,
    labels: str | None = None,
    progress: Progress | None = None,
    catalog: Catalog | None = None,
) -> Predictions:
    """Classes with probabilities, or masks, of files of the target modality.

    Args:
        run: A run's folder, step 3 done.
        inputs: Files, folders, bytes or arrays.
        evaluation: Whose encoder and head: ``evaluations/<n>/``. None: the distilled encoder's with the most labels;
            among those with as many, the best on val.
        task, labels: Choose among those of one task, or of one label budget.
        progress: Told of the work; silent by default.
        catalog: Plugins to choose from; default: all that are installed.

    Raises:
        ConfigError: There is no such evaluation, or it has no head or encoder on disk.
        DataError: Something named cannot be read.
        PluginError: Its task or modality is not installed.

    Example:
        >>> import numpy as np
        >>> from cmcd_core import predict
        >>> found = predict(result.folder, np.full((64, 64), 1500, np.uint16))
        >>> found.labels[0] in found.classes, float(found.rows[0]["probability"].sum().round(3))
        (True, 1.0)
    """
    predictor = open_predictor(Path(run), evaluation, task, labels, catalog or load())
    return predict_with(predictor, inputs, progress or Progress())


def predict_with(predictor: Predictor, inputs: Input | Sequence[Input], progress: Progress) -> Predictions:
    """The same by a predictor that is open already."""
    items = items_in(inputs)
    keys: list[str] = []
    rows: list[dict[str, np.ndarray]] = []
    with progress.track(f"predict {predictor.entry['task']}", len(items)) as advance:
        for batch in predictor.reader.batches(items, progress.note):
            keys += batch.keys
            rows += predictor.rows(batch)
            advance(len(batch.keys), "")
    about = {**predictor.entry, "number": predictor.number}
    return Predictions(tuple(keys), tuple(rows), predictor.classes, about)


def open_predictor(
    run: Path, evaluation: int | None, task: str | None, labels: str | None, catalog: Catalog
) -> Predictor:
    """The encoder and head of one evaluation of a run.

    Raises:
        ConfigError, PluginError: As :func:`predict` does.
    """
    folder = RunFolder(run)
    path, entry = chosen_evaluation(folder, evaluation, task, labels)
    if entry["protocol"] == "knn":
        raise ConfigError(
            f"evaluation {path.name} is nearest neighbours, which have no head to predict with",
            "Take one with --protocol linear or finetune: `cmcd evaluate RUN --protocol linear`.",
        )
    reader = reader_at(folder_of_encoder(folder, path, entry), folder, catalog)
    _, made = task_of(folder, entry, catalog)
    classes = tuple(json.loads((path / "classes.json").read_text(encoding="utf-8"))) or None
    head = load_head(path, entry, made, reader.encoder, classes).to(reader.device)
    return Predictor(int(path.name), entry, reader, made, head, classes)


def _within(shape: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, LARGEST / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _enlarged(value: Tensor, seen: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """(1, …, h, w) maps at (H, W), each value one that was there; anything else as it is."""
    if seen == shape or value.ndim < 3 or tuple(value.shape[-2:]) != seen:
        return value
    flat = F.interpolate(value.reshape(1, -1, *seen).float(), size=shape, mode="nearest-exact")
    return flat.reshape(*value.shape[:-2], *shape).to(value.dtype)
