"""What plugins build of their options; whatever goes wrong in their code is named as their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .data.decoded import BoundModality
from .errors import CmcdError, ConfigError, PluginError
from .interfaces.modality import Modality
from .interfaces.objective import Objective
from .interfaces.task import Task
from .plugin import Widths
from .resolve import Chosen


def guarded(what: str, make: Callable[[], Any]) -> Any:
    """Run a plugin's code.

    Raises:
        PluginError: It raised something else than cmcd's own errors.
    """
    try:
        return make()
    except CmcdError:
        raise
    except Exception as error:
        raise PluginError(f"{what} failed to build: {type(error).__name__}: {error}") from error


def bind(chosen: Chosen) -> BoundModality:
    """A modality, built.

    Raises:
        PluginError: Its plugin builds something else, or fails.
    """
    return BoundModality(chosen.name, chosen.identity, _built("modality", Modality, chosen), chosen.said)


def built_task(chosen: Chosen) -> Task:
    """A task, built.

    Raises:
        PluginError: Its plugin builds something else, or fails.
    """
    task: Task = _built("task", Task, chosen)
    return task


def built_objective(chosen: Chosen, widths: Widths) -> Objective:
    """An objective whose heads fit these widths.

    Raises:
        ConfigError: Its options do not go together. It knows its own name only; what is said is of the term's section.
        PluginError: Its plugin builds something else, or fails.
    """
    try:
        objective: Objective = _built("objective", Objective, chosen, widths)
    except ConfigError as error:
        own, section = f"objective.{chosen.name}.", f"{chosen.section}."
        raise ConfigError(error.message.replace(own, section), error.hint.replace(own, section)) from error
    return objective


def _built(kind: str, expected: type[Any], chosen: Chosen, *arguments: Any) -> Any:
    builder: Callable[..., Any] = chosen.part.build
    made = guarded(f"{chosen.name!r} of plugin {chosen.plugin.name}", lambda: builder(chosen.options, *arguments))
    if not isinstance(made, expected):
        raise PluginError(
            f"{kind} {chosen.name!r} built a {type(made).__name__}, expected a cmcd_core.{expected.__name__}"
        )
    return made
