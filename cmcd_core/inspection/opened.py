"""A data set opened to be looked at, with every modality that is installed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..built import bind, built_task
from ..catalog import Catalog
from ..config import DataConfig
from ..data.decoded import BoundModality
from ..errors import CmcdError, DataError, PluginError
from ..grammar import parse_data
from ..interfaces.loader import PairedLoader
from ..interfaces.task import Task
from ..plugin import LoaderOptions
from ..resolve import Chosen, modality_of_data, open_data


@dataclass(frozen=True)
class Opened:
    """A data set and what it is read with.

    Attributes:
        name: The data set's own, or its folder's.
        modalities: Those installed, bound to the options that the data set sets.
        unknown: Modalities that no plugin provides, with the reason.
        tasks: Target -> the task that reads it.
        missing: What the loader refused at first, where it reads the rest.
    """

    name: str
    part: Chosen
    loader: PairedLoader
    modalities: Mapping[str, BoundModality]
    unknown: Mapping[str, str]
    tasks: Mapping[str, Task]
    missing: DataError | None = None


def open_set(text: str, options: Mapping[str, Any], catalog: Catalog, *, leniently: bool = False) -> Opened:
    """Open ``PATH`` or ``LOADER:PATH``; ``leniently``: what can be read of it, if some files are missing.

    Raises:
        ConfigError, PluginError, DataError: As a run would raise them.
    """
    values = {**parse_data(text), **options}
    missing = None
    try:
        part, loader = _open(values, catalog)
    except DataError as error:
        if not leniently or options.get("on_error"):
            raise
        missing = error
        try:
            part, loader = _open({**values, "on_error": "skip"}, catalog)
        except CmcdError:
            raise error from None
    bound, unknown = _modalities(catalog, loader)
    root = getattr(part.options, "root", None)
    name = str(getattr(loader, "name", "") or (Path(root).name if root else part.name))
    return Opened(name, part, loader, bound, unknown, _tasks(catalog), missing)


def skips(opened: Opened) -> bool:
    """Whether the user wants unreadable files left out."""
    options = opened.part.options
    return isinstance(options, LoaderOptions) and options.on_error == "skip" and opened.missing is None


def _open(values: Mapping[str, Any], catalog: Catalog) -> tuple[Chosen, PairedLoader]:
    return open_data(DataConfig.model_validate(values), catalog, "data", "data")


def _modalities(catalog: Catalog, loader: PairedLoader) -> tuple[dict[str, BoundModality], dict[str, str]]:
    bound, unknown = {}, {}
    for name in sorted(loader.modalities):
        try:
            chosen = modality_of_data(catalog, name, loader)
        except PluginError as error:
            unknown[name] = error.message
            continue
        bound[name] = bind(chosen)
    return bound, unknown


def _tasks(catalog: Catalog) -> dict[str, Task]:
    """The first task of each target, with its default options."""
    found: dict[str, Task] = {}
    for plugin, part in catalog.all("task"):
        task = built_task(Chosen(plugin, part, part.options()))
        found.setdefault(task.target_name, task)
    return found
