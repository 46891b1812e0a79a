"""All checks of a plugin or of one of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, assert_never

from ..catalog import Catalog, Kind, Plugin, load
from ..errors import ConfigError
from ..plugin import Descriptor
from .descriptor import OF_A_PART, OF_A_PLUGIN
from .findings import Finding, Subject, run_checks

STRICT = "`CMCD_STRICT=1 CMCD_DEBUG=1 cmcd plugins list` shows the traceback."


def examine(
    name: str,
    *,
    samples: Mapping[str, Sequence[Any]] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Finding]:
    """The checks of all that ``name`` means (a plugin, a part, or ``plugin:part``), as they are done.

    Args:
        samples: Part -> raw data of a modality, or a task's targets.
        options: Part -> its options.

    Raises:
        PluginError: There is nothing of this name.
        ConfigError: ``samples`` or ``options`` are for a part that ``name`` does not mean.
    """
    catalog = load()
    if broken := [p for p in catalog.plugins if p.name == name and p.status in ("broken", "incompatible")]:
        return (_not_loaded(plugin) for plugin in broken)
    found = catalog.called(name)
    _only_these(found, samples=samples or {}, options=options or {})
    return _each(catalog, found, samples or {}, options or {})


def _not_loaded(plugin: Plugin) -> Finding:
    hint = STRICT if plugin.status == "broken" else ""
    return Finding(plugin.name, "plugin", plugin.name, "it is loaded", "failed", plugin.reason, hint)


def _only_these(found: Sequence[tuple[Kind, Plugin, Descriptor]], **given: Mapping[str, Any]) -> None:
    names = sorted({part.name for _, _, part in found})
    for argument, values in given.items():
        for name in values:
            if name not in names:
                raise ConfigError(f"{argument}: no part called {name!r} is checked", f"These are: {', '.join(names)}.")


def _each(
    catalog: Catalog,
    found: Sequence[tuple[Kind, Plugin, Descriptor]],
    samples: Mapping[str, Sequence[Any]],
    options: Mapping[str, Mapping[str, Any]],
) -> Iterator[Finding]:
    for plugin in {id(plugin): plugin for _, plugin, _ in found}.values():
        yield from run_checks(OF_A_PLUGIN, Subject(plugin, plugin), "plugin")
        for kind, owner, part in found:
            if owner is plugin:
                given = (dict(options.get(part.name, {})), samples.get(part.name))
                yield from run_checks(OF_A_PART, Subject(plugin, part, *given), kind)
                yield from _of_kind(catalog, kind, plugin, part, *given)


def _of_kind(
    catalog: Catalog, kind: Kind, plugin: Plugin, part: Descriptor, options: dict[str, Any], samples: Any
) -> Iterator[Finding]:
    """The checks of one kind; torch comes in here."""
    match kind:
        case "modality":
            from . import modality, modality_subject

            subject = modality_subject.ModalitySubject(plugin, part, options, samples)
            return run_checks(modality.CHECKS, subject, kind)
        case "loader":
            from . import loader

            on_data = loader.LoaderSubject(plugin, part, options, samples, catalog=catalog)
            return run_checks(loader.CHECKS, on_data, kind)
        case "objective":
            from . import objective

            return run_checks(objective.CHECKS, objective.ObjectiveSubject(plugin, part, options, samples), kind)
        case "task":
            from . import task

            return run_checks(task.CHECKS, task.TaskSubject(plugin, part, options, samples), kind)
    assert_never(kind)
