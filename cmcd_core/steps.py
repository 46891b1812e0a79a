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

from .alignment import require_alignment
from .baselines import baseline_encoders
from .config import STEPS, Step
from .data.digest import digest, weights_digest
from .encoders import load_encoder
from .errors import ConfigError, printable
from .evaluation import Evaluation, comparisons, entries_of
from .exhibits import Exhibits
from .files import write_json
from .interfaces.encoder import Encoder
from .interfaces.loader import SPLITS
from .interfaces.side_by_side import SideBySide
from .latents import BeforeAndAfter, before_and_after, distance_entry
from .pictures import draw_curve
from .pretraining import Pretraining, pretrained
from .processes import first, led
from .progress import Progress
from .report.page import write_report
from .resolve import Resolved
from .result import SCHEMA, Result, environment
from .run_folder import RunFolder
from .served import check_tasks
from .settled import settle, settled
from .students import fit_size, student
from .teaching import Lesson, distilled, has_own_source_rows, whole_pictures
from .workbench import Workbench, card, frozen, make_fabric, pinned


@dataclass
class Steps:
    """One run's state between its steps. Several processes take steps 1 and 2 together; one does all else.

    Attributes:
        fabric: Of all processes of the run; None: there is one.
        extend: A finished step 2 goes on to more epochs.
        siblings: Runs whose evaluations serve this one too.
    """

    resolved: Resolved
    folder: RunFolder
    progress: Progress
    extend: bool = False
    siblings: Sequence[RunFolder] = ()
    fabric: Fabric | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def go(self) -> Result:
        """The steps that were asked for, in order; then result.json."""
        before, steps = self.folder.read_result(), self.resolved.steps
        self.seconds = dict(before.get("seconds", {}))
        section = self.resolved.config.run if self.fabric is None else pinned(self.resolved.config.run)
        alone, precision = make_fabric(section, self.note)
        fabric = self.fabric or alone
        for place in dict.fromkeys(self.resolved.places.values()):
            for note in place.loader.notes:
                self.note(note)
        source: Encoder | None = None
        target: Encoder | None = None
        held_out: BeforeAndAfter | None = None
        with first(fabric):
            if steps == ("evaluate",):
                source, target, bench = self.given(fabric)
            else:
                bench = Workbench.of(self.resolved, fabric, self.progress, self.note)
            self.build(bench)
            with self.timed("data"):
                self.decode(bench)
        if "pretrain" in steps:
            with self.timed("pretrain"):
                source, self.found["pretrain"] = self.source(bench)
        if "distill" in steps:
            assert source is not None
            with self.timed("distill"):
                lesson = Lesson.of(self.resolved)
                target, self.found["distill"] = distilled(bench, self.folder, source, lesson, extend=self.extend)
            if fabric.is_global_zero:
                with self.timed("distance"):
                    held_out = before_and_after(bench, self.folder, source, target, lesson)
                    self.found["distance"] = distance_entry(held_out)
        rivals: dict[str, Encoder] = {}
        if "evaluate" in steps:
            with self.timed("baselines"):
                rivals, trained = baseline_encoders(bench, self.folder, source, extend=self.extend)
            self.found["baselines"] = {**before.get("baselines", {}), **trained}

        def measured() -> Result:
            if target is not None:
                self.evaluate(bench, source, target, rivals)
            with self.timed("report"):
                self.exhibit(bench, held_out)
            result = self.finish(before, environment(str(fabric.device), precision, fabric.world_size))
            self.report()
            return result

        return led(fabric, measured)

    def evaluate(
        self, bench: Workbench, source: Encoder | None, target: Encoder, rivals: Mapping[str, Encoder]
    ) -> None:
        """Step 3, where it was asked for, and what all evaluations of this target encoder say together."""
        if "evaluate" in self.resolved.steps:
            with self.timed("evaluate"):
                Evaluation(bench, self.folder, target, source, rivals, self.siblings).go()
        self.found["evaluations"] = entries = entries_of(self.folder, target)
        self.found["comparisons"] = comparisons(self.folder, entries)
        draw_curve(self.folder, entries)

    def given(self, fabric: Fabric) -> tuple[Encoder | None, Encoder, Workbench]:
        """For step 3 alone: the encoders that are there already, and a workbench of their sizes."""
        path = self.folder.path
        if (elsewhere := self.resolved.config.evaluate.encoder) and fabric.is_global_zero:
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

    def build(self, bench: Workbench) -> None:
        """Each network once, so that a wrong name is told before any training."""
        config, source = self.resolved.config.pretrain, next(iter(bench.teachers), None)
        if "pretrain" in self.resolved.steps and source is None:
            source = bench.encoder(bench.source, config.architecture, config.model_args, 0, bench.source_size)
        if "distill" in self.resolved.steps and source is not None:
            fit_size(bench, self.folder, source)
            student(bench, self.folder, source)

    def decode(self, bench: Workbench) -> None:
        """Every view that a later step reads, so that a broken file is found before any training."""
        if "pretrain" in self.resolved.steps and has_own_source_rows(bench):
            bench.views("pretrain", "source", "train")
        if "distill" in self.resolved.steps:
            require_alignment(bench)
            bench.views("distill", "source", "train")
            bench.views("distill", "target", "train")
        if "evaluate" in self.resolved.steps and bench.fabric.is_global_zero:
            check_tasks(bench)
            for split in SPLITS:
                if any(bench.target.name in sample.views for sample in bench.samples("evaluate", split)):
                    bench.views("evaluate", "target", split)

    def source(self, bench: Workbench) -> tuple[Encoder, dict[str, Any]]:
        """Step 1: the frozen source encoder, teachers from elsewhere or pretrained here."""
        config = self.resolved.config.pretrain
        if config.teacher:
            return self.teacher(bench)
        views = bench.views("pretrain", "source", "train")
        seed, bound = bench.seed_for("pretrain"), bench.bound(self.resolved.places["pretrain"], "source")
        recipe = config.model_dump(mode="json", exclude={"data", "epochs"})
        network = (bench.source, config.architecture, config.model_args, seed, bench.source_size)
        asked = Pretraining(
            stage="pretrain",
            title="step 1",
            shown="1 pretrain source",
            where="source",
            views=views,
            epochs=config.epochs_for(len(views), self.resolved.config.distill.epochs),
            seed=seed,
            inputs=digest([recipe, seed, bound.identity, views.decoded.digest]),
            network=lambda: bench.encoder(*network),
        )
        return pretrained(bench, self.folder, asked, extend=self.extend)

    def teacher(self, bench: Workbench) -> tuple[Encoder, dict[str, Any]]:
        """Instead of step 1: ``--teacher``; several stand side by side, standardised on the training views."""
        names, where = list(self.resolved.config.pretrain.teacher), self.folder.path / "source"
        summary = {"teacher": names[0] if len(names) == 1 else names}
        inputs = digest([names, bench.source_size, [weights_digest(teacher) for teacher in bench.teachers]])
        self.note(f"step 1 skipped: the source encoder is {' + '.join(names)}, seeing {bench.source_size} px")
        about = {**card(bench.source), "size": bench.source_size, "teacher": summary["teacher"]}
        if settled(bench.fabric, self.folder, "pretrain", "step 1", inputs, self.progress):
            return frozen(bench, load_encoder(where)), summary
        teacher: Encoder = bench.teachers[0]
        if len(bench.teachers) > 1:
            for number, member in enumerate(bench.teachers):
                member.card = {**about, "teacher": names[number]}
            with first(bench.fabric):
                step: Step = "distill" if "distill" in self.resolved.steps else "pretrain"
                features = [whole_pictures(bench, step, member) for member in bench.teachers]
            pooled = torch.cat(features, dim=1)
            teacher = SideBySide(bench.teachers, pooled.mean(0), pooled.std(0) + 1e-6)
        teacher.card = about
        settle(bench.fabric, self.folder, "pretrain", inputs, {"summary": summary}, lambda: teacher.save(where))
        return frozen(bench, teacher), summary

    def exhibit(self, bench: Workbench, held_out: BeforeAndAfter | None) -> None:
        """What the report shows of the encoders and the data; what earlier steps showed stays."""
        exhibits, steps = Exhibits(bench, self.folder), self.resolved.steps
        if "distill" in steps:
            exhibits.of_encoders(held_out)
            exhibits.of_data("distill")
        elif not (self.folder.path / "report" / "seen.json").is_file():
            exhibits.of_data(steps[0])

    def report(self) -> None:
        """Write report.html; the run is done and saved, so that a fault of the report is told and no more."""
        try:
            write_report(self.folder.path)
        except OSError:
            raise
        except Exception as error:
            self.progress.note(
                f"report.html could not be written ({type(error).__name__}: {printable(str(error))}); all else is there"
            )

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
            **{name: before.get(name, {}) for name in ("pretrain", "distill", "distance", "baselines")},
            **{name: before.get(name, []) for name in ("evaluations", "comparisons")},
            **self.found,
            "notes": list(dict.fromkeys([*before.get("notes", []), *self.notes])),
        }
        write_json(self.folder.result_file, values)
        return Result(self.folder.path, values)

    def note(self, text: str) -> None:
        """Tell the user now, once, and keep it in result.json."""
        if text not in self.notes:
            self.notes.append(text)
            self.progress.note(text)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if (spent := time.perf_counter() - start) >= 0.005:
            self.seconds[stage] = spent
