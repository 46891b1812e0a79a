"""From a configuration to checked parts, before torch is imported: a typo costs half a second, not half an hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .catalog import Catalog, Kind, Plugin
from .config import ModalityConfig, RunConfig, explain
from .errors import CmcdError, ConfigError, DataError, PluginError
from .grammar import Term
from .interfaces.loader import PairedLoader
from .plugin import Descriptor, LoaderPlugin, Options

DEMO = "datasets:demo"
"""The data of a run that names none."""
CONTRAST = "objectives:nt_xent"
"""The loss of step 1, an objective like any other."""


@dataclass(frozen=True)
class Chosen:
    """A part that the configuration names, its plugin, and its validated options."""

    plugin: Plugin
    part: Descriptor
    options: Options

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it what it is: JSON-ready, part of every digest."""
        return {
            "plugin": self.plugin.name,
            "version": self.plugin.version,
            "name": self.part.name,
            "options": self.options.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class Resolved:
    """A run whose every name is found and every option valid; the data's index is read."""

    config: RunConfig
    loader: PairedLoader
    loader_part: Chosen
    source: Chosen
    target: Chosen
    objectives: tuple[tuple[Term, Chosen], ...]
    tasks: tuple[Chosen, ...]
    named_tasks: bool
    contrast: Chosen | None

    @property
    def expression(self) -> str:
        """The objective, for people: first-party names without their plugin."""
        return self.config.objective.expression.replace("objectives:", "")

    @property
    def data_name(self) -> str:
        """For people: the folder, or the demo."""
        root = getattr(self.loader_part.options, "root", None)
        return f"{self.loader_part.name}:{root}" if root else self.loader_part.name


def resolve(config: RunConfig, catalog: Catalog) -> Resolved:
    """Find every part that ``config`` names, validate its options, and read the data's index.

    Raises:
        ConfigError, PluginError, DataError: What is wrong, in the user's terms.
    """
    source_name, target_name = config.source.name, config.target.name
    for name in (source_name, target_name):
        catalog.find("modality", name)  # before the data, since a typo here is the commonest
    terms = config.objective.terms
    plugin, part = _loader(config, catalog)
    options = _options(part, _absolute(config.data.options), "data")
    loader_part = Chosen(plugin, part, options)
    loader = _built(loader_part)
    source = _modality(catalog, "source", config.source, loader)
    target = _modality(catalog, "target", config.target, loader)
    _has_views(loader, loader_part, source.name, target.name)
    keys = {term.key for term in terms}
    _known_tables(config.objective.options, keys, "objective", config.objective.expression)
    objectives = tuple(
        (term, _chosen(catalog, "objective", term.name, config.objective.options.get(term.key, {}), term.key))
        for term in terms
    )
    tasks, named = _tasks(catalog, config)
    step_one = {"temperature": config.pretrain.temperature}
    contrast = None if config.pretrain.teacher else _chosen(catalog, "objective", CONTRAST, step_one, "nt_xent")
    resolved = Resolved(config, loader, loader_part, source, target, objectives, tasks, named, contrast)
    return replace(resolved, config=_filled_in(resolved))


def _loader(config: RunConfig, catalog: Catalog) -> tuple[Plugin, LoaderPlugin[Any]]:
    root = config.data.options.get("root")
    if name := config.data.loader or (None if root else DEMO):
        plugin, part = catalog.find("loader", name)
        assert isinstance(part, LoaderPlugin)
        return plugin, part
    path = Path(str(root)).expanduser()
    if not path.exists():
        raise DataError(f"--data {root}: no such file or folder")
    found = [(plugin, part) for plugin, part in catalog.all("loader") if _recognises(part, path)]
    if len(found) == 1:
        return found[0]  # type: ignore[return-value]
    names = ", ".join(f"{plugin.name}:{part.name}" for plugin, part in (found or catalog.all("loader")))
    if found:
        raise DataError(f"--data {root}: more than one loader reads it ({names})", f"Pick one: --data LOADER:{root}")
    raise DataError(
        f"--data {root}: no installed loader recognises what is there (asked: {names})",
        "A plain folder needs a metadata.csv with <modality>_file_name columns, or one sub-folder a modality "
        "(image/, depth/, …) with files of the same stems.",
    )


def _recognises(part: Descriptor, path: Path) -> bool:
    assert isinstance(part, LoaderPlugin)
    try:
        return bool(part.recognises(path))
    except Exception:  # another loader's bug must not keep this data from being read
        return False


def _absolute(options: Mapping[str, Any]) -> dict[str, Any]:
    """The root as an absolute path, so that config.toml repeats the run from anywhere."""
    out = dict(options)
    if out.get("root"):
        out["root"] = Path(str(out["root"])).expanduser().absolute()
    return out


def _options(part: Descriptor, values: Mapping[str, Any], where: str) -> Options:
    try:
        options: Options = part.options.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explain(error, part.options, where)) from None
    return options


