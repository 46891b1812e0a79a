"""From a configuration to checked parts, before torch is imported: a typo costs half a second, not half an hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .catalog import Catalog, Kind, Plugin
from .config import SSL, STEPS, DataConfig, ModalityConfig, RunConfig, Step
from .curves import require_tensorboard
from .errors import CmcdError, ConfigError, DataError, PluginError
from .explained import explain
from .grammar import Term, parse_expression
from .interfaces.loader import PairedLoader
from .plugin import Descriptor, LoaderPlugin, Options

DEMO = "datasets:demo"
"""The data of a run that names none."""
CONTRAST = "objectives:nt_xent"
"""The loss of step 1, an objective like any other."""


@dataclass(frozen=True)
class Chosen:
    """A part that the configuration names, its plugin, and its validated options.

    ``said``: names of the options that the data set set, not the user. ``section``: where its options stand.
    """

    plugin: Plugin
    part: Descriptor
    options: Options
    said: tuple[str, ...] = ()
    section: str = ""

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


def data_name(loader: Chosen) -> str:
    """A data set's name for people: ``folder:my_pairs``, or its loader's where it has no folder."""
    root = getattr(loader.options, "root", None)
    return f"{loader.name}:{root}" if root else loader.name


@dataclass(frozen=True, eq=False)
class Place:
    """A data set that serves one or more steps, and the two modalities as it says they are to be read."""

    loader: PairedLoader
    part: Chosen
    source: Chosen
    target: Chosen

    @property
    def name(self) -> str:
        """For people: the folder, or the demo."""
        return data_name(self.part)


@dataclass(frozen=True)
class Resolved:
    """A run whose every name is found and every option valid; the data's index is read.

    Attributes:
        steps: Which of the method's steps will be done.
        places: Where the data of each of them are; steps with the same data share one place.
        rivals: Expression -> terms of the objectives that are baselines.
    """

    config: RunConfig
    steps: tuple[Step, ...]
    places: Mapping[Step, Place]
    objectives: tuple[tuple[Term, Chosen], ...]
    tasks: tuple[Chosen, ...]
    contrast: Chosen | None
    rivals: Mapping[str, tuple[tuple[Term, Chosen], ...]]

    @property
    def expression(self) -> str:
        """The objective, for people: first-party names without their plugin."""
        return self.config.objective.expression.replace("objectives:", "")

    @property
    def main(self) -> Place:
        """The place that the encoders are made for: of the pairs, where this run has any."""
        return next(self.places[step] for step in ("distill", "pretrain", "evaluate") if step in self.places)

    @property
    def source(self) -> Chosen:
        return self.main.source

    @property
    def target(self) -> Chosen:
        return self.main.target

    @property
    def data_names(self) -> dict[str, str]:
        """Step -> its data, for people."""
        return {step: self.places[step].name for step in self.steps}


def resolve(config: RunConfig, catalog: Catalog, steps: tuple[Step, ...] = STEPS) -> Resolved:
    """Find every part that ``config`` names and ``steps`` need, validate its options, and read the data's index.

    Raises:
        ConfigError, PluginError, DataError: What is wrong, in the user's terms.
    """
    for modality in filter(None, (config.source, config.target)):
        catalog.find("modality", modality.name)  # before the data, since a typo here is the commonest
    if config.target is None and steps != ("pretrain",):
        raise ConfigError("target: missing", "Name the modality to teach: --target NAME.")
    if config.run.tensorboard:
        require_tensorboard()
    terms = config.objective.terms
    places = _places(config, catalog, steps)
    for step, place in places.items():
        _serves(place, step, config)
    rivals = {expression: parse_expression(expression) for expression in config.evaluate.objectives}
    keys = {term.key for term in [*terms, *(term for several in rivals.values() for term in several)]}
    if steps != ("evaluate",):  # a folder's own configuration holds what its baselines were taught by
        _known_tables(config.objective.options, keys, "objective", config.objective.expression)

    def chosen(several: Sequence[Term]) -> tuple[tuple[Term, Chosen], ...]:
        options = config.objective.options
        return tuple((term, chosen_objective(catalog, term, options.get(term.key, {}))) for term in several)

    objectives = chosen(terms) if "distill" in steps else ()
    tasks = _tasks(catalog, config) if "evaluate" in steps else ()
    contrast = None
    own_step_one = "pretrain" in steps and not config.pretrain.teacher
    if own_step_one or ("evaluate" in steps and SSL in config.evaluate.baselines):
        step_one = {"temperature": config.pretrain.temperature}
        contrast = _chosen(catalog, "objective", CONTRAST, step_one, "nt_xent")
    taught = {e: chosen(several) for e, several in rivals.items()} if {"distill", "evaluate"} <= set(steps) else {}
    resolved = Resolved(config, steps, places, objectives, tasks, contrast, taught)
    return replace(resolved, config=_filled_in(resolved))


def _places(config: RunConfig, catalog: Catalog, steps: tuple[Step, ...]) -> dict[Step, Place]:
    """Each step's data; what is configured alike is read once."""
    places: dict[Step, Place] = {}
    for step in steps:
        data = config.data_of(step)
        known = next((place for other, place in places.items() if config.data_of(other) == data), None)
        places[step] = known or _place(config, catalog, data, "data" if data is config.data else f"{step}.data")
    return places


