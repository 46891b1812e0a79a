"""Finds, loads, checks and looks up plugins. No globals: :func:`load` returns a fresh :class:`Catalog`.

Each entry point of the group ``cmcd`` is loaded alone, so that one which fails to import, exits, misspells a hook or
returns the wrong thing is listed as broken and harms nobody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version
from types import ModuleType
from typing import Any, Literal, cast

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from . import hookspecs
from .errors import PluginError, did_you_mean, one_line
from .plugin import (
    Descriptor,
    LoaderOptions,
    LoaderPlugin,
    ModalityPlugin,
    ObjectivePlugin,
    Options,
    TaskPlugin,
)

GROUP = "cmcd"
Kind = Literal["modality", "loader", "objective", "task"]
KINDS: dict[Kind, tuple[str, type[Any]]] = {
    "modality": ("cmcd_modalities", ModalityPlugin),
    "loader": ("cmcd_loaders", LoaderPlugin),
    "objective": ("cmcd_objectives", ObjectivePlugin),
    "task": ("cmcd_tasks", TaskPlugin),
}
NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED = frozenset({"scratch", "untrained", "source", "distilled", "ssl-target"})


@dataclass(frozen=True)
class Plugin:
    """One entry point: where it comes from, whether it works, and what it provides.

    ``module``: What it names, whose code runs when it is loaded.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "broken", "incompatible", "off"]
    reason: str = ""
    parts: dict[Kind, tuple[Descriptor, ...]] = field(default_factory=dict)
    module: str = ""

    @property
    def provides(self) -> dict[str, list[str]]:
        return {kind: [part.name for part in parts] for kind, parts in self.parts.items() if parts}


