"""Where a target encoder starts: what step 2 trains before it does, and the networks it is compared with."""

from __future__ import annotations

import json
from typing import Any

from .config import COPY_SIZES, MASKS_COPY_SIZES, DistillConfig
from .data.digest import weights_digest
from .encoders import blueprint, brought, fixed_size, start_from
from .errors import CmcdError
from .files import write_json
from .interfaces.encoder import Encoder
from .partner_rank import partner_rank
from .run_folder import RunFolder
from .served import evaluates_masks
from .workbench import Workbench

START = "start.json"
NEAR, NEAR_FOR_MASKS = 0.3, 0.45
"""A teacher that puts no more of the others nearer than the partner is worth copying; for masks, which need its fine
maps too, even one that is a little better than chance."""


def settled_start(bench: Workbench, folder: RunFolder, source: Encoder) -> DistillConfig:
    """``[distill]`` with all that depends on the source: what ``init = "auto"`` stands for, and how a copy is trained.

    What that is stays in the run's folder, in start.json: commands that see less of the run go on as it began.
    """
    start = _start(bench, folder, source)
    settled = bench.resolved.config.distill.model_copy(update={"init": start["init"]})
    copied = settled.init == "source" and brought(source)
    return settled.for_copy(masks=start.get("masks", False)) if copied else settled


def fit_size(bench: Workbench, folder: RunFolder, source: Encoder) -> None:
    """A copy of a teacher sees bigger pictures than other students, or those of the only size that it takes, unless the
    size is configured."""
    start = _start(bench, folder, source)
    if start["init"] == "source" and brought(source) and bench.resolved.config.may_copy:
        only, bounds = fixed_size(source), MASKS_COPY_SIZES if start.get("masks", False) else COPY_SIZES
        bench.size = bench.fitting_size((only, only) if only else bounds)


def student(bench: Workbench, folder: RunFolder, source: Encoder) -> Encoder:
    """The target encoder before distillation; the user is told how it starts.

    Raises:
        ConfigError: It is to start from the source, and shares no weights with it.
    """
    if settled_start(bench, folder, source).init == "random":
        return from_random(bench, bench.seed_for("student"))
    encoder = _like(bench, source)
    bench.note(str(start_from(encoder, source)))
    return encoder


def _start(bench: Workbench, folder: RunFolder, source: Encoder) -> dict[str, Any]:
    """How the student starts (``init``). Of a teacher that may be copied, what start.json says or will say: whether
    ``masks`` are evaluated, and auto's ``partner_rank``, too."""
    file, asked = folder.path / START, bench.resolved.config.distill.init
    if asked == "random" or not brought(source):
        return {"init": "source" if asked == "source" else "random"}
    if asked == "auto" and not _could_copy(bench, source):
        return {"init": "random"}
    about = {"source": weights_digest(source), "asked": asked}
    known: dict[str, Any] = {"asked": "auto"}  # what earlier versions leave out
    known |= json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if known.items() >= about.items():
        return known
    masks = evaluates_masks(bench)
    found = _chosen(bench, source, masks=masks) if asked == "auto" else {"init": "source"}
    start = {**about, "masks": masks, **found}
    if folder.finished("distill") is None:  # else it is of an earlier version, and may be read-only
        write_json(file, start)
    return start


def _chosen(bench: Workbench, source: Encoder, *, masks: bool) -> dict[str, Any]:
    """auto: a copy where the source finds partners as it is.

    On val a copy of an ImageNet network was far ahead of a small one with random weights on sketches (partner rank
    .25) and on masks of depth (.28), no better on depth of tools with few labels (.35), behind on depth of hands (.36),
    far behind on sound (.52).
    """
    rank, near = partner_rank(bench, source), NEAR_FOR_MASKS if masks else NEAR
    bench.note(
        f"init = auto: of the other pictures, the source puts {rank:.0%} nearer to a {bench.target.name} view "
        f"than its partner (chance: 50 %; a copy pays below {near:.0%}), so the student starts "
        + ("from the source" if rank < near else "at random")
    )
    return {"partner_rank": rank, "init": "source" if rank < near else "random"}


def _could_copy(bench: Workbench, source: Encoder) -> bool:
    """Whether auto may copy it: a ViT's copy at 224 px would take hours."""
    asked = bench.resolved.config.may_copy and bench.target.modality.spatial
    return asked and not fixed_size(source) and _takes_all(bench, source)


def is_copy(bench: Workbench, encoder: Encoder, source: Encoder) -> bool:
    """Whether a run's target encoder started from a teacher's weights, as its configuration and its network say."""
    config = bench.resolved.config
    if config.distill.init == "random" or config.evaluate.encoder is not None or not brought(source):
        return False
    same = blueprint(encoder).get("architecture") == blueprint(source)["architecture"]
    return config.distill.init == "source" or (config.may_copy and same)


def from_random(bench: Workbench, seed: int) -> Encoder:
    """``distill.student`` with random weights: a start, and what baselines train that see labels or target views alone,
    wherever the student starts."""
    config = bench.resolved.config.distill
    arguments = config.student_args
    if config.init == "source" and config.student is None:  # they are of the source's architecture
        arguments = {key: value for key, value in arguments.items() if key not in config.model_args}
    return bench.encoder(bench.target, config.student, arguments, seed, bench.size)


def without_source(bench: Workbench, encoder: Encoder, seed: int) -> Encoder:
    """What ``encoder`` would be had there been no source: its twin, or the run's network from a random start."""
    config = bench.resolved.config
    copied = config.distill.init != "random" and config.evaluate.encoder is None
    return from_random(bench, seed) if copied else twin(bench, encoder, seed)


def twin(bench: Workbench, encoder: Encoder, seed: int, size: int | None = None, **arguments: Any) -> Encoder:
    """The target's encoder in the same architecture, with random weights.

    Args:
        size: Side in pixels of what it will see; None: the target encoder's.
        arguments: Of the architecture; they go over the other's.
    """
    same = {**blueprint(encoder), **arguments}
    return bench.encoder(bench.target, same.pop("architecture", None), same, seed, size or bench.size)


def _like(bench: Workbench, source: Encoder) -> Encoder:
    """The student in the source's architecture, unless it has one of its own."""
    config, seed = bench.resolved.config.distill, bench.seed_for("student")
    if config.student is not None:
        return from_random(bench, seed)
    return twin(bench, source, seed, **config.student_args)


def _takes_all(bench: Workbench, source: Encoder) -> bool:
    """Whether the source has weights for all of such a student: another plugin's networks may be of another kind."""
    try:
        start = start_from(_like(bench, source), source)
    except CmcdError:
        return False
    return start.copied == start.total
