"""Settings that were found to work well together, one TOML file each: ``--preset NAME``.

A file's tables are those of a run's configuration; ``[for_task.NAME]`` holds more, for runs that ask for that task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..grammar import merge, read_toml

FOR_TASK = "for_task"


def preset_names() -> list[str]:
    """All of them, sorted."""
    return sorted(Path(file.name).stem for file in files(__name__).iterdir() if file.name.endswith(".toml"))


def preset(name: str, tasks: Iterable[str] = ()) -> dict[str, Any]:
    """A preset's values as plain data.

    Args:
        tasks: Names of the tasks that a run asks for.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in preset_names():
        raise ConfigError(f"there is no preset {name!r}", f"Known: {', '.join(preset_names())}.")
    values = read_toml(Path(str(files(__name__) / f"{name}.toml")))
    by_task = values.pop(FOR_TASK, {})
    for task in tasks:
        values = merge(values, by_task.get(task.rpartition(":")[2], {}))
    return values


def asked_tasks(values: Mapping[str, Any]) -> list[str]:
    """The tasks that a configuration, as plain data, asks for by name."""
    names = values.get("task", {}).get("names", ())
    return [names] if isinstance(names, str) else list(names)


def under_preset(name: str, values: Mapping[str, Any], *, objective: bool, tasks: Iterable[str]) -> dict[str, Any]:
    """A preset on top of ``values``, which a file or a run's folder gave.

    Args:
        tasks: As in :func:`preset`.
        objective: A flag names another objective: the preset's is left out, with its options.
    """
    over, base = preset(name, tasks), dict(values)
    (over if objective else base).pop("objective", None)
    return merge(base, over)
