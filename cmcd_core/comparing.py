"""``cmcd compare``: objectives × seeds on one data set, each cell a run folder, all that can be shared made once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import tomli_w

from .catalog import Catalog, load
from .cells import Cell, Spread, go_on
from .config import RunConfig
from .errors import CmcdError, ConfigError, DataError
from .files import write_json, write_text
from .grammar import merge, parse_expression, read_toml, set_key
from .presets import preset
from .progress import Progress
from .resolve import Resolved, resolve
from .run_folder import RunFolder
from .summary import summarise

SCHEMA = 1
PRESET = "preset:"


@dataclass(frozen=True)
class Variant:
    """One objective of the comparison, with what else its runs have of their own.

    Attributes:
        name: For people: ``cmd + 0.5*cmc``, ``cmd, distill.lr=0.01``.
        values: Plain data that goes over the comparison's configuration.
        tuned: What tuning found, and its score on val.
    """

    name: str
    values: Mapping[str, Any]
    tuned: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name as part of a folder's."""
        return re.sub(r"[^a-z0-9.=]+", "-", self.name.lower()).strip("-")


def variants(expressions: Sequence[str], grid: Sequence[str]) -> list[Variant]:
    """Each objective, under each combination of the grid's values.

    Args:
        expressions: Objectives such as ``cmd + 0.5*cmc``; ``preset:NAME`` is a preset, with all that it sets.
        grid: ``KEY=V1,V2`` each.

    Raises:
        ConfigError: Nothing to compare, an objective twice, or a grid that is not ``KEY=V1,V2``.
    """
    axes = []
    for axis in grid:
        key, equals, listed = axis.partition("=")
        if not equals or not listed:
            raise ConfigError(f"--grid {axis!r}: expected KEY=V1,V2, such as distill.lr=0.001,0.01")
        axes.append([f"{key.strip()}={value.strip()}" for value in listed.split(",")])
    out = []
    for expression, *settings in product(expressions, *axes):
        values = _values_of(expression)
        for setting in settings:
            set_key(values, setting)
        out.append(Variant(", ".join([expression, *settings]), values))
    names = [variant.slug for variant in out]
    if not out:
        raise ConfigError("--objectives: nothing to compare", "List them: --objectives cmd,cmc,l2.")
    if twice := next((v.name for v in out if names.count(v.slug) > 1), None):
        raise ConfigError(f"--objectives: {twice!r} appears twice")
    return out


def _values_of(expression: str) -> dict[str, Any]:
    if expression.startswith(PRESET):
        return preset(expression.removeprefix(PRESET))
    parse_expression(expression)
    return {"objective": {"expression": expression}}


def _without_trainings(values: dict[str, Any]) -> dict[str, Any]:
    """Of a cell that takes over another's baselines: those that are trained without labels are not trained again."""
    evaluate = RunConfig.from_mapping(values).evaluate
    kept = [name for name in evaluate.baselines if name not in evaluate.trained_without_labels]
    return merge(values, {"evaluate": {"baselines": kept or ["none"]}})


