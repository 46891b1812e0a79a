"""Heads that step 3 trained, taken up again from ``evaluations/<n>/``: which one, its encoder, task and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from .built import built_task
from .catalog import Catalog
from .data.digest import weights_digest
from .encoders import load_encoder
from .errors import CmcdError, ConfigError
from .interfaces.encoder import Encoder
from .interfaces.task import Task
from .resolve import Chosen, chosen_task
from .run_folder import RunFolder
from .stages.evaluate import Standardised

Found = tuple[Path, dict[str, Any]]
"""An evaluation's folder, and its evaluation.json."""


def chosen_evaluation(folder: RunFolder, evaluation: int | None, task: str | None, labels: str | None) -> Found:
    """One evaluation with a head: the one of this number; else the distilled encoder's with the most labels.

    Raises:
        ConfigError: There is no such one, or only of another target encoder.
    """
    if not folder.path.exists():
        raise ConfigError(f"{folder.path}: no such folder", "Name a run's folder.")
    every = folder.evaluations()
    if not every:
        raise ConfigError(
            f"{folder.path}: no evaluation here, so no head to predict with",
            f"Name a run's folder whose step 3 is done: cmcd evaluate {folder.path}.",
        )
    if evaluation is None:
        return _best(_of_this_target(folder, _fitting(folder, every, task, labels)))
    if task is not None or labels is not None:
        raise ConfigError("--evaluation says which one already", "Leave --task and --labels out.")
    for path, entry in every:
        if path.name == str(evaluation):
            return path, entry
    numbers = ", ".join(path.name for path, _ in every)
    raise ConfigError(f"--evaluation {evaluation}: {folder.path} has no such one", f"It has {numbers}.")


def _fitting(folder: RunFolder, every: Sequence[Found], task: str | None, labels: str | None) -> list[Found]:
    """Heads of the distilled encoder, those of one task or label budget where it is named."""
    heads = [(path, entry) for path, entry in every if entry["encoder"] == "distilled" and entry["protocol"] != "knn"]
    fitting = [
        (path, entry) for path, entry in heads if task in (None, entry["task"]) and labels in (None, entry["labels"])
    ]
    if fitting:
        return fitting
    wanted = [f"{flag} {value}" for flag, value in (("--task", task), ("--labels", labels)) if value]
    there = dict.fromkeys(f"{entry['task']} with {entry['labels']} labels" for _, entry in heads)
    none = "none but nearest neighbours, which have no head: evaluate with --protocol linear"
    raise ConfigError(
        f"{folder.path}: no head of the distilled encoder{' for ' if wanted else ''}{', '.join(wanted)}",
        f"It has {', '.join(there) or none}.",
    )


def _of_this_target(folder: RunFolder, fitting: Sequence[Found]) -> list[Found]:
    """Those of the target encoder that is there now; a longer step 2 makes it another one."""
    own = weights_digest(load_encoder(folder.path / "target"))
    if current := [(path, entry) for path, entry in fitting if entry["weights"] == own]:
        return current
    raise ConfigError(
        f"{folder.path}: its heads were made for another target encoder than it has now",
        f"Evaluate this one: cmcd evaluate {folder.path}.",
    )


def _best(found: Sequence[Found]) -> Found:
    """With the most labels; among those the best on val, of the task that was evaluated first."""
    most, first = max(entry["n_train"] for _, entry in found), found[0][1]["task"]
    return max(
        (one for one in found if one[1]["n_train"] == most),
        key=lambda one: (one[1]["task"] == first, one[1]["val"], int(one[0].name)),
    )


def folder_of_encoder(folder: RunFolder, path: Path, entry: Mapping[str, Any]) -> Path:
    """Where the encoder of an evaluation lies: with it, or wherever the run keeps the one of these weights."""
    if (path / "encoder" / "config.json").is_file():
        return path / "encoder"
    there = [folder.path / "target", folder.path / "source", *sorted((folder.path / "baselines").glob("*"))]
    for candidate in there:
        if (candidate / "config.json").is_file() and weights_digest(load_encoder(candidate)) == entry["weights"]:
            return candidate
    raise ConfigError(
        f"evaluation {path.name}: its encoder ({entry['encoder']}, seeing {entry['modality']}) is not kept in "
        f"{folder.path}",
        "Only trained encoders are: the target's, the source's, the baselines', and those that were fine-tuned.",
    )


def task_of(folder: RunFolder, entry: Mapping[str, Any], catalog: Catalog) -> tuple[Chosen, Task]:
    """The task as it was when the head was made; runs from before it was recorded: as the run is configured."""
    identity = entry.get("task_identity")
    if identity is None:
        tables = folder.read_config().get("task", {})
        identity = {"name": entry["task"], "options": tables.get(entry["task"], {})}
    name = f"{identity['plugin']}:{identity['name']}" if "plugin" in identity else identity["name"]
    chosen = chosen_task(catalog, name, identity["options"])
    return chosen, built_task(chosen)


def load_head(
    path: Path, entry: Mapping[str, Any], task: Task, encoder: Encoder, classes: Sequence[str] | None
) -> nn.Module:
    """The head of ``evaluations/<n>/``, in eval mode: its module from the task, its weights from the file.

    Raises:
        ConfigError: The task builds another head than the one that was saved.
    """
    file = path / "head.safetensors"
    state = load_file(file)
    try:
        if entry["protocol"] == "linear":
            parts = range(sum(name.startswith("mean") for name in state))
            mean, std = ([state[f"{name}{part}"] for part in parts] for name in ("mean", "std"))
            head: nn.Module = Standardised(task.head(encoder, classes), mean, std)
        else:
            head = task.finetune_head(encoder, classes)
        head.load_state_dict(state)
    except CmcdError:
        raise
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{file}: not the head that task {entry['task']} builds now ({reason})",
            "It was made with another version or other options of the task: evaluate again.",
        ) from error
    return head.eval().requires_grad_(False)
