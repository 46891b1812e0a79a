"""Step 3 of one run: each task, encoder and label budget; what lies in the run's folder is not done again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .data.digest import digest, weights_digest
from .data.labels import label_subset
from .encoders import blueprint
from .errors import DataError
from .interfaces.encoder import Encoder
from .interfaces.loader import Split
from .interfaces.task import Task
from .resolve import Chosen
from .result import evaluation_entry, write_evaluation
from .run_folder import RunFolder
from .stages.evaluate import Scores, Splits, labelled, linear
from .stages.scratch import scratch
from .workbench import Side, Workbench, frozen

SPLITS: tuple[Split, ...] = ("train", "val", "test")
Subsets = Mapping[str, Sequence[np.ndarray]]


@dataclass
class Evaluation:
    """What few labels are worth to the target encoder, and to what it is compared with.

    Attributes:
        source: The source encoder, for reference on its own modality; None where there is none.
        siblings: Runs whose evaluations are taken over where they are the same: a comparison's other cells.
    """

    bench: Workbench
    folder: RunFolder
    target: Encoder
    source: Encoder | None
    siblings: Sequence[RunFolder] = ()
    _done: dict[str, Path] = field(default_factory=dict)

    def go(self) -> None:
        """Evaluate what is missing; a task that the data do not serve is left out, and the user told."""
        self._done = {entry["digest"]: folder for folder, entry in self.folder.evaluations()}
        for chosen, task in self.bench.tasks():
            try:
                splits = self._splits("target", task)
            except DataError as error:
                self.bench.note(f"step 3 skipped for {chosen.name}: {error.message}")
                continue
            self._evaluate(chosen, task, splits)

    def _evaluate(self, chosen: Chosen, task: Task, splits: Splits) -> None:
        bench, config = self.bench, self.bench.resolved.config
        seed, subsets = bench.seed_for("evaluate"), self._subsets(splits)
        untrained = frozen(bench, twin(bench, self.target, bench.seed_for("student")))
        with bench.progress.track("3 linear evaluation", 3) as advance:
            for name, encoder in (("distilled", self.target), ("untrained", untrained)):
                self._linear(name, encoder, chosen, task, splits, subsets)
                advance(1, name)
            if self.source is not None:
                self._source(self.source, chosen, task)
            advance(1, "source")
        if "scratch" in config.evaluate.baselines:
            recipe = [
                config.evaluate.scratch_steps, config.evaluate.scratch_lrs, blueprint(self.target),
                config.distill.crop_min, config.distill.flip, config.distill.weight_decay,
            ]  # fmt: skip
            common = {"encoder": "scratch", "modality": bench.target.name, "protocol": "supervised"}

            def trained(wanted: Subsets) -> dict[str, Scores]:
                return scratch(
                    bench.fabric,
                    lambda at: twin(bench, self.target, at),
                    task,
                    splits,
                    wanted,
                    config.evaluate,
                    config.distill,
                    seed=seed,
                    progress=bench.progress,
                )

            self._record(common, digest([recipe, bench.size]), chosen, task, splits, subsets, trained)

    def _source(self, source: Encoder, chosen: Chosen, task: Task) -> None:
        """For reference: what the source encoder makes of its own modality, with as many labels."""
        try:
            splits = self._splits("source", task)
        except DataError:
            return  # the source's labels are a courtesy: the method does not need them
        self._linear("source", source, chosen, task, splits, self._subsets(splits))

    def _linear(
        self, name: str, encoder: Encoder, chosen: Chosen, task: Task, splits: Splits, subsets: Subsets
    ) -> None:
        seed = self.bench.seed_for("evaluate")
        modality = self.bench.source.name if name == "source" else self.bench.target.name
        common = {"encoder": name, "modality": modality, "protocol": "linear"}
        self._record(
            common, weights_digest(encoder), chosen, task, splits, subsets,
            lambda wanted: linear(encoder, task, splits, wanted, seed),
        )  # fmt: skip

    def _record(
        self,
        common: Mapping[str, str],
        weights: str,
        chosen: Chosen,
        task: Task,
        splits: Splits,
        subsets: Subsets,
        score: Callable[[Subsets], dict[str, Scores]],
    ) -> None:
        """Score the budgets that are not on disk yet, and write each into a folder of its own."""
        config = self.bench.resolved.config.evaluate
        inputs = [dict(common), weights, chosen.identity, splits.digest, config.label_draws, self.bench.seed]
        digests = {budget: digest([*inputs, budget]) for budget in subsets}
        wanted = {budget: subset for budget, subset in subsets.items() if digests[budget] not in self._done}
        for budget in list(wanted):
            if found := self._elsewhere.get(digests[budget]):
                self._done[digests[budget]] = copied(found, self._next())
                del wanted[budget]
        for budget, scores in (score(wanted) if wanted else {}).items():
            about = {
                **common,
                "task": chosen.name,
                "labels": budget,
                "data": self.bench.resolved.places["evaluate"].name,
            }
            entry = evaluation_entry(about, task.primary, scores, splits)
            entry |= {"digest": digests[budget], "weights": weights}
            folder = self._next()
            write_evaluation(folder, entry, scores, splits)
            self._done[digests[budget]] = folder

    def _next(self) -> Path:
        return self.folder.path / "evaluations" / str(len(self._done))

    @cached_property
    def _elsewhere(self) -> dict[str, Path]:
        return {entry["digest"]: path for sibling in self.siblings for path, entry in sibling.evaluations()}

    def _splits(self, side: Side, task: Task) -> Splits:
        """The labelled views of one side; DataError where a split has none."""
        loader = self.bench.resolved.places["evaluate"].loader
        require_targets(self.bench, task)
        parts = [
            labelled(self.bench.samples("evaluate", split), self.bench.views("evaluate", side, split), task)
            for split in SPLITS
        ]
        classes = loader.classes.get(task.target_name)
        return Splits(parts[0], parts[1], parts[2], tuple(classes) if classes else None)

    def _subsets(self, splits: Splits) -> Subsets:
        """Label budget -> one subset of the training labels a draw."""
        config, strata, seed = self.bench.resolved.config.evaluate, splits.train.strata, self.bench.seed
        return {
            budget: [label_subset(strata, budget, draw=draw, seed=seed) for draw in range(config.label_draws)]
            for budget in config.labels
        }


def copied(folder: Path, to: Path) -> Path:
    """A copy of an evaluation's folder, which appears whole or not at all."""
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(to, ignore_errors=True)  # what a crash left: it has no evaluation.json
    shutil.copytree(folder, partial)
    os.replace(partial, to)
    return to


