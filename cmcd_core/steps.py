"""The steps of one run, each read from top to bottom; what they learn goes into the run's folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from lightning_fabric import Fabric

from .alignment import dense_grid, require_alignment
from .config import STEPS, Step
from .data.bank import FeatureBank, feature_bank
from .data.digest import digest, weights_digest
from .encoders import blueprint, load_encoder, start_from
from .errors import ConfigError
from .evaluation import SPLITS, Evaluation, comparisons, entries_of, require_named_tasks
from .files import write_json, write_tensors
from .interfaces.encoder import Encoder
from .interfaces.side_by_side import SideBySide
from .plugin import Widths
from .progress import Progress
from .resolve import Resolved
from .result import SCHEMA, Result, environment
from .run_folder import RunFolder
from .stages import distill as step_two
from .stages import pretrain as step_one
from .stages.training import Session
from .workbench import Workbench, card, frozen, make_fabric, widths

TITLES: Mapping[Step, str] = {"pretrain": "step 1", "distill": "step 2"}
ELSEWHERE = "Write elsewhere with another --out; more epochs of step 2 alone: --extend."


@dataclass
class Steps:
    """One run's state between its steps.

    Attributes:
        extend: A finished step 2 goes on to more epochs.
        siblings: Runs whose evaluations serve this one too.
    """

    resolved: Resolved
    folder: RunFolder
    progress: Progress
    extend: bool = False
    siblings: Sequence[RunFolder] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def go(self) -> Result:
        """The steps that were asked for, in order; then result.json."""
        before, steps = self.folder.read_result(), self.resolved.steps
        self.seconds = dict(before.get("seconds", {}))
        fabric, precision = make_fabric(self.resolved.config.run)
        for place in dict.fromkeys(self.resolved.places.values()):
            for note in place.loader.notes:
                self.note(note)
        source: Encoder | None = None
        target: Encoder | None = None
        if steps == ("evaluate",):
            source, target, bench = self.given(fabric)
        else:
            bench = Workbench.of(self.resolved, fabric, self.progress, self.note)
        with self.timed("data"):
            self.decode(bench)
        if "pretrain" in steps:
            with self.timed("pretrain"):
                source, self.found["pretrain"] = self.source(bench)
        if "distill" in steps:
            assert source is not None
            with self.timed("distill"):
                target, self.found["distill"] = self.distilled(bench, source)
        if "evaluate" in steps:
            assert target is not None
            with self.timed("evaluate"):
                Evaluation(bench, self.folder, target, source, self.siblings).go()
        if target is not None:
            self.found["evaluations"] = entries = entries_of(self.folder, target)
            self.found["comparisons"] = comparisons(self.folder, entries)
        return self.finish(before, environment(str(fabric.device), precision))

    def given(self, fabric: Fabric) -> tuple[Encoder | None, Encoder, Workbench]:
        """For step 3 alone: the encoders that are there already, and a workbench of their sizes."""
        path = self.folder.path
        if elsewhere := self.resolved.config.evaluate.encoder:
            load_encoder(elsewhere).save(path / "target")
        target = load_encoder(path / "target")
        source = load_encoder(path / "source") if (path / "source" / "config.json").is_file() else None
        bench = Workbench.of(
            self.resolved,
            fabric,
            self.progress,
            self.note,
            size=self.resolved.config.run.size or target.card.get("size"),
            source_size=source.card.get("size") if source else None,
        )
        if target.channels != bench.target.modality.channels:
            raise ConfigError(
                f"{path / 'target'} takes {target.channels} channels, and {bench.target.name} gives "
                f"{bench.target.modality.channels}",
                "Give the target the options that the encoder was made with (its config.json names them).",
            )
        return (frozen(bench, source) if source else None), frozen(bench, target), bench

    def decode(self, bench: Workbench) -> None:
        """Every view that a later step reads, so that a broken file is found before any training."""
        if "pretrain" in self.resolved.steps and self.has_own_source_rows():
            bench.views("pretrain", "source", "train")
        if "distill" in self.resolved.steps:
            require_alignment(bench)
            bench.views("distill", "source", "train")
            bench.views("distill", "target", "train")
        if "evaluate" in self.resolved.steps:
            require_named_tasks(bench)
            for split in SPLITS:
                if any(bench.target.name in sample.views for sample in bench.samples("evaluate", split)):
                    bench.views("evaluate", "target", split)

    def has_own_source_rows(self) -> bool:
        """Step 1's data hold source samples (a teacher's run may have none there)."""
        name, train = self.resolved.source.name, self.resolved.places["pretrain"].loader.split("train")
        return any(name in sample.views for sample in train)

    def source(self, bench: Workbench) -> tuple[Encoder, dict[str, Any]]:
        """Step 1: the frozen source encoder, teachers from elsewhere or pretrained here."""
        config, where = self.resolved.config.pretrain, self.folder.path / "source"
        if config.teacher:
            return self.teacher(bench)
        views = bench.views("pretrain", "source", "train")
        epochs = config.epochs_for(len(views), self.resolved.config.distill.epochs)
        seed, bound = bench.seed_for("pretrain"), bench.bound(self.resolved.places["pretrain"], "source")
        recipe = config.model_dump(mode="json", exclude={"data", "epochs"})
        inputs = digest([recipe, seed, bound.identity, views.decoded.digest])
        if record := self.settled("pretrain", inputs, epochs):
            return frozen(bench, load_encoder(where)), record["summary"]
        assert self.resolved.contrast is not None
        encoder = bench.encoder(bench.source, config.architecture, config.model_args, seed, bench.source_size)
        width = Widths(source=step_one.HEAD_WIDTH, target=step_one.HEAD_WIDTH)
        contrast = bench.objective(self.resolved.contrast, width, seed)
        session = Session.within(self.folder, "pretrain", inputs, self.progress)
        history = step_one.pretrain(bench.fabric, encoder, contrast, views, config, epochs, seed=seed, session=session)
        encoder.save(where)
        summary = {"epochs": epochs, "loss": history.last, "samples": len(views)}
        self.folder.finish("pretrain", inputs, {"epochs": epochs, "summary": summary})
        return frozen(bench, encoder), summary

    def teacher(self, bench: Workbench) -> tuple[Encoder, dict[str, Any]]:
        """Instead of step 1: ``--teacher``; several stand side by side, standardised on the training views."""
        names = list(self.resolved.config.pretrain.teacher)
        summary = {"teacher": names[0] if len(names) == 1 else names}
        inputs = digest([names, bench.source_size, [weights_digest(teacher) for teacher in bench.teachers]])
        self.note(f"step 1 skipped: the source encoder is {' + '.join(names)}, seeing {bench.source_size} px")
        about = {**card(bench.source), "size": bench.source_size, "teacher": summary["teacher"]}
        if self.settled("pretrain", inputs):
            return frozen(bench, load_encoder(self.folder.path / "source")), summary
        teacher: Encoder = bench.teachers[0]
        if len(bench.teachers) > 1:
            for number, member in enumerate(bench.teachers):
                member.card = {**about, "teacher": names[number]}
            features = [self.whole_pictures(bench, "distill", member) for member in bench.teachers]
            pooled = torch.cat(features, dim=1)
            teacher = SideBySide(bench.teachers, pooled.mean(0), pooled.std(0) + 1e-6)
        teacher.card = about
        teacher.save(self.folder.path / "source")
        self.folder.finish("pretrain", inputs, {"summary": summary})
        return frozen(bench, teacher), summary

    def distilled(self, bench: Workbench, source: Encoder) -> tuple[Encoder, dict[str, Any]]:
        """Step 2: the target encoder, taught on unlabelled pairs."""
        config, where = self.resolved.config.distill, self.folder.path / "target"
        seed = bench.seed_for("distill")
        views, source_views = bench.views("distill", "target", "train"), bench.views("distill", "source", "train")
        weights = [sample.weight for sample in bench.samples("distill", "train")]
        further = self.further_rows(bench, source)
        pairs = step_two.match_pairs(source_views, views, weights, further)
        epochs = config.epochs_for(len(pairs))
        objectives = [[term.weight, term.key, chosen.identity] for term, chosen in self.resolved.objectives]
        recipe = config.model_dump(mode="json", exclude={"data", "epochs"})
        inputs = digest(
            [recipe, seed, objectives, weights_digest(source), bench.target.identity, views.decoded.digest,
             source_views.decoded.digest, weights, further.names.tolist() if further else None]
        )  # fmt: skip
        if record := self.settled("distill", inputs, epochs):
            return frozen(bench, load_encoder(where)), record["summary"]
        target = self.student(bench, source)
        objective = step_two.WeightedSum(
            [(term.weight, term.key, bench.objective(chosen, widths(source, target), seed))
             for term, chosen in self.resolved.objectives]
        )  # fmt: skip
        bank = self.bank(bench, source, seed, dense_grid(bench, source, target) if "dense" in objective.needs else None)
        history = step_two.distill(
            bench.fabric, source, target, objective, bank, views, pairs, config, epochs, seed=seed,
            session=Session.within(self.folder, "distill", inputs, self.progress),
        )  # fmt: skip
        target.save(where)
        self.save_objective(objective)
        summary = {"epochs": epochs, "loss": history.last, "pairs": len(pairs), "objective": self.resolved.expression}
        self.folder.finish("distill", inputs, {"epochs": epochs, "summary": summary})
        return frozen(bench, target), summary

    def settled(self, stage: Step, inputs: str, epochs: int | None = None) -> dict[str, Any] | None:
        """The record of a step that is done; None where it is still to do.

        Raises:
            ConfigError: It was done from other data, options or seed: what is there is not overwritten.
        """
        record = self.folder.finished(stage)
        if record is None:
            return None
        if record["digest"] != inputs:
            raise ConfigError(
                f"{self.folder.path}: its {TITLES[stage]} is finished, from other data, options or another seed",
                ELSEWHERE,
            )
        if epochs is None or record["epochs"] == epochs:
            self.progress.note(f"{TITLES[stage]} is done already, from the same data and options")
            return record
        if not self.extend:
            raise ConfigError(
                f"{self.folder.path}: its {TITLES[stage]} is finished after {record['epochs']} epochs, not {epochs}",
                ELSEWHERE,
            )
        if epochs < record["epochs"]:
            raise ConfigError(f"--extend: step 2 has {record['epochs']} epochs already, and {epochs} were asked for")
        if self.folder.checkpoints(stage).latest(inputs) is None:
            raise ConfigError(f"--extend: {self.folder.path}/checkpoints holds no readable state of step 2")
        self.folder.reopen(stage)
        return None

    def student(self, bench: Workbench, source: Encoder) -> Encoder:
        """The target encoder before distillation."""
        config, seed = self.resolved.config.distill, bench.seed_for("student")
        architecture, model_args = config.student, config.model_args
        if config.init == "source" and architecture is None:
            own = blueprint(source)
            architecture, model_args = own.pop("architecture", None), {**own, **model_args}
        student = bench.encoder(bench.target, architecture, model_args, seed, bench.size)
        if config.init == "source":
            self.note(start_from(student, source))
        return student

    def bank(self, bench: Workbench, source: Encoder, seed: int, grid: tuple[int, int] | None) -> FeatureBank:
        """The frozen source's features of its training views, from the cache or computed now."""
        config = self.resolved.config.distill
        return feature_bank(
            source,
            bench.views("distill", "source", "train"),
            count=config.views,
            seed=seed,
            area_min=config.crop_min,
            flip=config.flip,
            progress=self.progress,
            title="2 source features",
            grid=grid,
        )

    def whole_pictures(self, bench: Workbench, step: Step, encoder: Encoder) -> torch.Tensor:
        """(N, D) features of one step's source views, uncropped."""
        views = bench.views(step, "source", "train")
        bank = feature_bank(
            frozen(bench, encoder), views, count=1, seed=0, area_min=1.0, flip=False, progress=self.progress,
            title="2 source features, whole",
        )  # fmt: skip
        return bank.whole()

    def further_rows(self, bench: Workbench, source: Encoder) -> step_two.Further | None:
        """Source samples of step 1's data, where those are others than step 2's: further candidates."""
        if self.resolved.places["pretrain"] is self.resolved.places["distill"] or not self.has_own_source_rows():
            return None
        views = bench.views("pretrain", "source", "train")
        self.note(f"{len(views)} source samples of {self.resolved.places['pretrain'].name} join step 2's candidates")
        return step_two.Further(self.whole_pictures(bench, "pretrain", source), views.decoded.names)

    def finish(self, before: Mapping[str, Any], machine: Mapping[str, Any]) -> Result:
        """Write result.json: what this command found, over what earlier ones did."""
        config, steps = self.resolved.config, self.resolved.steps
        done = {*before.get("steps", []), *steps}
        if "distill" in steps and not any(entry["encoder"] == "distilled" for entry in self.found["evaluations"]):
            done -= {"evaluate"} - set(steps)  # what was evaluated before is another target
        values = {
            "schema": SCHEMA,
            "cmcd": version("cmcd"),
            "steps": [step for step in STEPS if step in done],
            "source": self.resolved.source.name,
            "target": self.resolved.target.name if config.target else None,
            "objective": self.resolved.expression,
            "data": self.resolved.main.name if "distill" in steps or not before else before["data"],
            "data_of": {**before.get("data_of", {}), **self.resolved.data_names},
            "seed": config.run.seed,
            "environment": dict(machine),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            **{name: before.get(name, {}) for name in ("pretrain", "distill")},
            **{name: before.get(name, []) for name in ("evaluations", "comparisons")},
            **self.found,
            "notes": list(dict.fromkeys([*before.get("notes", []), *self.notes])),
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

    def save_objective(self, objective: step_two.WeightedSum) -> None:
        """Heads and temperatures, so that retrieval and distances can be asked for later."""
        folder = self.folder.path / "objective"
        write_tensors(folder / "objective.safetensors", objective.state_dict())
        parts = [
            {"weight": term.weight, "key": term.key, **chosen.identity} for term, chosen in self.resolved.objectives
        ]
        write_json(folder / "objective.json", {"expression": self.resolved.expression, "terms": parts})
