"""Which tasks the data serve, and the labelled views for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .data.decoded import decode_one
from .data.targets import read_target
from .errors import DataError
from .interfaces.loader import SPLITS, Split
from .interfaces.task import Task
from .resolve import Chosen
from .stages.labelled import Labelled, Splits, labelled
from .stages.scoring import check_metrics
from .workbench import Side, Workbench

PROPORTIONS = 0.05
"""Sides that were rounded after a scaling may differ by so much."""


def unserved(bench: Workbench, task: Task, side: Side = "target") -> DataError | None:
    """Why the data of step 3 cannot serve a task; None where they can."""
    place, bound = bench.resolved.places["evaluate"], bench.bound(bench.resolved.places["evaluate"], side)
    for split in SPLITS:
        samples = bench.samples("evaluate", split)
        if not any(task.target_name in sample.targets for sample in samples):
            return DataError(
                f"no sample of the {split} split has a {task.target_name!r}",
                "Leave --task out to skip it, or name labelled data: -o evaluate.data=FOLDER.",
            )
        if not any(task.target_name in sample.targets and bound.name in sample.views for sample in samples):
            return DataError(f"no {bound.name} view of the {split} split has a {task.target_name!r}")
    if task.spatial and not bound.modality.spatial:
        return DataError(
            f"{bound.name} is no picture, and a {task.target_name!r} is about places", "Take another --task."
        )
    if task.spatial and bound.name not in place.loader.aligned:
        return DataError(
            f"nobody says that {bound.name} lies on the pixel grid of the {task.target_name!r}",
            f'If it does: aligned = ["{bound.name}"] in dataset.toml, or -o data.aligned={bound.name}.',
        )
    return None


def served_tasks(bench: Workbench) -> Iterator[tuple[Chosen, Task]]:
    """The tasks that step 3 evaluates; the user is told what is left out, and why.

    By default masks are left to ``--task`` where the data have labels too: they ask for finer maps and more time.

    Raises:
        DataError: A task that the user asked for is not served.
    """
    tasks = [(chosen, task, unserved(bench, task)) for chosen, task in bench.tasks()]
    named = bool(bench.resolved.config.task.names)
    labelled_too = _labels_come_first(bench, [task for _, task, error in tasks if error is None])
    for chosen, task, error in tasks:
        if error is not None and named:
            where = bench.resolved.places["evaluate"].name
            raise DataError(f"--task {chosen.name}: {error.message} ({where})", error.hint)
        if error is not None:
            bench.note(f"step 3 skipped for {chosen.name}: {error.message}")
        elif task.spatial and labelled_too:
            bench.note(f"the data have a {task.target_name!r} too, which --task {chosen.name} evaluates")
        else:
            yield chosen, task


def evaluates_masks(bench: Workbench) -> bool:
    """Whether a spatial task is among those that step 3 of this command evaluates."""
    if "evaluate" not in bench.resolved.places:
        return False
    tasks = [task for _, task in bench.tasks() if unserved(bench, task) is None]
    return any(task.spatial for task in tasks) and not _labels_come_first(bench, tasks)


def _labels_come_first(bench: Workbench, served: Sequence[Task]) -> bool:
    return not bench.resolved.config.task.names and not all(task.spatial for task in served)


def check_tasks(bench: Workbench) -> None:
    """Read every target that step 3 will need, before any training.

    Raises:
        DataError: A task that the user asked for is not served, or a target cannot be read.
    """
    for chosen, task in served_tasks(bench):
        splits = task_splits(bench, "target", chosen, task)
        check_metrics(task, splits.classes)
        if task.spatial:
            for split, part in zip(SPLITS, (splits.train, splits.val, splits.test), strict=True):
                _check_proportions(bench, task, split, part)


def _check_proportions(bench: Workbench, task: Task, split: Split, part: Labelled) -> None:
    """A mask may be larger or smaller than its view, but not of another form. The first of a split is looked at."""
    sample = bench.samples("evaluate", split)[int(part.views.decoded.rows[part.rows[0]])]
    bound = bench.bound(bench.resolved.places["evaluate"], "target")
    height, width = decode_one(sample.key, sample.views[bound.name], bound).shape[-2:]
    rows, columns = part.targets.own(0).shape[-2:]
    if abs(rows * width / (columns * height) - 1) > PROPORTIONS:
        target = sample.targets[task.target_name]
        raise DataError(
            f"{target if isinstance(target, Path) else task.target_name}: {columns} x {rows} pixels, and the "
            f"{bound.name} view of sample {sample.key!r} has {width} x {height}",
            "Both must show the same part of the scene: crop or export them alike.",
        )


def task_splits(bench: Workbench, side: Side, chosen: Chosen, task: Task) -> Splits:
    """The labelled views of one side, read once a run.

    Raises:
        DataError: A target cannot be read, or is of no class.
    """
    name = f"{chosen.plugin.name}:{chosen.name}"
    if (name, side) not in bench.labelled:
        bench.labelled[name, side] = _read_splits(bench, side, chosen, task)
    return bench.labelled[name, side]


def _read_splits(bench: Workbench, side: Side, chosen: Chosen, task: Task) -> Splits:
    classes = classes_of(bench, task)

    def part(split: Split) -> Labelled:
        views = bench.views("evaluate", side, split)
        return labelled(bench.samples("evaluate", split), views, task, classes, chosen.identity)

    return Splits(part("train"), part("val"), part("test"), tuple(classes) if classes else None)


def classes_of(bench: Workbench, task: Task) -> Sequence[str] | None:
    """A task's classes: those that the data set names, else those that are found in it."""
    return bench.resolved.places["evaluate"].loader.classes.get(task.target_name) or task.find_classes(
        read_target(task, sample.key, sample.targets[task.target_name])
        for split in SPLITS
        for sample in bench.samples("evaluate", split)
        if task.target_name in sample.targets
    )
