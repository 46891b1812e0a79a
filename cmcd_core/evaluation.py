"""Step 3 of one run: each task, protocol, encoder and label budget; what lies in the run's folder is not done again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .contenders import Contender, contenders
from .data.digest import digest, weights_digest
from .data.labels import label_subset
from .encoders import blueprint
from .interfaces.encoder import Encoder
from .interfaces.task import Task
from .pictures import draw_predictions, show_safely
from .resolve import Chosen
from .result import evaluation_entry, write_evaluation
from .run_folder import RunFolder
from .served import served_tasks, task_splits, unserved
from .stages.evaluate import Subsets, linear, nearest_neighbours
from .stages.labelled import Splits
from .stages.scoring import Scores
from .stages.supervised import TrainingRecipe, supervised
from .students import without_source
from .workbench import Workbench

TRAININGS = 3
"""Trainings of a budget that takes all labels: there is one subset then, and only their seeds differ."""
TITLES = {"linear": "3 linear evaluation", "knn": "3 nearest neighbours", "finetune": "3 fine-tuning"}


class FineTuning(NamedTuple):
    """How an encoder is fine-tuned unless the configuration says it."""

    steps: int
    lrs: tuple[float, ...]
    layer_decays: tuple[float, ...]


OF_OTHERS = FineTuning(80, (3e-3, 1e-2, 3e-2), (0.75, 1.0))
OF_A_COPY = FineTuning(40, (3e-3, 1e-2), (1.0,))
"""Of a copy of a teacher on masks, whose every step costs ten times as much. On val, depth of tools and outlines of
streets alike, these rates were far above gentler ones."""
Scorer = Callable[[Subsets], Iterator[tuple[str, Scores]]]


@dataclass
class Evaluation:
    """What few labels are worth to the target encoder, and to what it is compared with.

    Attributes:
        source: The source encoder, for reference on its own modality; None where there is none.
        baselines: Other encoders of the target, by name.
        siblings: Runs whose evaluations are taken over where they are the same: a comparison's other cells.
    """

    bench: Workbench
    folder: RunFolder
    target: Encoder
    source: Encoder | None
    baselines: Mapping[str, Encoder] = field(default_factory=dict)
    siblings: Sequence[RunFolder] = ()
    _done: dict[str, Path] = field(default_factory=dict)

    def go(self) -> None:
        """Evaluate what is missing."""
        self._done = {entry["digest"]: folder for folder, entry in self.folder.evaluations()}
        for chosen, task in served_tasks(self.bench):
            self._evaluate(chosen, task)

    def _evaluate(self, chosen: Chosen, task: Task) -> None:
        splits = task_splits(self.bench, "target", chosen, task)
        config = self.bench.resolved.config.evaluate
        everyone = contenders(self.bench, self.target, self.source, self.baselines)
        for protocol in config.protocols_for(masks=task.spatial):
            if protocol == "knn" and all(stratum is None for stratum in splits.train.strata):
                self.bench.note(f"{chosen.name}: knn left out, as its samples have no class")
            elif protocol == "finetune":
                for one in everyone:
                    self._finetune(one, chosen, task, _seen_by(one, splits))
            else:
                with self.bench.progress.track(f"{TITLES[protocol]}, {chosen.name}", len(everyone)) as advance:
                    for one in everyone:
                        self._frozen(one, protocol, chosen, task, splits)
                        advance(1, one.name)
        if "scratch" in config.baselines:
            self._scratch(chosen, task, splits)

    def _frozen(self, one: Contender, protocol: str, chosen: Chosen, task: Task, splits: Splits) -> None:
        """linear and knn."""
        if task.spatial and one.name == "source" and not one.encoder.dense_dim:  # several teachers side by side
            self.bench.note(f"{chosen.name}: the source is left out, as it has no dense maps")
            return
        if one.side == "source":  # for reference: what the source encoder makes of its own modality
            if unserved(self.bench, task, "source"):
                return
            splits = task_splits(self.bench, "source", chosen, task)
        splits = _seen_by(one, splits)
        common = {"encoder": one.name, "modality": self._modality(one), "protocol": protocol}
        method, seed = linear if protocol == "linear" else nearest_neighbours, self.bench.seed_for("evaluate")
        subsets = self._subsets(splits, repeats=1)
        self._record(
            common, weights_digest(one.encoder), None, chosen, task, splits, subsets,
            lambda wanted: method(one.encoder, task, splits, wanted, seed),
        )  # fmt: skip

    def _finetune(self, one: Contender, chosen: Chosen, task: Task, splits: Splits) -> None:
        if one.start is None:
            return
        config, own = self.bench.resolved.config.evaluate, OF_A_COPY if one.brought and task.spatial else OF_OTHERS
        common = {"encoder": one.name, "modality": self._modality(one), "protocol": "finetune"}
        lrs, decays = config.finetune_lrs or own.lrs, config.layer_decay or own.layer_decays
        recipe = self._recipe(own.steps, lrs, decays)
        weights = weights_digest(one.encoder)
        self._train(f"{TITLES['finetune']}, {one.name}", common, weights, recipe, one.start, chosen, task, splits)

    def _scratch(self, chosen: Chosen, task: Task, splits: Splits) -> None:
        common = {"encoder": "scratch", "modality": self.bench.target.name, "protocol": "supervised"}
        recipe = self._recipe(OF_OTHERS.steps, self.bench.resolved.config.evaluate.scratch_lrs, (1.0,))
        start = partial(without_source, self.bench, self.target)
        weights = digest([blueprint(start(0)), self.bench.size])
        self._train("3 scratch baseline", common, weights, recipe, start, chosen, task, splits)

    def _train(
        self,
        title: str,
        common: Mapping[str, str],
        weights: str,
        recipe: TrainingRecipe,
        start: Callable[[int], Encoder],
        chosen: Chosen,
        task: Task,
        splits: Splits,
    ) -> None:
        bench = self.bench

        def trained(wanted: Subsets) -> Iterator[tuple[str, Scores]]:
            return supervised(
                bench.alone, start, task, splits, wanted, recipe,
                seed=bench.seed_for("evaluate"), progress=bench.progress, title=title,
            )  # fmt: skip

        subsets = self._subsets(splits, TRAININGS)
        self._record(common, weights, asdict(recipe), chosen, task, splits, subsets, trained)

    def _recipe(self, steps: int, lrs: tuple[float, ...], layer_decays: tuple[float, ...]) -> TrainingRecipe:
        """``steps``: where none are configured."""
        evaluate, distill = self.bench.resolved.config.evaluate, self.bench.resolved.config.distill
        return TrainingRecipe(
            steps=evaluate.train_steps or steps, epochs=evaluate.train_epochs, lrs=lrs, layer_decays=layer_decays,
            weight_decay=distill.weight_decay, crop_min=distill.crop_min, flip=distill.flip,
        )  # fmt: skip

    def _record(
        self,
        common: Mapping[str, str],
        weights: str,
        recipe: Mapping[str, Any] | None,
        chosen: Chosen,
        task: Task,
        splits: Splits,
        subsets: Subsets,
        score: Scorer,
    ) -> None:
        """Score the budgets that are not on disk yet, and write each into a folder of its own as soon as it is done."""
        inputs = [dict(common), weights, recipe, chosen.identity, splits.digest, self.bench.seed]
        digests = {budget: digest([*inputs, len(draws), budget]) for budget, draws in subsets.items()}
        wanted = {budget: draws for budget, draws in subsets.items() if digests[budget] not in self._done}
        for budget in list(wanted):
            if found := self._elsewhere.get(digests[budget]):
                self._done[digests[budget]] = copied(found, self._next())
                del wanted[budget]
        for budget, scores in score(wanted) if wanted else ():
            place = self.bench.resolved.places["evaluate"].name
            about = {**common, "task": chosen.name, "labels": budget, "data": place}
            entry = evaluation_entry(about, task.primary, scores, splits)
            entry |= {"digest": digests[budget], "weights": weights, "task_identity": chosen.identity}
            folder = self._next()
            shutil.rmtree(folder, ignore_errors=True)  # what a crash left: it has no evaluation.json
            write_evaluation(folder, entry, scores, splits)
            if common["encoder"] == "distilled":
                draw = partial(draw_predictions, self.bench, folder)
                show_safely(f"the predictions of evaluation {folder.name}", draw, self.bench.note)
            self._done[digests[budget]] = folder

    def _next(self) -> Path:
        """Behind the last that is there, which need not be as many: one in the middle may have been deleted."""
        last = max((int(path.name) for path, _ in self.folder.evaluations()), default=-1)
        return self.folder.path / "evaluations" / str(last + 1)

    @cached_property
    def _elsewhere(self) -> dict[str, Path]:
        return {entry["digest"]: path for sibling in self.siblings for path, entry in sibling.evaluations()}

    def _modality(self, one: Contender) -> str:
        return self.bench.source.name if one.side == "source" else self.bench.target.name

    def _subsets(self, splits: Splits, repeats: int) -> Subsets:
        """Label budget -> one subset of the training labels a draw; where all are one, so many ``repeats`` of it."""
        config, strata, seed = self.bench.resolved.config.evaluate, splits.train.strata, self.bench.seed
        subsets: dict[str, Sequence[np.ndarray]] = {}
        for budget in config.labels:
            draws = [label_subset(strata, budget, draw=draw, seed=seed) for draw in range(config.label_draws)]
            every = all(np.array_equal(draw, draws[0]) for draw in draws)
            subsets[budget] = draws[:repeats] if every else draws
        return subsets


def _seen_by(one: Contender, splits: Splits) -> Splits:
    """The same data at the size that an encoder needs."""
    if one.size is None or one.size == splits.train.views.size:
        return splits
    train, val, test = (
        replace(part, views=part.views.at(one.size)) for part in (splits.train, splits.val, splits.test)
    )
    return Splits(train, val, test, splits.classes)


def copied(folder: Path, to: Path) -> Path:
    """A copy of an evaluation's folder, which appears whole or not at all."""
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(to, ignore_errors=True)  # what a crash left: it has no evaluation.json
    shutil.copytree(folder, partial)
    os.replace(partial, to)
    return to


