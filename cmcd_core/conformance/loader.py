"""Checks of a loader."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..catalog import Catalog
from ..data.arrays import evenly
from ..errors import CmcdError, PluginError
from ..interfaces.loader import SPLITS, PairedLoader, Sample, Split
from ..interfaces.task import Task
from .findings import Check, Failed, Skipped, Subject, once, raised, require
from .raws import taken

LOOKED_AT = 20_000
"""Samples of a split that are looked at; of larger ones, so many at even distances."""
DECODED = 3
"""Samples whose files are opened."""


@dataclass
class LoaderSubject(Subject):
    """A loader on one data set.

    Attributes:
        catalog: What is installed: modalities and tasks for its views and targets.
    """

    catalog: Catalog = field(default_factory=lambda: Catalog(()))

    @once
    def built(self) -> PairedLoader:
        """The loader, on the data that the options name."""
        try:
            loader = self.part.build(self.options)
        except CmcdError as error:
            if "root" in self.given:
                raise
            name = self.part.name
            raise Skipped(
                f"no data set: {error.message}",
                f"Pass options={{{name!r}: {{'root': PATH}}}} to check_plugin, or -o {name}.root=PATH to `cmcd "
                "plugins check`.",
            ) from error
        require(
            isinstance(loader, PairedLoader),
            f"build returns a {type(loader).__name__}",
            "Return a cmcd_core.PairedLoader.",
        )
        return loader  # type: ignore[no-any-return]

    @once
    def splits(self) -> Mapping[Split, Sequence[Sample]]:
        """Samples by split."""
        out: dict[Split, Sequence[Sample]] = {}
        for name in SPLITS:
            samples = self.built.split(name)
            map_style = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
            require(map_style, f"split({name!r}) gives a {type(samples).__name__}", "Return a list, or a Sequence.")
            first = samples[0] if len(samples) else None
            require(
                first is None or isinstance(first, Sample),
                f"split({name!r})[0] is a {type(first).__name__}",
                "Samples are cmcd_core.Sample.",
            )
            out[name] = samples
        require(any(len(samples) for samples in out.values()), "all three splits are empty")
        return out

    def rows(self) -> Iterator[tuple[Split, Sample]]:
        """Of each split, all or many."""
        for name, samples in self.splits.items():
            for row in evenly(len(samples), LOOKED_AT).tolist():
                yield name, samples[row]


def says_what_is_missing(subject: LoaderSubject) -> None:
    """`--data LOADER:` without a path has to end in a sentence."""
    options = {key: value for key, value in subject.given.items() if key != "root"}
    try:
        subject.part.build(subject.part.options(**options))
    except CmcdError:
        return
    except Exception as error:
        raise Failed(
            f"without data.root, build raises {raised(error, subject.plugin.module)}",
            'if options.root is None: raise cmcd_core.ConfigError("…: no folder", "Name it: --data FOLDER")',
        ) from error


def recognises(subject: LoaderSubject) -> None:
    """It is asked about whatever a user names, among other loaders."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").mkdir()
        (folder / "file.txt").write_text("nothing\n", encoding="utf-8")
        for entry, what in (("empty", "an empty folder"), ("file.txt", "a text file"), ("absent", "what is not there")):
            answer = subject.part.recognises(folder / entry)
            require(isinstance(answer, bool), f"recognises gives a {type(answer).__name__}", "Return a bool.")
            hint = "Look for the file that such a data set has, so that --data PATH goes to the right loader."
            require(not answer, f"recognises says yes to {what}", hint)


def builds(subject: LoaderSubject) -> None:
    """And says what is in the data."""
    loader = subject.built
    require(
        isinstance(getattr(loader, "modalities", None), frozenset | set) and bool(loader.modalities),
        f"modalities is {getattr(loader, 'modalities', None)!r}",
        'Set it: self.modalities = frozenset({"image", "depth"}).',
    )
    outside = sorted(set(loader.aligned) - set(loader.modalities))
    require(not outside, f"aligned names {', '.join(outside)}, which modalities does not")
    require(loader.pairs in ("instance", "label"), f"pairs is {loader.pairs!r}", 'It is "instance" or "label".')
    for name, classes in loader.classes.items():
        doubled = len(set(classes)) < len(classes) or not all(isinstance(text, str) for text in classes)
        require(not doubled, f"classes[{name!r}] holds a name twice, or something that is no text")


def map_style(subject: LoaderSubject) -> None:
    """By position, again and again: the same sample."""
    for name, samples in subject.splits.items():
        if not len(samples):
            continue
        last = samples[len(samples) - 1]
        require(last.key == samples[len(samples) - 1].key, f"split({name!r}): a position gives another sample later")
        try:
            samples[len(samples)]
        except IndexError:
            continue
        raise Failed(f"split({name!r}) has a sample beyond its length", "Raise IndexError there.")


