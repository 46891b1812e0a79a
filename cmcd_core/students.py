"""Where a target encoder starts: what step 2 trains before it does, and the networks it is compared with."""

from __future__ import annotations

from .config import DistillConfig
from .encoders import blueprint, brought, start_from
from .errors import CmcdError
from .interfaces.encoder import Encoder
from .workbench import Workbench


def settled_start(bench: Workbench, source: Encoder) -> DistillConfig:
    """``[distill]`` with all that depends on the source: what ``init = "auto"`` stands for, and how a copy is trained.

    auto copies one teacher that comes with weights from elsewhere, onto pictures. On val a copy of an ImageNet network
    was far ahead of the small one on sketches and on masks, and far behind on sound; so was a copy of what step 1 made
    of a few thousand pictures.
    """
    config = bench.resolved.config
    distill, copied = config.distill, brought(source)
    if distill.init == "auto":
        fits = copied and config.may_copy and bench.target.modality.spatial and _takes_all(bench, source)
        distill = distill.model_copy(update={"init": "source" if fits else "random"})
    return distill.for_copy() if copied and distill.init == "source" else distill


def student(bench: Workbench, source: Encoder) -> Encoder:
    """The target encoder before distillation; the user is told how it starts.

    Raises:
        ConfigError: It is to start from the source, and shares no weights with it.
    """
    if settled_start(bench, source).init == "random":
        return from_random(bench, bench.seed_for("student"))
    encoder = _like(bench, source)
    bench.note(str(start_from(encoder, source)))
    return encoder


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


def twin(bench: Workbench, encoder: Encoder, seed: int) -> Encoder:
    """An encoder of the same architecture with random weights."""
    arguments = blueprint(encoder)
    return bench.encoder(bench.target, arguments.pop("architecture", None), arguments, seed, bench.size)


def _like(bench: Workbench, source: Encoder) -> Encoder:
    """The student in the source's architecture, unless it has one of its own."""
    config = bench.resolved.config.distill
    architecture, arguments = config.student, config.student_args
    if architecture is None:
        own = blueprint(source)
        architecture, arguments = own.pop("architecture", None), {**own, **arguments}
    return bench.encoder(bench.target, architecture, arguments, bench.seed_for("student"), bench.size)


def _takes_all(bench: Workbench, source: Encoder) -> bool:
    """Whether the source has weights for all of such a student: another plugin's networks may be of another kind."""
    try:
        start = start_from(_like(bench, source), source)
    except CmcdError:
        return False
    return start.copied == start.total
