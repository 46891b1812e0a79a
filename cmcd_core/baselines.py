"""Encoders that are trained only to be compared with: other objectives, and self-supervision on the target itself."""

from __future__ import annotations

import re
from typing import Any

from .config import Step
from .data.digest import digest
from .encoders import load_encoder
from .errors import ConfigError
from .interfaces.encoder import Encoder
from .plugin import Widths
from .run_folder import RunFolder
from .settled import settle, settled
from .stages import pretrain as step_one
from .stages.training import Session
from .teaching import Lesson, distilled
from .workbench import Workbench, frozen

SSL = "ssl-target"


def baseline_encoders(
    bench: Workbench, folder: RunFolder, source: Encoder | None
) -> tuple[dict[str, Encoder], dict[str, Any]]:
    """Name -> encoder of each baseline that needs a training without labels, and what the trainings were.

    Raises:
        ConfigError: A baseline needs pairs, and this command has none.
    """
    encoders: dict[str, Encoder] = {}
    summaries: dict[str, Any] = {}
    config = bench.resolved.config.evaluate
    if SSL in config.baselines:
        encoders[SSL], summaries[SSL] = _self_supervised(bench, folder)
    for expression in config.objectives:
        where = f"baselines/{_file_name(expression)}"
        if "distill" in bench.resolved.steps:
            assert source is not None
            stage = f"baseline-{_file_name(expression)}"
            lesson = Lesson(stage, f"the baseline {expression}", expression, bench.resolved.rivals[expression], where)
            encoders[expression], summaries[expression] = distilled(bench, folder, source, lesson)
        elif (folder.path / where / "config.json").is_file():
            encoders[expression] = frozen(bench, load_encoder(folder.path / where))
        else:
            raise ConfigError(
                f"--baseline {expression}: it has to be taught on pairs first, and {folder.path} has none of that name",
                "Ask for it in `cmcd run` or `cmcd distill`.",
            )
    return encoders, summaries


def _self_supervised(bench: Workbench, folder: RunFolder) -> tuple[Encoder, dict[str, Any]]:
    """SimCLR on the target's own unlabelled views, for as many samples as step 2 sees."""
    step: Step = "distill" if "distill" in bench.resolved.steps else "evaluate"
    views, config = bench.views(step, "target", "train"), bench.resolved.config.pretrain
    distill = bench.resolved.config.distill
    epochs, seed, where = distill.epochs_for(len(views)), bench.seed_for(SSL), folder.path / "baselines" / SSL
    recipe = config.model_dump(mode="json", exclude={"data", "epochs", "teacher", "teacher_architecture"})
    student = [distill.student, distill.student_args]
    inputs = digest([recipe, student, seed, bench.size, bench.target.identity, views.decoded.digest])
    stage = f"baseline-{SSL}"
    if record := settled(bench.fabric, folder, stage, f"the baseline {SSL}", inputs, bench.progress, epochs):
        return frozen(bench, load_encoder(where)), record["summary"]
    encoder = bench.encoder(bench.target, distill.student, distill.student_args, bench.seed_for("student"), bench.size)
    assert bench.resolved.contrast is not None
    width = Widths(source=step_one.HEAD_WIDTH, target=step_one.HEAD_WIDTH)
    contrast = bench.objective(bench.resolved.contrast, width, seed)
    session = Session.within(folder, stage, inputs, bench.progress, bench.fabric)
    history = step_one.pretrain(
        bench.fabric, encoder, contrast, views, config, epochs, seed=seed, session=session, title=f"2 {SSL}"
    )
    summary = {"epochs": epochs, "loss": history.last, "samples": len(views)}
    record = {"epochs": epochs, "summary": summary}
    settle(bench.fabric, folder, stage, inputs, record, lambda: encoder.save(where))
    return frozen(bench, encoder), summary


def _file_name(expression: str) -> str:
    """``0.5*cmc + cmd`` -> ``0.5-cmc-cmd``."""
    return re.sub(r"[^a-z0-9._@]+", "-", expression.lower()).strip("-")