def _built(chosen: Chosen) -> PairedLoader:
    try:
        loader: Any = chosen.part.build(chosen.options)  # type: ignore[call-arg, misc]
    except CmcdError:
        raise
    except Exception as error:
        raise PluginError(
            f"loader {chosen.name!r} of plugin {chosen.plugin.name} failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(loader, PairedLoader):
        raise PluginError(f"loader {chosen.name!r} built a {type(loader).__name__}, expected a cmcd_core.PairedLoader")
    return loader


def _modality(catalog: Catalog, section: str, config: ModalityConfig, loader: PairedLoader) -> Chosen:
    """The user's options win over what the data set says of itself."""
    name = catalog.modality(config.name).name
    return _chosen(catalog, "modality", config.name, {**loader.modality_options(name), **config.options}, section)


def _chosen(catalog: Catalog, kind: Kind, name: str, values: Mapping[str, Any], section: str) -> Chosen:
    plugin, part = catalog.find(kind, name)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{section}: expected a table of options, got {values!r}")
    where = section if kind == "modality" else f"{kind}.{section}"
    return Chosen(plugin, part, _options(part, values, where))


def _known_tables(tables: Mapping[str, Any], keys: set[str], section: str, expression: str) -> None:
    if unknown := sorted(set(tables) - keys):
        raise ConfigError(
            f"{section}.{unknown[0]}: this run has no such {section}",
            f"It uses {expression}; options go under {', '.join(f'{section}.{key}' for key in sorted(keys))}.",
        )


def _tasks(catalog: Catalog, config: RunConfig) -> tuple[tuple[Chosen, ...], bool]:
    names = config.task.names
    every = tuple(f"{plugin.name}:{part.name}" for plugin, part in catalog.all("task"))
    options = config.task.options
    known = {name.rpartition(":")[2] for name in names or every}
    _known_tables(options, known, "task", ", ".join(sorted(known)) or "none")
    return tuple(
        _chosen(catalog, "task", name, options.get(name.rpartition(":")[2], {}), name.rpartition(":")[2])
        for name in names or every
    ), bool(names)


def _has_views(loader: PairedLoader, part: Chosen, source: str, target: str) -> None:
    """Refuse early what step 2 could not do: a modality that the data does not have, or no pairs."""
    for section, name in (("source", source), ("target", target)):
        if name not in loader.modalities:
            raise DataError(
                f"--{section} {name}: the data ({part.name}) has no such views",
                f"It has {', '.join(sorted(loader.modalities)) or 'none'}.",
            )
    train = loader.split("train")
    both = sum(source in sample.views and target in sample.views for sample in train)
    if both < 2:
        raise DataError(
            f"the training split has {both} pairs of {source} and {target} among {len(train)} samples, "
            "and step 2 needs at least 2"
        )


def _filled_in(resolved: Resolved) -> RunConfig:
    """The configuration with every option and every name written out: what config.toml holds."""
    config = resolved.config
    values = config.to_mapping()
    for section, chosen in (("source", resolved.source), ("target", resolved.target)):
        values[section] = {"name": f"{chosen.plugin.name}:{chosen.name}", **chosen.options.model_dump(mode="json")}
    loader = resolved.loader_part
    values["data"] = {"loader": f"{loader.plugin.name}:{loader.name}", **loader.options.model_dump(mode="json")}
    values["objective"] = {"expression": config.objective.expression} | {
        term.key: chosen.options.model_dump(mode="json") for term, chosen in resolved.objectives
    }
    values["task"] = {"names": list(config.task.names)} | {
        chosen.name: chosen.options.model_dump(mode="json") for chosen in resolved.tasks
    }
    used = [loader, resolved.source, resolved.target, *(c for _, c in resolved.objectives), *resolved.tasks]
    values["plugins"] = {chosen.plugin.name: chosen.plugin.version for chosen in used}
    filled = RunConfig.from_mapping(values)
    return filled.model_copy(update={"run": filled.run.model_copy(update={"out": config.run.out})})
