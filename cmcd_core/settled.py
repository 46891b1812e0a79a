"""What a run's folder holds of a step that is finished. Of several processes one looks and writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning_fabric import Fabric

from .errors import ConfigError
from .processes import led
from .progress import Progress
from .run_folder import RunFolder

CHANGED = "Bring them back to go on (a file counts by its path, size and time), or write elsewhere with another --out."
ELSEWHERE = "Write elsewhere with another --out; more epochs of step 2 alone: --extend."


def settled(
    fabric: Fabric,
    folder: RunFolder,
    stage: str,
    title: str,
    inputs: str,
    progress: Progress,
    epochs: int | None = None,
    *,
    extend: bool = False,
) -> dict[str, Any] | None:
    """The record of a step that is done; None where it is still to do.

    Args:
        title: The step, for people.
        inputs: Digest of all that it is made from.
        extend: A finished step goes on to more epochs.

    Raises:
        ConfigError: It was done, or begun, from other data, options or seed: what is there is not overwritten.
    """
    return led(fabric, lambda: _record(folder, stage, title, inputs, progress, epochs, extend))


def _record(
    folder: RunFolder, stage: str, title: str, inputs: str, progress: Progress, epochs: int | None, extend: bool
) -> dict[str, Any] | None:
    record = folder.finished(stage)
    if record is None:
        refuse_another(folder, stage, title, inputs)
        return None
    if record["digest"] != inputs:
        raise ConfigError(
            f"{folder.path}: its {title} is finished, from other data, options or another seed", ELSEWHERE
        )
    if epochs is None or record["epochs"] == epochs:
        progress.note(f"{title} is done already, from the same data and options")
        return record
    if not extend:
        raise ConfigError(
            f"{folder.path}: its {title} is finished after {record['epochs']} epochs, not {epochs}", ELSEWHERE
        )
    if epochs < record["epochs"]:
        raise ConfigError(f"--extend: {title} has {record['epochs']} epochs already, and {epochs} were asked for")
    if folder.checkpoints(stage).latest(inputs) is None:
        raise ConfigError(f"--extend: {folder.path}/checkpoints holds no readable state of {title}")
    folder.reopen(stage)
    return None


def settle(
    fabric: Fabric, folder: RunFolder, stage: str, inputs: str, record: Mapping[str, Any], save: Callable[[], object]
) -> None:
    """A step is done: what it made is saved, and only then does the folder say so."""

    def both() -> None:
        save()
        folder.finish(stage, inputs, record)

    led(fabric, both)


def refuse_another(folder: RunFolder, stage: str, title: str, inputs: str) -> None:
    """Starting over would take the place of hours of work that a touched file put aside.

    Raises:
        ConfigError: An interrupted training of this step is there, from other data, options or seed.
    """
    if (epochs := folder.checkpoints(stage).others(inputs)) is not None:
        raise ConfigError(
            f"{folder.path}: its {title} was interrupted in or after epoch {epochs}, and its data, options, seed or "
            "plugins are others now",
            CHANGED,
        )
