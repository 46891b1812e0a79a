"""What a plugin author imports: the hook marker, Options, and one descriptor for each kind of plugin.

This module is light (pluggy and pydantic only): a plugin that imports torch inside its ``build`` function
is listed, checked and documented without torch ever being loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import pluggy
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from .interfaces.loader import PairedLoader
    from .interfaces.modality import Modality
    from .interfaces.objective import Objective
    from .interfaces.task import Task

__all__ = [
    "Field",
    "LoaderOptions",
    "LoaderPlugin",
    "ModalityPlugin",
    "ObjectivePlugin",
    "Options",
    "TaskPlugin",
    "Widths",
    "hookimpl",
]

hookimpl = pluggy.HookimplMarker("cmcd")


class Options(BaseModel):
    """Base of every plugin's options: frozen, and a misspelt option is an error.

    Give each field a default, bounds and a description; they reach TOML, ``-o SECTION.KEY=VALUE``,
    ``cmcd plugins show NAME`` and the docs from here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class LoaderOptions(Options):
    """Base of a loader's options."""

    root: Path | None = Field(None, description="Folder or file of the data set; what --data names.")
    on_error: Literal["fail", "skip"] = Field(
        "fail",
        description="What to do about a sample that cannot be read: stop, or leave it out and list it.",
    )


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Feature widths that an objective's heads must fit.

    Attributes:
        source: Width of the source's pooled features.
        target: Width of the target's pooled features.
        source_dense: Channels of the source's dense map.
        target_dense: Channels of the target's dense map.
    """

    source: int
    target: int
    source_dense: int = 0
    target_dense: int = 0


O = TypeVar("O", bound=Options)  # noqa: E741
L = TypeVar("L", bound=LoaderOptions)


@dataclass(frozen=True, kw_only=True)
class ModalityPlugin(Generic[O]):
    """A kind of input, such as "depth". ``build(options)`` returns a :class:`cmcd_core.Modality`."""

    name: str
    summary: str
    options: type[O]
    build: Callable[[O], Modality]


@dataclass(frozen=True, kw_only=True)
class LoaderPlugin(Generic[L]):
    """A layout of paired data on disk. ``build(options)`` returns a :class:`cmcd_core.PairedLoader`.

    ``recognises(path)`` tells cheaply whether this loader reads what lies at ``path``, so that ``--data PATH``
    needs no loader's name.
    """

    name: str
    summary: str
    options: type[L]
    build: Callable[[L], PairedLoader]
    recognises: Callable[[Path], bool]


@dataclass(frozen=True, kw_only=True)
class ObjectivePlugin(Generic[O]):
    """A distillation loss. ``build(options, widths)`` returns a :class:`cmcd_core.Objective`."""

    name: str
    summary: str
    options: type[O]
    build: Callable[[O, Widths], Objective]


@dataclass(frozen=True, kw_only=True)
class TaskPlugin(Generic[O]):
    """A downstream evaluation. ``build(options)`` returns a :class:`cmcd_core.Task`."""

    name: str
    summary: str
    options: type[O]
    build: Callable[[O], Task]


Descriptor = ModalityPlugin[Any] | LoaderPlugin[Any] | ObjectivePlugin[Any] | TaskPlugin[Any]