@dataclass
class Comparison:
    """What is compared, and where it goes.

    Attributes:
        base: The configuration that all cells share, as plain data.
        reference: Name of the variant, ``scratch`` or ``untrained``, that the others' differences are taken to.
        seeds: Seeds from the configuration's own on.
        spread: Where the cells run.
        trials: Trials of tuning for each variant; 0 leaves the defaults.
    """

    base: Mapping[str, Any]
    variants: Sequence[Variant]
    reference: str
    seeds: int
    out: Path
    spread: Spread = field(default_factory=Spread)
    trials: int = 0
    progress: Progress = field(default_factory=Progress)
    failed: dict[str, str] = field(default_factory=dict)
    _made: set[int] = field(default_factory=set)

    def check(self, catalog: Catalog | None = None) -> None:
        """Resolve every variant before anything runs.

        Raises:
            ConfigError, DataError, PluginError: What is wrong, in the user's terms.
        """
        known = [*(variant.name for variant in self.variants), "scratch", "untrained"]
        if self.reference not in known:
            raise ConfigError(f"--reference {self.reference!r}: not compared here", f"Known: {', '.join(known)}.")
        if (RunConfig.from_mapping(self.base).run.devices or 1) > 1:
            raise ConfigError(
                "run.devices: each run of a comparison has one process", "Leave it out; --jobs N runs N side by side."
            )
        found = catalog or load()
        configs = [RunConfig.from_mapping(self.configuration(one, 0, teacher=None)) for one in self.variants]
        for config in configs:
            resolve(config, found)
        _check_tasks(resolve(configs[0], found, ("evaluate",)), self.progress)

    def configuration(self, variant: Variant, number: int, teacher: Path | None) -> dict[str, Any]:
        """One cell's configuration; options of objectives that it does not use are left out."""
        values = merge(dict(self.base), variant.values)
        keys = {"expression", *(term.key for term in parse_expression(values["objective"]["expression"]))}
        values["objective"] = {key: table for key, table in values["objective"].items() if key in keys}
        seed = int(self.base.get("run", {}).get("seed", 0)) + number
        values = merge(values, {"run": {"seed": seed}})
        return values if teacher is None else merge(values, {"pretrain": {"teacher": [str(teacher)]}})

    def go(self, *, resume: bool) -> dict[str, Any]:
        """Run what is missing, then write compare.json; its content."""
        self._claim(resume)
        with RunFolder(self.out).locked():
            chosen = self._tuned(self.variants)
            cells = self._cells([(variant, number) for variant in chosen for number in range(self.seeds)])
            self._run(cells)
            done = [cell for cell in cells if cell.title not in self.failed]
            if not done:
                raise CmcdError(f"every cell failed; the first: {next(iter(self.failed.values()))}")
            tuned = {variant.name: variant.tuned for variant in chosen if variant.tuned}
            values = {
                "schema": SCHEMA,
                "reference": self.reference,
                "seeds": self.seeds,
                "failed": self.failed,
                **({"tuned": tuned} if tuned else {}),
                **summarise([(cell.variant, cell.number, cell.folder) for cell in done], self.reference),
            }
            write_json(self.out / "compare.json", values)
        return values

    def go_part(self, part: int, parts: int) -> dict[str, Any]:
        """Run part 1 … ``parts`` of the cells, beside other processes that run the others; nothing is summarised.

        The cells of one seed, which share most, come after each other. What several parts need (a seed's step 1, a
        variant's tuning) is made by the first that comes, and the others wait for it.
        """
        self._claim(resume=True)
        every = [(variant, number) for number in range(self.seeds) for variant in self.variants]
        mine = every[len(every) * (part - 1) // parts : len(every) * part // parts]
        names = [variant.name for variant, _ in mine]
        tuned = {v.name: v for v in self._tuned([v for v in self.variants if v.name in names])}
        cells = self._cells([(tuned[variant.name], number) for variant, number in mine])
        self._run(cells)
        return {"part": [part, parts], "cells": [cell.title for cell in cells], "failed": self.failed}

    def _claim(self, resume: bool) -> None:
        """Take the folder, or go on in it: further objectives and seeds may join, all else must be as it was."""
        common = {"base": self.base, "reference": self.reference, "trials": self.trials}
        compared = {variant.name: dict(variant.values) for variant in self.variants}
        file = self.out / "compare.toml"
        if file.exists() and not resume:
            raise ConfigError(f"--out {self.out}: a comparison is there already", "Pass --resume, or another --out.")
        if file.exists():
            there, now = read_toml(file), tomllib.loads(tomli_w.dumps({**common, "variants": compared}))
            known, joining = there.pop("variants", {}), now.pop("variants")
            if there != now or any(joining.get(name, values) != values for name, values in known.items()):
                raise ConfigError(
                    f"--resume: {self.out} holds another comparison ({file})", "Pass the same flags, or another --out."
                )
            compared = {**known, **joining}
        write_text(file, tomli_w.dumps({**common, "variants": compared}))

    def _cells(self, wanted: Sequence[tuple[Variant, int]]) -> list[Cell]:
        """One a variant and seed; the first variant's make the baselines, which the others take over."""
        first, out = self.variants[0], []
        for variant, number in wanted:
            values = self.configuration(variant, number, self._source(number))
            if variant.name != first.name:
                values = _without_trainings(values)
            folder = self.out / "cells" / f"{variant.slug}-s{number}"
            out.append(Cell(variant.name, number, folder, values, None if variant.name == first.name else first.slug))
        return out

    def _source(self, number: int) -> Path | None:
        """Step 1 once a seed, shared by all objectives; None where the user brings a teacher."""
        if self.base.get("pretrain", {}).get("teacher"):
            return None
        folder = self.out / "sources" / f"s{number}"
        if number not in self._made:
            values = self.configuration(self.variants[0], number, None)
            with self._in_turn(folder, f"step 1 of seed {values['run']['seed']}"):
                go_on(values, folder, steps=("pretrain",), progress=self.progress)
            self._made.add(number)
        return folder / "source"

    def _tuned(self, wanted: Sequence[Variant]) -> Sequence[Variant]:
        if not self.trials:
            return wanted
        from .tuning import tuned

        out = []
        for variant in wanted:
            config = self.configuration(variant, 0, self._source(0))
            folder = self.out / "tuning" / variant.slug
            with self._in_turn(folder, f"the tuning of {variant.name}"):
                values, found = tuned(config, folder, self.trials, variant.name, self.progress)
            out.append(Variant(variant.name, merge(dict(variant.values), values), found))
        return out

    @contextmanager
    def _in_turn(self, folder: Path, what: str) -> Iterator[None]:
        """Wait for another part of the comparison that is at work in ``folder``, for as long as it lives."""
        from filelock import FileLock, Timeout

        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.progress.note(f"another process makes {what}: waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _run(self, cells: Sequence[Cell]) -> None:
        """The cells that make baselines, then those that take them over."""
        with self.progress.track("cells", len(cells)) as advance:
            for wave in ([c for c in cells if c.first is None], [c for c in cells if c.first is not None]):
                for cell, problem in self.spread.outcomes(wave) if wave else ():
                    if problem:
                        self.failed[cell.title] = problem
                        self.progress.note(f"failed: {cell.title}: {problem}")
                    else:
                        self.progress.note(f"{cell.title}: done")
                    advance(1, cell.title)


def _check_tasks(resolved: Resolved, progress: Progress) -> None:
    """Refuse data that no task can be evaluated on: every cell would train, for a table without a row."""
    from .served import served_tasks  # only now torch: a typo costs no seconds
    from .workbench import Workbench, make_fabric, pinned

    reasons: list[str] = []
    bench = Workbench.of(resolved, make_fabric(pinned(resolved.config.run))[0], progress, reasons.append)
    if not list(served_tasks(bench)):
        why = ". ".join(reasons) or "No task is installed"
        raise DataError(f"{resolved.places['evaluate'].name}: the data serve no task: nothing to compare", f"{why}.")