def entries_of(folder: RunFolder, target: Encoder) -> list[dict[str, Any]]:
    """The newest evaluation of each kind in the folder; the distilled one must be of this target encoder."""
    own = weights_digest(target)
    newest: dict[tuple[str, ...], dict[str, Any]] = {}
    for _, entry in folder.evaluations():
        if entry["encoder"] != "distilled" or entry["weights"] == own:
            newest[tuple(entry[key] for key in ("encoder", "modality", "task", "protocol", "labels", "data"))] = entry
    return list(newest.values())


def comparisons(folder: RunFolder, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences of the distilled encoder to the others: same test samples, same protocol or scratch."""
    replicates = {
        entry["digest"]: np.load(path / "replicates.npy", allow_pickle=False) for path, entry in folder.evaluations()
    }
    same = ("task", "labels", "data", "n_test", "modality")
    out = []
    for one in (entry for entry in entries if entry["encoder"] == "distilled"):
        for other in entries:
            if other["encoder"] == "distilled" or any(one[key] != other[key] for key in same):
                continue
            if other["protocol"] not in (one["protocol"], "supervised"):
                continue
            low, high = np.quantile(replicates[one["digest"]] - replicates[other["digest"]], [0.025, 0.975])
            metric = one["primary"]
            out.append(
                {
                    **{key: one[key] for key in ("task", "protocol", "labels", "data")},
                    "metric": metric,
                    "encoder": "distilled",
                    "over": other["encoder"],
                    "difference": one["metrics"][metric] - other["metrics"][metric],
                    "interval": [float(low), float(high)],
                }
            )
    return out
