"""``cmcd compare``: objectives × seeds on one data set, each cell a run folder, all that can be shared made once."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tomli_w

from .catalog import Catalog, load
from .config import RunConfig
from .cores import usable_cores
from .errors import CmcdError, ConfigError
from .files import write_json, write_text
from .grammar import merge, parse_expression, read_toml, set_key
from .pipeline import run
from .presets import preset
from .progress import Progress
from .resolve import resolve
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


@dataclass
class Comparison:
    """What is compared, and where it goes.

    Attributes:
        base: The configuration that all cells share, as plain data.
        reference: Name of the variant, ``scratch`` or ``untrained``, that the others' differences are taken to.
        seeds: Seeds from the configuration's own on.
        jobs: Cells that run side by side, each with its share of the cores.
        trials: Trials of tuning for each variant; 0 leaves the defaults.
    """

    base: Mapping[str, Any]
    variants: Sequence[Variant]
    reference: str
    seeds: int
    out: Path
    jobs: int = 1
    trials: int = 0
    progress: Progress = field(default_factory=Progress)
    failed: dict[str, str] = field(default_factory=dict)

    def check(self, catalog: Catalog | None = None) -> None:
        """Resolve every variant before anything runs.

        Raises:
            ConfigError, DataError, PluginError: What is wrong, in the user's terms.
        """
        known = [*(variant.name for variant in self.variants), "scratch", "untrained"]
        if self.reference not in known:
            raise ConfigError(f"--reference {self.reference!r}: not compared here", f"Known: {', '.join(known)}.")
        found = catalog or load()
        for variant in self.variants:
            resolve(RunConfig.from_mapping(self.configuration(variant, 0, teacher=None)), found)

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
            teachers = self._sources()
            chosen = self._tuned(teachers)
            cells = [
                Cell(v.name, n, self.out / "cells" / f"{v.slug}-s{n}", self.configuration(v, n, teachers[n]), first)
                for v, first in self._with_first(chosen)
                for n in range(self.seeds)
            ]
            for wave in ([c for c in cells if c.first is None], [c for c in cells if c.first is not None]):
                self._run(wave)
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

    def _sources(self) -> list[Path | None]:
        """Step 1 once a seed, shared by all objectives; None where the user brings a teacher."""
        if self.base.get("pretrain", {}).get("teacher"):
            return [None] * self.seeds
        folders = [self.out / "sources" / f"s{number}" for number in range(self.seeds)]
        for number, folder in enumerate(folders):
            _go_on(
                self.configuration(self.variants[0], number, None), folder, steps=("pretrain",), progress=self.progress
            )
        return [folder / "source" for folder in folders]

    def _tuned(self, teachers: Sequence[Path | None]) -> Sequence[Variant]:
        if not self.trials:
            return self.variants
        from .tuning import tuned

        out = []
        for variant in self.variants:
            config = self.configuration(variant, 0, teachers[0])
            folder = self.out / "tuning" / variant.slug
            values, found = tuned(config, folder, self.trials, variant.name, self.progress)
            out.append(Variant(variant.name, merge(dict(variant.values), values), found))
        return out

    def _with_first(self, chosen: Sequence[Variant]) -> Iterator[tuple[Variant, str | None]]:
        """The first variant's cells make the baselines, which the others take over."""
        for number, variant in enumerate(chosen):
            yield variant, (chosen[0].slug if number else None)

    def _run(self, cells: Sequence[Cell]) -> None:
        with self.progress.track("cells", len(cells)) as advance:
            for cell, problem in self._outcomes(cells):
                if problem:
                    self.failed[cell.title] = problem
                    self.progress.note(f"failed: {cell.title}: {problem}")
                else:
                    self.progress.note(f"{cell.title}: done")
                advance(1, cell.title)

    def _outcomes(self, cells: Sequence[Cell]) -> Iterable[tuple[Cell, str]]:
        if self.jobs == 1:
            yield from ((cell, run_cell(cell)) for cell in cells)
            return
        threads = max(1, usable_cores() // self.jobs)
        # Fresh processes: torch's thread pools do not survive a fork.
        with ProcessPoolExecutor(self.jobs, get_context("spawn"), _limit_threads, (threads,)) as pool:
            futures = {pool.submit(run_cell, cell): cell for cell in cells}
            for future in as_completed(futures):
                yield futures[future], future.result()


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    ``first``: the folder name, but for its seed, of the run that makes the baselines; None: it is this one.
    """

    variant: str
    number: int
    folder: Path
    values: Mapping[str, Any]
    first: str | None

    @property
    def title(self) -> str:
        return f"{self.variant}, seed {self.values['run']['seed']}"


def run_cell(cell: Cell) -> str:
    """Run or finish one cell; what went wrong, or nothing."""
    siblings = [] if cell.first is None else [cell.folder.parent / f"{cell.first}-s{cell.number}"]
    try:
        _go_on(cell.values, cell.folder, siblings=siblings)
    except CmcdError as error:
        return str(error)
    except Exception as error:  # one objective's bug must not take the other cells down
        return f"{type(error).__name__}: {error}"
    return ""


def _go_on(values: Mapping[str, Any], folder: Path, **options: Any) -> None:
    """Run a configuration in a folder, from where it was."""
    config = RunConfig.from_mapping(merge(dict(values), {"run": {"out": str(folder)}}))
    run(config, resume=RunFolder(folder).config_file.exists(), **options)


def _limit_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