def _place(config: RunConfig, catalog: Catalog, data: DataConfig, section: str) -> Place:
    chosen, loader = open_data(data, catalog, section, "--data" if section == "data" else section)
    source = _modality(catalog, "source", config.source, loader)
    target = _modality(catalog, "target", config.target, loader) if config.target else source
    return Place(loader, chosen, source, target)


def open_data(data: DataConfig, catalog: Catalog, section: str, where: str) -> tuple[Chosen, PairedLoader]:
    """The loader of a data set, its index read; ``where`` is what the user wrote its path behind.

    Raises:
        ConfigError, PluginError, DataError: No loader, or not one alone, reads it; an option or the data are wrong.
    """
    plugin, part = _loader(data, catalog, where)
    chosen = Chosen(plugin, part, _options(part, _absolute(data.options), section))
    return chosen, _built(chosen)


def modality_of_data(
    catalog: Catalog, name: str, loader: PairedLoader | None, options: Mapping[str, Any] | None = None
) -> Chosen:
    """A modality as the data set says it is to be read (None: files of no data set); ``options`` win."""
    return _modality(catalog, name, ModalityConfig.model_validate({**(options or {}), "name": name}), loader)


def _loader(data: DataConfig, catalog: Catalog, where: str) -> tuple[Plugin, LoaderPlugin[Any]]:
    root = data.options.get("root")
    if name := data.loader or (None if root else DEMO):
        plugin, part = catalog.find("loader", name)
        assert isinstance(part, LoaderPlugin)
        return plugin, part
    path = Path(str(root)).expanduser()
    if not path.exists():
        raise DataError(f"{where} {root}: no such file or folder")
    found = [(plugin, part) for plugin, part in catalog.all("loader") if _recognises(part, path)]
    if len(found) == 1:
        return found[0]  # type: ignore[return-value]
    names = ", ".join(f"{plugin.name}:{part.name}" for plugin, part in (found or catalog.all("loader")))
    if found:
        raise DataError(f"{where} {root}: more than one loader reads it ({names})", f"Pick one: {where} LOADER:{root}")
    raise DataError(
        f"{where} {root}: no installed loader recognises what is there (asked: {names})",
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


def _modality(catalog: Catalog, section: str, config: ModalityConfig, loader: PairedLoader | None) -> Chosen:
    """The user's options win over what the data set says of itself."""
    said = loader.modality_options(catalog.modality(config.name).name) if loader else {}
    try:
        chosen = _chosen(catalog, "modality", config.name, {**said, **config.options}, section)
    except ConfigError as error:
        if not any(f"{section}.{key}:" in error.message for key in said.keys() - config.options.keys()):
            raise
        hint = f"The data set says so itself ([{config.name}] in its dataset.toml): correct it there, or set it by -o."
        raise ConfigError(error.message, hint) from None
    return replace(chosen, said=tuple(sorted(said.keys() - config.options.keys())))


def _chosen(catalog: Catalog, kind: Kind, name: str, values: Mapping[str, Any], section: str) -> Chosen:
    plugin, part = catalog.find(kind, name)
    where = section if kind == "modality" else f"{kind}.{section}"
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a table of options, got {values!r}")
    return Chosen(plugin, part, _options(part, values, where), section=where)


def chosen_objective(catalog: Catalog, term: Term, options: Mapping[str, Any]) -> Chosen:
    """The objective that a term of an expression names.

    Raises:
        ConfigError, PluginError: There is none, or an option is wrong.
    """
    return _chosen(catalog, "objective", term.name, options, term.key)


def chosen_task(catalog: Catalog, name: str, options: Mapping[str, Any]) -> Chosen:
    """The task of this name.

    Raises:
        ConfigError, PluginError: There is none, or an option is wrong.
    """
    return _chosen(catalog, "task", name, options, name.rpartition(":")[2])


def _known_tables(tables: Mapping[str, Any], keys: set[str], section: str, expression: str) -> None:
    if unknown := sorted(set(tables) - keys):
        raise ConfigError(
            f"{section}.{unknown[0]}: this run has no such {section}",
            f"It uses {expression}; options go under {', '.join(f'{section}.{key}' for key in sorted(keys))}.",
        )


def _tasks(catalog: Catalog, config: RunConfig) -> tuple[Chosen, ...]:
    names = config.task.names
    every = tuple(f"{plugin.name}:{part.name}" for plugin, part in catalog.all("task"))
    options = config.task.options
    known = {name.rpartition(":")[2] for name in names or every}
    _known_tables(options, known, "task", ", ".join(sorted(known)) or "none")
    return tuple(chosen_task(catalog, name, options.get(name.rpartition(":")[2], {})) for name in names or every)


def _serves(place: Place, step: Step, config: RunConfig) -> None:
    """Refuse early what a step could not do: a modality that its data do not have, or too few samples."""
    source, target = place.source.name, place.target.name
    wanted = {"pretrain": ["source"], "distill": ["source", "target"], "evaluate": ["target"]}[step]
    where = "" if config.data_of(step) is config.data else f" of {step}.data"
    for section, name in (("source", source), ("target", target)):
        if section in wanted and name not in place.loader.modalities:
            raise DataError(
                f"--{section} {name}: the data{where} ({place.name}) has no such views",
                f"It has {', '.join(sorted(place.loader.modalities)) or 'none'}.",
            )
    train = place.loader.split("train")
    both = sum(source in sample.views and target in sample.views for sample in train)
    if step == "distill" and both < 2:
        raise DataError(
            f"the training split{where} has {both} pairs of {source} and {target} among {len(train)} samples, "
            "and step 2 needs at least 2"
        )
    alone = sum(source in sample.views for sample in train)
    if step == "pretrain" and alone < 2 and not config.pretrain.teacher:
        raise DataError(f"the training split{where} has {alone} {source} views, and step 1 needs at least 2")


def _filled_in(resolved: Resolved) -> RunConfig:
    """The configuration with every option and every name written out: what config.toml holds.

    What a data set says of a modality (its unit) stays there: another step's data may say otherwise.
    """
    config = resolved.config
    values = config.to_mapping()
    sides = (("source", config.source, resolved.source), ("target", config.target, resolved.target))
    for section, given, chosen in sides:
        if given is not None:
            said = {key for place in resolved.places.values() for key in getattr(place, section).said}
            options = chosen.options.model_dump(mode="json", exclude=said)
            values[section] = {"name": f"{chosen.plugin.name}:{chosen.name}", **options}
    for step, place in resolved.places.items():
        data = {"loader": f"{place.part.plugin.name}:{place.part.name}", **place.part.options.model_dump(mode="json")}
        if config.data_of(step) is config.data:
            values["data"] = data
        else:
            values[step]["data"] = data
    if "data" not in config.model_fields_set and any(getattr(config, step).data for step in STEPS):
        values.pop("data", None)  # the demo, which no step uses
    rivals = (term for expression in config.evaluate.objectives for term in parse_expression(expression))
    named = {"expression", *(term.key for term in (*config.objective.terms, *rivals))}
    values["objective"] = {key: table for key, table in values["objective"].items() if key in named}
    used_objectives = [*resolved.objectives, *(item for terms in resolved.rivals.values() for item in terms)]
    values["objective"] |= {term.key: chosen.options.model_dump(mode="json") for term, chosen in used_objectives}
    values["task"] |= {chosen.name: chosen.options.model_dump(mode="json") for chosen in resolved.tasks}
    chosens = [c for place in resolved.places.values() for c in (place.part, place.source, place.target)]
    used = [*chosens, *(c for _, c in used_objectives), *resolved.tasks]
    values["plugins"] = config.plugins | {chosen.plugin.name: chosen.plugin.version for chosen in used}
    filled = RunConfig.from_mapping(values)
    return filled.model_copy(update={"run": filled.run.model_copy(update={"out": config.run.out})})
