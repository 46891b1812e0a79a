"""Encoders that are trained only to be compared with: other objectives, and self-supervision on the target itself."""

from __future__ import annotations

import re
from typing import Any

from .config import SSL, Step
from .data.digest import digest
from .encoders import load_encoder
from .errors import ConfigError
from .interfaces.encoder import Encoder
from .pretraining import Pretraining, pretrained
from .run_folder import RunFolder
from .students import from_random
from .teaching import Lesson, distilled
from .workbench import Workbench, frozen


def baseline_encoders(
    bench: Workbench, folder: RunFolder, source: Encoder | None, *, extend: bool
) -> tuple[dict[str, Encoder], dict[str, Any]]:
    """Name -> encoder of each baseline that needs a training without labels, and what the trainings were.

    Args:
        extend: They go on to more epochs with step 2.

    Raises:
        ConfigError: A baseline needs pairs, and this command has none.
    """
    encoders: dict[str, Encoder] = {}
    summaries: dict[str, Any] = {}
    config = bench.resolved.config.evaluate
    if SSL in config.baselines:
        encoders[SSL], summaries[SSL] = _self_supervised(bench, folder, extend=extend)
    for expression in config.objectives:
        where = f"baselines/{_file_name(expression)}"
        if "distill" in bench.resolved.steps:
            assert source is not None
            stage = f"baseline-{_file_name(expression)}"
            lesson = Lesson(stage, f"the baseline {expression}", expression, bench.resolved.rivals[expression], where)
            encoders[expression], summaries[expression] = distilled(bench, folder, source, lesson, extend=extend)
        elif (folder.path / where / "config.json").is_file():
            encoders[expression] = frozen(bench, load_encoder(folder.path / where))
        else:
            raise ConfigError(
                f"--baseline {expression}: it has to be taught on pairs first, and {folder.path} has none of that name",
                "Ask for it in `cmcd run` or `cmcd distill`.",
            )
    return encoders, summaries


def _self_supervised(bench: Workbench, folder: RunFolder, *, extend: bool) -> tuple[Encoder, dict[str, Any]]:
    """SimCLR on the target's own unlabelled views, for as many samples as step 2 sees."""
    step: Step = "distill" if "distill" in bench.resolved.steps else "evaluate"
    views, distill, seed = bench.views(step, "target", "train"), bench.resolved.config.distill, bench.seed_for(SSL)
    recipe = bench.resolved.config.pretrain.model_dump(
        mode="json", exclude={"data", "epochs", "teacher", "teacher_architecture"}
    )
    network = (distill.student, distill.student_args)
    asked = Pretraining(
        stage=f"baseline-{SSL}",
        title=f"the baseline {SSL}",
        shown=f"2 {SSL}",
        where=f"baselines/{SSL}",
        views=views,
        epochs=distill.epochs_for(len(views)),
        seed=seed,
        inputs=digest([recipe, network, seed, bench.size, bench.target.identity, views.decoded.digest]),
        network=lambda: from_random(bench, bench.seed_for("student")),
    )
    return pretrained(bench, folder, asked, extend=extend)


def _file_name(expression: str) -> str:
    """``0.5*cmc + cmd`` -> ``0.5-cmc-cmd``."""
    return re.sub(r"[^a-z0-9._@]+", "-", expression.lower()).strip("-")