@dataclass(frozen=True)
class Catalog:
    """All plugins found. Lookups are by name, or by ``plugin:name`` where two plugins offer one name."""

    plugins: tuple[Plugin, ...]

    def modality(self, name: str) -> ModalityPlugin[Any]:
        return cast("ModalityPlugin[Any]", self.find("modality", name)[1])

    def loader(self, name: str) -> LoaderPlugin[Any]:
        return cast("LoaderPlugin[Any]", self.find("loader", name)[1])

    def objective(self, name: str) -> ObjectivePlugin[Any]:
        return cast("ObjectivePlugin[Any]", self.find("objective", name)[1])

    def task(self, name: str) -> TaskPlugin[Any]:
        return cast("TaskPlugin[Any]", self.find("task", name)[1])

    def all(self, kind: Kind) -> list[tuple[Plugin, Descriptor]]:
        """Every part of one kind with its plugin, in the order of the plugins' names."""
        return [(plugin, part) for plugin in self.plugins for part in plugin.parts.get(kind, ())]

    def find(self, kind: Kind, name: str) -> tuple[Plugin, Descriptor]:
        """The one part that ``name`` or ``plugin:name`` means.

        Raises:
            PluginError: No plugin offers it (with the nearest names), or more than one does.
        """
        owner, _, wanted = name.rpartition(":")
        found = [
            (plugin, part) for plugin, part in self.all(kind) if part.name == wanted and owner in ("", plugin.name)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            givers = " and ".join(
                f"{plugin.name}:{wanted} (from {plugin.distribution} {plugin.version})" for plugin, _ in found
            )
            raise PluginError(f"{kind} {wanted!r} is offered by {givers}", "Name one of them in full.")
        raise self._unknown(kind, name)

    def called(self, name: str) -> list[tuple[Kind, Plugin, Descriptor]]:
        """All that ``name`` means: a plugin's parts, parts of this name, or the one that ``plugin:name`` is.

        Raises:
            PluginError: Nothing (with the nearest names, or why the plugin of this name is not loaded).
        """
        owner, _, wanted = name.rpartition(":")
        found = [
            (kind, plugin, part)
            for kind in KINDS
            for plugin, part in self.all(kind)
            if (part.name == wanted and owner in ("", plugin.name)) or (not owner and plugin.name == name)
        ]
        if found:
            return found
        for plugin in self.plugins:
            if plugin.name == name:
                raise PluginError(f"plugin {name!r} is {plugin.status}: {plugin.reason or 'it provides nothing'}")
        names = sorted({part.name for kind in KINDS for _, part in self.all(kind)})
        hint = f"{did_you_mean(name, names)}Installed: {', '.join(names)}."
        raise PluginError(f"nothing called {name!r} is installed", hint)

    def _unknown(self, kind: Kind, name: str) -> PluginError:
        offered = sorted({part.name for _, part in self.all(kind)})
        near = did_you_mean(name.rpartition(":")[2], offered)
        hint = f"{near}Installed: {', '.join(offered) or 'none'}."
        lost = [plugin for plugin in self.plugins if plugin.status in ("broken", "incompatible")]
        if lost:
            hint += f" Not loaded: {', '.join(p.name for p in lost)} (see `cmcd plugins list`)."
        if not near:
            hint += f" If a package provides it: pip install cmcd-plugin-{name.rpartition(':')[2]}"
        return PluginError(f"there is no {kind} called {name!r}", hint)


def load(entries: Iterable[EntryPoint] | None = None) -> Catalog:
    """Load every plugin that is installed, or those given.

    ``CMCD_PLUGINS=a,b`` loads only the plugins named (empty: none). ``CMCD_STRICT=1`` raises on the first plugin
    that does not load, with its traceback, for plugin authors.
    """
    found = entry_points(group=GROUP) if entries is None else entries
    named = os.environ.get("CMCD_PLUGINS")
    only = None if named is None else {part.strip() for part in named.split(",")}
    unique = {(entry.name, entry.value): entry for entry in found}
    ordered = sorted(unique.values(), key=lambda entry: (entry.name, entry.value))
    return Catalog(tuple(_load_one(entry, only) for entry in ordered))


def _load_one(entry: EntryPoint, only: set[str] | None) -> Plugin:
    distribution = entry.dist.name if entry.dist else "unknown"
    number = entry.dist.version if entry.dist else "unknown"
    origin = (entry.name, distribution, number)
    if only is not None and entry.name not in only:
        return Plugin(*origin, "off", "not named in CMCD_PLUGINS", module=entry.value)
    if needs := _unmet(entry):
        return Plugin(*origin, "incompatible", needs, module=entry.value)
    try:
        return Plugin(*origin, "ok", parts=_parts(entry), module=entry.value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a plugin that exits must not take the command line down
        if os.environ.get("CMCD_STRICT"):
            raise
        return Plugin(*origin, "broken", one_line(error), module=entry.value)


def _unmet(entry: EntryPoint) -> str:
    """Why this version of cmcd is not what the plugin's distribution requires, or ''."""
    if entry.dist is None or canonicalize_name(entry.dist.name) == "cmcd":
        return ""
    here = version("cmcd")
    for text in entry.dist.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if canonicalize_name(requirement.name) != "cmcd" or not applies:
            continue
        if not requirement.specifier.contains(here, prereleases=True):
            return f"needs cmcd{requirement.specifier}, this is {here}"
    return ""


def _parts(entry: EntryPoint) -> dict[Kind, tuple[Descriptor, ...]]:
    module = entry.load()
    manager = pluggy.PluginManager("cmcd")
    manager.add_hookspecs(hookspecs)
    manager.register(module, entry.name)
    _no_misspelt_hook(manager, module)
    parts: dict[Kind, tuple[Descriptor, ...]] = {}
    for kind, (hook, expected) in KINDS.items():
        given: Sequence[Iterable[Any]] = getattr(manager.hook, hook)()
        parts[kind] = tuple(_checked(part, hook, expected) for result in given for part in result)
        names = [part.name for part in parts[kind]]
        if len(set(names)) < len(names):
            raise PluginError(f"{hook} names one {kind} twice: {', '.join(names)}")
    return parts


def _no_misspelt_hook(manager: pluggy.PluginManager, module: ModuleType) -> None:
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        known = [hook for hook, _ in KINDS.values()]
        wrong = next((n for n in vars(module) if n.startswith("cmcd_") and f"{n!r}" in str(error)), "")
        near = get_close_matches(wrong, known, 1)
        meant = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(known)}"
        raise PluginError(f"unknown hook {wrong!r}: {meant}") from error


def _checked(part: Any, hook: str, expected: type[Any]) -> Descriptor:
    if not isinstance(part, expected):
        raise PluginError(f"{hook} must return {expected.__name__} objects, got {type(part).__name__}")
    if not NAME.fullmatch(part.name) or part.name in RESERVED:
        raise PluginError(
            f"{part.name!r} is reserved"
            if part.name in RESERVED
            else f"the name {part.name!r} should be lower case letters, digits and _, a letter first"
        )
    base = LoaderOptions if expected is LoaderPlugin else Options
    if not (isinstance(part.options, type) and issubclass(part.options, base)):
        raise PluginError(f"{part.name}: options must be a subclass of cmcd_core.plugin.{base.__name__}")
    if not callable(part.build):
        raise PluginError(f"{part.name}: build must be callable")
    return cast(Descriptor, part)
