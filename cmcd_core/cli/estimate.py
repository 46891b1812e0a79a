"""What a run will take, before torch is imported: rough, from counts alone."""

from __future__ import annotations

from ..config import COPY_SIZES, DEFAULT_SIZES, MARGIN, Step
from ..cores import usable_cores
from ..resolve import Resolved

IMAGES_A_SECOND_A_CORE, COPIES_A_SECOND_A_CORE = 500.0, 60.0
"""Training images of 64 px through the default network, and through EfficientNet-Lite0, on one ordinary CPU core."""


def estimate(resolved: Resolved) -> dict[str, str]:
    """Name -> text for time, disk and memory."""
    config, steps = resolved.config, resolved.steps
    source, target = resolved.source.name, resolved.target.name
    sources, pairs = _count(resolved, "pretrain", source), _count(resolved, "distill", source, target)
    rows = _count(resolved, "distill", source)
    cores, copies = usable_cores(), config.may_copy
    pretrain = config.pretrain.epochs_for(sources, config.distill.epochs) if "pretrain" in steps else 0
    pretrain = 0 if config.pretrain.teacher else pretrain
    training = config.distill.for_copy() if copies else config.distill
    distill = training.epochs_for(pairs) if "distill" in steps else 0
    rate = COPIES_A_SECOND_A_CORE if copies else IMAGES_A_SECOND_A_CORE
    images = (0.9 * pretrain * sources + config.distill.views * rows) / IMAGES_A_SECOND_A_CORE + distill * pairs / rate
    side = config.run.size or (COPY_SIZES if copies else DEFAULT_SIZES)[1]
    seconds = images * (side / 64) ** 2 / cores
    smaller = " or, if init = auto finds it better, less" if config.distill.init == "auto" else ""
    networks = f"a copy of an EfficientNet-Lite0{smaller}," if copies else "the default networks"
    stored = round(MARGIN * side) ** 2
    disk = (sources * 3 + pairs * 4) * stored + rows * config.distill.views * 512 * 4
    memory = 1.2e9 + config.distill.batch_size * 2 * (side / 64) ** 2 * 4e6
    said = {
        "pretrain": "step 1 skipped (teacher)" if config.pretrain.teacher else f"step 1: {pretrain} epochs",
        "distill": f"step 2: {distill} epochs on {pairs} pairs"
        + (" for a copy of the teacher, fewer where masks are evaluated" if copies else ""),
        "evaluate": f"step 3: {_count(resolved, 'evaluate', target)} training samples, {len(resolved.tasks)} tasks"
        + ("; fine-tuning on masks, if any, takes longer than step 2" if "auto" in config.evaluate.protocols else ""),
    }
    return {
        "data": "; ".join(f"{said[step]} ({resolved.data_names[step]})" for step in steps),
        "time": f"about {_minutes(seconds)} of training for {networks} on {cores} core{'s' * (cores != 1)}",
        "disk": f"about {disk / 1e6:.0f} MB of cache, and the run's folder",
        "memory": f"about {memory / 1e9:.1f} GB",
    }


def _count(resolved: Resolved, step: Step, *modalities: str) -> int:
    """Training samples of a step's data that have all of these views."""
    if step not in resolved.places:
        return 0
    return sum({*modalities} <= sample.views.keys() for sample in resolved.places[step].loader.split("train"))


def _minutes(seconds: float) -> str:
    return f"{max(10, round(seconds, -1)):.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