def require_targets(bench: Workbench, task: Task) -> None:
    """Raise DataError where a split has no target for the task."""
    for split in SPLITS:
        if not any(task.target_name in sample.targets for sample in bench.samples("evaluate", split)):
            raise DataError(f"no sample of the {split} split has a {task.target_name!r}")


def require_named_tasks(bench: Workbench) -> None:
    """Refuse a task that the user asked for and the data do not serve.

    Raises:
        DataError: It names the task and the split.
    """
    for chosen, task in bench.tasks() if bench.resolved.config.task.names else ():
        try:
            require_targets(bench, task)
        except DataError as error:
            where = bench.resolved.places["evaluate"].name
            raise DataError(
                f"--task {chosen.name}: {error.message} ({where})",
                "Leave --task out to skip step 3, or name labelled data: -o evaluate.data=FOLDER.",
            ) from None


def entries_of(folder: RunFolder, target: Encoder) -> list[dict[str, Any]]:
    """Every evaluation in the folder that holds for this target encoder."""
    own = weights_digest(target)
    entries = (entry for _, entry in folder.evaluations())
    return [entry for entry in entries if entry["encoder"] != "distilled" or entry["weights"] == own]


def comparisons(folder: RunFolder, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences of the distilled encoder to the others: same test samples, same label draws."""
    replicates = {
        entry["digest"]: np.load(path / "replicates.npy", allow_pickle=False) for path, entry in folder.evaluations()
    }
    same = ("task", "labels", "data", "draws", "n_test", "modality")
    out = []
    for one in (entry for entry in entries if entry["encoder"] == "distilled"):
        for other in entries:
            if other["encoder"] == "distilled" or any(one[key] != other[key] for key in same):
                continue
            low, high = np.quantile(replicates[one["digest"]] - replicates[other["digest"]], [0.025, 0.975])
            metric = one["primary"]
            out.append(
                {
                    **{key: one[key] for key in ("task", "labels", "data")},
                    "metric": metric,
                    "encoder": "distilled",
                    "over": other["encoder"],
                    "difference": one["metrics"][metric] - other["metrics"][metric],
                    "interval": [float(low), float(high)],
                }
            )
    return out


def twin(bench: Workbench, target: Encoder, seed: int) -> Encoder:
    """An encoder of ``target``'s architecture with random weights."""
    arguments = blueprint(target)
    return bench.encoder(bench.target, arguments.pop("architecture", None), arguments, seed, bench.size)
