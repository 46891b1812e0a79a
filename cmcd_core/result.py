"""What a run found, in memory and on disk."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .files import replacing, write_json, write_tensors
from .run_folder import RunFolder

if TYPE_CHECKING:
    from .interfaces.encoder import Encoder
    from .stages.labelled import Splits
    from .stages.scoring import Scores

SCHEMA = 1
"""Of result.json's layout: it rises when an entry is renamed, removed or means something else."""


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        folder: Where it lies.
        values: The content of result.json.
    """

    folder: Path
    values: dict[str, Any]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """One entry an encoder, task, protocol and label budget."""
        return list(self.values["evaluations"])

    def metric(self, encoder: str, name: str = "top1") -> float:
        """The first evaluation's metric of one encoder ("distilled", "scratch", "untrained", "source").

        Raises:
            KeyError: The run has no such encoder or metric.
        """
        for entry in self.evaluations:
            if entry["encoder"] == encoder:
                return float(entry["metrics"][name])
        raise KeyError(encoder)

    def encoder(self, which: str = "target") -> Encoder:
        """The run's ``"target"`` or ``"source"`` encoder, in eval mode."""
        from .encoders import load_encoder

        return load_encoder(self.folder / which)


def load_run(folder: str | Path) -> Result:
    """A finished run's result.

    Raises:
        ConfigError: The folder holds no finished run, or one that a newer cmcd has written.

    Example:
        >>> again = load_run(result.folder)
        >>> again.metric("distilled") == result.metric("distilled"), again.values["target"]
        (True, 'depth')
    """
    values = RunFolder(Path(folder)).read_result()
    if not values:
        raise ConfigError(f"{folder}: no finished run here (no result.json)")
    if values.get("schema", SCHEMA) > SCHEMA:
        written = f"result.json was written by a newer cmcd (schema {values['schema']}, this one reads {SCHEMA})"
        raise ConfigError(f"{folder}: its {written}", "pip install --upgrade cmcd")
    return Result(Path(folder), values)


def environment(device: str, precision: str, processes: int = 1) -> dict[str, Any]:
    """What the numbers depend on besides the configuration."""
    import torch

    packages = {name: version(name) for name in ("torch", "torchvision", "timm", "lightning-fabric", "numpy")}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "precision": precision,
        "processes": processes,
        **packages,
    }


def evaluation_entry(about: Mapping[str, str], primary: str, scores: Scores, splits: Splits) -> dict[str, Any]:
    """One entry of result.json's ``evaluations``; ``about`` names encoder, modality, task, protocol, labels, data."""
    return {
        **about,
        "n_train": scores.n_train,
        "n_test": scores.n_test,
        "classes": len(splits.classes) if splits.classes else None,
        "draws": scores.draws,
        "per_class": any(stratum is not None for stratum in splits.train.strata),
        "primary": primary,
        "metrics": dict(scores.metrics),
        "intervals": {name: list(ends) for name, ends in scores.intervals.items()},
        "val": scores.val,
        "per_draw": list(scores.per_draw),
        "chosen_on_val": list(scores.chosen),
    }


def write_evaluation(folder: Path, entry: Mapping[str, Any], scores: Scores, splits: Splits) -> None:
    """``evaluations/<n>/``: the head, the classes, the predictions, and the encoder where it was trained too."""
    import numpy as np

    write_tensors(folder / "head.safetensors", scores.head.state_dict())
    arrays = {name: tensor.cpu().numpy() for name, tensor in scores.predictions.items()}
    every, size = np.arange(len(splits.test)), splits.test.views.size
    targets = splits.test.targets
    shown = targets.cropped(every, None, size) if targets.spatial else targets.at(every)
    arrays |= {"key": np.asarray(splits.test.keys), "target": shown.numpy()}
    with replacing(folder / "predictions.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    with replacing(folder / "replicates.npy") as partial, partial.open("wb") as file:
        np.save(file, scores.replicates.numpy(), allow_pickle=False)
    write_json(folder / "classes.json", list(splits.classes or ()))
    if scores.encoder is not None:
        scores.encoder.save(folder / "encoder")
    write_json(folder / "evaluation.json", dict(entry))
