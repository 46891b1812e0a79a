"""The three steps of one run, each read from top to bottom; what they learn goes into the run's folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch

from .data.bank import FeatureBank, feature_bank
from .data.digest import digest, weights_digest
from .data.labels import label_subset
from .encoders import load_encoder, load_teacher, start_from
from .errors import ConfigError, DataError
from .files import write_json, write_tensors
from .interfaces.encoder import Encoder
from .interfaces.loader import Split
from .interfaces.task import Task
from .plugin import Widths
from .progress import Progress
from .resolve import Resolved
from .result import SCHEMA, Result, environment, evaluation_entry, write_evaluation
from .run_folder import RunFolder
from .stages import distill as step_two
from .stages import pretrain as step_one
from .stages.evaluate import Scores, Splits, labelled, linear
from .stages.scratch import scratch
from .stages.training import Session
from .workbench import Workbench, card, make_fabric

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass
class Steps:
    """One run's state between its steps."""

    resolved: Resolved
    folder: RunFolder
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def go(self) -> Result:
        """All steps, then result.json."""
        fabric, precision = make_fabric(self.resolved.config.run)
        bench = Workbench.of(self.resolved, fabric, self.progress)
        for note in self.resolved.loader.notes:
            self.note(note)
        with self.timed("data"):
            self.decode(bench)
        with self.timed("pretrain"):
            source, pretrained = self.source(bench)
        with self.timed("distill"):
            target, distilled = self.distilled(bench, source)
        with self.timed("evaluate"):
            self.evaluate(bench, source, target)
        return self.finish(environment(str(fabric.device), precision), pretrained, distilled)

    def decode(self, bench: Workbench) -> None:
        """Every view that a later step reads, so that a broken file is found before any training."""
        bench.views("source", "train")
        for split in SPLITS:
            if split == "train" or any(self.resolved.target.name in sample.views for sample in bench.samples(split)):
                bench.views("target", split)

    def source(self, bench: Workbench) -> tuple[Encoder, dict[str, Any]]:
        """Step 1: the frozen source encoder, a teacher from elsewhere or pretrained here."""
        config, where = self.resolved.config.pretrain, self.folder.path / "source"
        if config.teacher:
            return self.teacher(bench)
        views = bench.views("source", "train")
        epochs = config.epochs_for(len(views), self.resolved.config.distill.epochs)
        seed = bench.seed_for("pretrain")
        inputs = digest([config.model_dump(mode="json"), epochs, seed, bench.source.identity, views.decoded.digest])
        if record := self.folder.finished("pretrain", inputs):
            return frozen(bench, load_encoder(where)), record["summary"]
        assert self.resolved.contrast is not None
        encoder = bench.encoder(bench.source, config.architecture, config.model_args, seed, bench.source_size)
        width = Widths(source=step_one.HEAD_WIDTH, target=step_one.HEAD_WIDTH)
        contrast = bench.objective(self.resolved.contrast, width, seed)
        session = self.session("pretrain", inputs)
        history = step_one.pretrain(bench.fabric, encoder, contrast, views, config, epochs, seed=seed, session=session)
        encoder.save(where)
        summary = {"epochs": epochs, "loss": history.last, "samples": len(views)}
        self.folder.finish("pretrain", inputs, {"summary": summary})
        return frozen(bench, encoder), summary

    def teacher(self, bench: Workbench) -> tuple[Encoder, dict[str, Any]]:
        """Instead of step 1: ``--teacher``."""
        config = self.resolved.config.pretrain
        if len(config.teacher) > 1:
            raise ConfigError("--teacher: this version takes one teacher", "Pass it once.")
        name = config.teacher[0]
        teacher = load_teacher(name, config.teacher_architecture, bench.source.modality)
        teacher.card = {**card(bench.source), "size": bench.source_size, "teacher": name}
        teacher.save(self.folder.path / "source")
        self.note(f"step 1 skipped: the source encoder is {name}, seeing {bench.source_size} px")
        return frozen(bench, teacher), {"teacher": name}

    def distilled(self, bench: Workbench, source: Encoder) -> tuple[Encoder, dict[str, Any]]:
        """Step 2: the target encoder, taught on unlabelled pairs."""
        config, where = self.resolved.config.distill, self.folder.path / "target"
        seed = bench.seed_for("distill")
        views, source_views = bench.views("target", "train"), bench.views("source", "train")
        weights = [sample.weight for sample in bench.samples("train")]
        pairs = step_two.match_pairs(source_views, views, weights)
        epochs = config.epochs_for(len(pairs))
        objectives = [[term.weight, term.key, chosen.identity] for term, chosen in self.resolved.objectives]
        inputs = digest(
            [config.model_dump(mode="json"), epochs, seed, objectives, weights_digest(source), bench.target.identity,
             views.decoded.digest, source_views.decoded.digest, weights]
        )  # fmt: skip
        if record := self.folder.finished("distill", inputs):
            return frozen(bench, load_encoder(where)), record["summary"]
        target = self.student(bench, source)
        objective = step_two.WeightedSum(
            [(term.weight, term.key, bench.objective(chosen, widths(source, target), seed))
             for term, chosen in self.resolved.objectives]
        )  # fmt: skip
        bank = self.bank(bench, source, seed)
        session = self.session("distill", inputs)
        history = step_two.distill(
            bench.fabric, source, target, objective, bank, views, pairs, config, epochs, seed=seed, session=session
        )
        target.save(where)
        self.save_objective(objective)
        summary = {"epochs": epochs, "loss": history.last, "pairs": len(pairs), "objective": self.resolved.expression}
        self.folder.finish("distill", inputs, {"summary": summary})
        return frozen(bench, target), summary

    def student(self, bench: Workbench, source: Encoder | None) -> Encoder:
        """The target encoder before distillation; without ``source`` its weights are random in any case."""
        config, seed = self.resolved.config.distill, bench.seed_for("student")
        architecture, model_args = config.student, config.model_args
        if config.init == "source" and source is not None and architecture is None:
            architecture = source.arguments.get("architecture") or getattr(source, "architecture", None)
            model_args = {**getattr(source, "model_args", {}), **model_args}
        student = bench.encoder(bench.target, architecture, model_args, seed, bench.size)
        if config.init == "source" and source is not None:
            self.note(start_from(student, source))
        return student

    def bank(self, bench: Workbench, source: Encoder, seed: int) -> FeatureBank:
        """The frozen source's features of its training views, from the cache or computed now."""
        config = self.resolved.config.distill
        return feature_bank(
            source,
            bench.views("source", "train"),
            count=config.views,
            seed=seed,
            area_min=config.crop_min,
            flip=config.flip,
            progress=self.progress,
            title="2 source features",
        )

    def evaluate(self, bench: Workbench, source: Encoder, target: Encoder) -> None:
        """Step 3: every task, with few labels, for the distilled encoder and what it is compared with."""
        for chosen, task in bench.tasks():
            try:
                on_target = self.splits(bench, "target", task)
            except DataError as error:
                if self.resolved.named_tasks:
                    raise
                self.note(f"step 3 skipped for {chosen.name}: {error.message}")
                continue
            self.evaluate_task(bench, chosen.name, task, on_target, source, target)

    def evaluate_task(
        self, bench: Workbench, name: str, task: Task, splits: Splits, source: Encoder, target: Encoder
    ) -> None:
        config, seed = self.resolved.config.evaluate, bench.seed_for("evaluate")
        subsets = self.subsets(splits, bench.seed)
        untrained = frozen(bench, self.student(bench, None))
        results: dict[str, dict[str, Scores]] = {}
        with self.progress.track("3 linear evaluation", 3) as advance:
            for encoder, network in (("distilled", target), ("untrained", untrained)):
                results[encoder] = linear(network, task, splits, subsets, seed)
                self.record(bench.target.name, encoder, name, task, "linear", results[encoder], splits)
                advance(1, encoder)
            self.source_on_source(bench, name, task, source, seed)
            advance(1, "source")
        if "scratch" in config.baselines:
            results["scratch"] = scratch(
                bench.fabric,
                lambda at: twin(bench, target, at),
                task,
                splits,
                subsets,
                config,
                self.resolved.config.distill,
                seed=seed,
                progress=self.progress,
            )
            self.record(bench.target.name, "scratch", name, task, "supervised", results["scratch"], splits)
        self.compare(name, task, results)

    def source_on_source(self, bench: Workbench, name: str, task: Task, source: Encoder, seed: int) -> None:
        """For reference: what the source encoder makes of its own modality, with as many labels."""
        try:
            splits = self.splits(bench, "source", task)
        except DataError:
            return  # the source's labels are a courtesy: the method does not need them
        scores = linear(source, task, splits, self.subsets(splits, bench.seed), seed)
        self.record(bench.source.name, "source", name, task, "linear", scores, splits)

    def splits(self, bench: Workbench, side: Literal["source", "target"], task: Task) -> Splits:
        """The labelled views of one side; DataError where a split has none."""
        parts = []
        for split in SPLITS:
            samples = bench.samples(split)
            if not any(task.target_name in sample.targets for sample in samples):
                raise DataError(f"no sample of the {split} split has a {task.target_name!r}")
            parts.append(labelled(samples, bench.views(side, split), task))
        classes = self.resolved.loader.classes.get(task.target_name)
        return Splits(parts[0], parts[1], parts[2], tuple(classes) if classes else None)

    def subsets(self, splits: Splits, seed: int) -> dict[str, Sequence[np.ndarray]]:
        """Label budget -> one subset of the training labels a draw."""
        config = self.resolved.config.evaluate
        strata = splits.train.strata
        return {
            budget: [label_subset(strata, budget, draw=draw, seed=seed) for draw in range(config.label_draws)]
            for budget in config.labels
        }

    def record(
        self,
        modality: str,
        encoder: str,
        name: str,
        task: Task,
        protocol: str,
        scores: Mapping[str, Scores],
        splits: Splits,
    ) -> None:
        for budget, score in scores.items():
            entry = evaluation_entry(encoder, modality, name, protocol, budget, task.primary, score, splits)
            write_evaluation(self.folder.path / "evaluations" / str(len(self.evaluations)), entry, score, splits)
            self.evaluations.append(entry)

    def compare(self, name: str, task: Task, results: Mapping[str, Mapping[str, Scores]]) -> None:
        """Paired differences to the distilled encoder: same test samples, same label draws."""
        for other in (encoder for encoder in results if encoder != "distilled"):
            for budget, scores in results["distilled"].items():
                rival = results[other][budget]
                difference = scores.replicates - rival.replicates
                low, high = np.quantile(difference.numpy(), [0.025, 0.975])
                self.comparisons.append(
                    {
                        "task": name,
                        "labels": budget,
                        "metric": task.primary,
                        "encoder": "distilled",
                        "over": other,
                        "difference": scores.metrics[task.primary] - rival.metrics[task.primary],
                        "interval": [float(low), float(high)],
                    }
                )

    def finish(self, machine: Mapping[str, Any], pretrained: Mapping[str, Any], distilled: Mapping[str, Any]) -> Result:
        values = {
            "schema": SCHEMA,
            "cmcd": version("cmcd"),
            "source": self.resolved.source.name,
            "target": self.resolved.target.name,
            "objective": self.resolved.expression,
            "data": self.resolved.data_name,
            "seed": self.resolved.config.run.seed,
            "environment": dict(machine),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "pretrain": dict(pretrained),
            "distill": dict(distilled),
            "evaluations": self.evaluations,
            "comparisons": self.comparisons,
            "notes": self.notes,
        }
        write_json(self.folder.result_file, values)
        return Result(self.folder.path, values)

    def note(self, text: str) -> None:
        """Tell the user now, and keep it in result.json."""
        self.notes.append(text)
        self.progress.note(text)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    def session(self, stage: str, inputs: str) -> Session:
        return Session(
            progress=self.progress,
            log=lambda values: self.folder.log(stage, values),
            rewind=lambda epochs: self.folder.rewind_log(stage, epochs),
            store=self.folder.checkpoints(stage),
            digest=inputs,
        )

    def save_objective(self, objective: step_two.WeightedSum) -> None:
        """Heads and temperatures, so that retrieval and distances can be asked for later."""
        folder = self.folder.path / "objective"
        write_tensors(folder / "objective.safetensors", objective.state_dict())
        parts = [
            {"weight": term.weight, "key": term.key, **chosen.identity} for term, chosen in self.resolved.objectives
        ]
        write_json(folder / "objective.json", {"expression": self.resolved.expression, "terms": parts})


def widths(source: Encoder, target: Encoder) -> Widths:
    """What objectives' heads must fit."""
    return Widths(source=source.dim, target=target.dim, source_dense=source.dense_dim, target_dense=target.dense_dim)


def twin(bench: Workbench, target: Encoder, seed: int) -> Encoder:
    """An encoder of ``target``'s architecture with random weights."""
    arguments = dict(target.arguments)
    return bench.encoder(bench.target, arguments.pop("architecture", None), arguments, seed, bench.size)


def frozen(bench: Workbench, encoder: Encoder) -> Encoder:
    """On the run's device, in eval mode, without gradients."""
    moved: Encoder = encoder.to(bench.fabric.device).to(memory_format=torch.channels_last)
    return moved.eval().requires_grad_(False)