def unique_keys(subject: LoaderSubject) -> None:
    """Within and across splits: no test sample may be one of training."""
    seen: dict[str, Split] = {}
    for split, sample in subject.rows():
        require(isinstance(sample.key, str), f"{split}: the key {sample.key!r} is no text")
        if (other := seen.get(sample.key)) is not None:
            where = f"twice in {split}" if other == split else f"in {other} and in {split}"
            raise Failed(f"the key {sample.key!r} is {where}", "One key a sample; the split's name can be part of it.")
        seen[sample.key] = split


def views(subject: LoaderSubject) -> None:
    """Of the modalities that it names; raw data, decoded elsewhere."""
    known = subject.built.modalities
    for split, sample in subject.rows():
        unknown = sorted(set(sample.views) - set(known))
        require(not unknown, f"{split}, {sample.key!r}: modalities does not name its view {', '.join(unknown)}")
        for name, raw in sample.views.items():
            require(
                isinstance(raw, Path | bytes | np.ndarray) or callable(raw),
                f"{split}, {sample.key!r}: its view {name!r} is a {type(raw).__name__}",
                "Give a Path, bytes, an array, or a function that returns bytes.",
            )
        require(sample.weight >= 0, f"{split}, {sample.key!r}: its weight is {sample.weight}", "It is at least 0.")


def modality_options(subject: LoaderSubject) -> None:
    """The user's own options come on top of them."""
    for name, part in _installed(subject):
        try:
            part.options(**subject.built.modality_options(name))
        except ValueError as error:
            said = " ".join(str(error).split())
            raise Failed(f"modality_options({name!r}) does not fit the modality's options: {said}") from None


def decodable(subject: LoaderSubject) -> None:
    """The first few, by the modalities that are installed."""
    for name, part in _installed(subject):
        modality = part.build(part.options(**subject.built.modality_options(name)))
        having = (sample for _, sample in subject.rows() if name in sample.views)
        for sample in islice(having, DECODED):
            try:
                modality.decode(taken(sample.views[name]))
            except Exception as error:
                why = f"{sample.key!r}: its view {name!r} cannot be decoded: {raised(error, subject.plugin.module)}"
                raise Failed(why) from error


def _installed(subject: LoaderSubject) -> list[tuple[str, Any]]:
    """The loader's modalities that there are, with their descriptors."""
    found = []
    for name in sorted(subject.built.modalities):
        try:
            found.append((name, subject.catalog.modality(name)))
        except PluginError:
            continue
    if not found:
        raise Skipped(f"no plugin for {', '.join(sorted(subject.built.modalities))} is installed")
    return found


def targets(subject: LoaderSubject) -> None:
    """Class ids count from 0; what a task reads, it accepts."""
    tasks = _tasks(subject.catalog)
    opened: dict[str, int] = {}
    for split, sample in subject.rows():
        for name, value in sample.targets.items():
            classes = subject.built.classes.get(name)
            if isinstance(value, int | np.integer) and classes is not None:
                require(
                    0 <= int(value) < len(classes),
                    f"{split}, {sample.key!r}: its {name!r} is {value}, and classes names {len(classes)}",
                    "Ids count from 0, in the order of classes.",
                )
            elif opened.setdefault(name, 0) < DECODED:
                opened[name] += 1
                _readable(tasks, name, value, classes, f"{split}, {sample.key!r}")


def _tasks(catalog: Catalog) -> list[Task]:
    """Those that are installed and can be built."""
    built = []
    for _, part in catalog.all("task"):
        make: Any = part.build
        with suppress(Exception):  # that is another plugin's affair
            built.append(make(part.options()))
    return [task for task in built if isinstance(task, Task)]


def _readable(tasks: Sequence[Task], name: str, value: Any, classes: Sequence[str] | None, where: str) -> None:
    for task in tasks:
        if task.target_name != name:
            continue
        target = task.target(value() if callable(value) else value)
        require(isinstance(target, torch.Tensor), f"{where}: its {name!r} becomes no tensor")
        try:
            task.check(target, classes) if classes else None
        except CmcdError as error:
            raise Failed(f"{where}: {error.message}", error.hint) from None


def same_again(subject: LoaderSubject) -> None:
    """A run that is resumed reads the data anew."""
    splits = subject.splits
    again = subject.part.build(subject.options)
    for name, samples in splits.items():
        other = again.split(name)
        rows = [0, len(samples) // 2, len(samples) - 1] if len(samples) else []
        same = len(samples) == len(other) and all(samples[row].key == other[row].key for row in rows)
        require(same, f"split({name!r}) has other samples, or another order, the second time", "Sort; draw by a seed.")


CHECKS: tuple[Check, ...] = (
    ("without a path it says what is missing", says_what_is_missing),
    ("recognises says no to what is nothing, and does not fail", recognises),
    ("build gives a PairedLoader that says what it holds", builds),
    ("split gives map-style samples", map_style),
    ("keys are unique, within and across splits", unique_keys),
    ("views are raw data of the modalities that it names", views),
    ("modality_options are valid options of each modality", modality_options),
    ("its first views can be decoded", decodable),
    ("targets are within the classes, and tasks can read them", targets),
    ("built again, it gives the same samples in the same order", same_again),
)
