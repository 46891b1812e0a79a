"""Step 2 with the frozen teacher's features from the cache, beside computing them again for every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from cmcd_core import Encoder, Objective
from cmcd_core.config import DistillConfig
from cmcd_core.data.bank import FeatureBank, feature_bank
from cmcd_core.data.views import Views
from cmcd_core.progress import Progress
from cmcd_core.stages.distill import Recipe, distill, teach
from cmcd_core.stages.pairs import bank_features
from cmcd_core.stages.training import Session, batch_seed, shuffled_batches

from .measuring import Found, Row, Seconds, alternating, at_least, both_clocks, middle, ratio, require
from .setting import encoder, fabric, modality, objective, paired, scenes, stored_side, views_of

SIZE, COUNT, TEACHER = 64, 160, "resnet18"
STUDENTS = (("ResNet-18 into itself", "resnet18"), ("ResNet-18 into the slim default", None))
CONFIG = DistillConfig(views=1, batch_size=32)


def measure(repeats: int, quick: bool) -> Found:
    """Steps/s of both, for a student as large as its teacher and for the default one."""
    found, count = Found(), 64 if quick else COUNT
    pictures, depths, _ = scenes(count, stored_side(SIZE))
    source, target = modality("image"), modality("depth")
    pictures_seen, depths_seen = views_of(pictures, source, SIZE), views_of(depths, target, SIZE)
    teacher = encoder(source, TEACHER).eval().requires_grad_(False)
    bank = feature_bank(
        teacher, pictures_seen, count=1, seed=0, area_min=1, flip=False, progress=Progress(), title="features"
    )
    for name, architecture in STUDENTS[1:] if quick else STUDENTS:
        new = partial(encoder, target, architecture)

        def ready(new: Callable[[], Encoder] = new) -> tuple[Fabric, Encoder, Objective]:
            student = new()
            return fabric(), student, objective("cmd", teacher.dim, student.dim)

        cached = partial(with_cache, teacher, bank, depths_seen)
        again = partial(recomputed, teacher, bank, pictures_seen, depths_seen)
        require(abs(cached(*ready()) - again(*ready())) < 1e-3, "the loss is the same with cached features")
        taken = alternating(
            {"cached": cached, "again": again, "teacher": lambda *given: looks(teacher, pictures_seen)},
            repeats,
            warm=False,
            ready=ready,
        )
        found.rows += rows(
            name, taken, 1 + flops(teacher, 3) / (3 * flops(new(), 1)), count, alike=architecture == TEACHER
        )
    return found


def rows(name: str, taken: dict[str, list[Seconds]], by_flops: float, count: int, *, alike: bool) -> list[Row]:
    """The speed-up as a share of its bound: by the clock, and by operations where both networks are alike.

    A small student does not reach the share of the machine's speed that a large teacher does, so that operations
    promise more than any program could keep.
    """
    cached, again = taken["cached"], taken["again"]
    by_clock = 1 + ratio(taken["teacher"], cached, "cpu").median
    bounds = {"1 + t_teacher / t_student (CPU time)": by_clock}
    if alike:
        bounds["1 + F_teacher / (3 F_student), as if a way back took twice a way forward"] = by_flops
    beside = (
        f"bound by operations {by_flops:.2f}, by the clock {by_clock:.2f}; {ratio(again, cached)} times the steps/s, "
        f"{count / middle(cached):,.0f} and {count / middle(again):,.0f} pairs/s; {both_clocks(again, cached)}"
    )
    return [
        at_least(
            f"{name}: steps/s, teacher cached / recomputed, as a share of {of}",
            ratio(again, cached, times=1 / bound), 0.95, beside,
        )
        for of, bound in bounds.items()
    ]  # fmt: skip


def looks(teacher: Encoder, seen: Views) -> None:
    """The teacher's part of an epoch."""
    with torch.no_grad():
        for rows in shuffled_batches(len(seen), CONFIG.batch_size, 0, 0):
            teacher(seen.plain(rows))


def with_cache(
    teacher: Encoder, bank: FeatureBank, views: Views, made: Fabric, target: Encoder, goal: Objective
) -> float:
    """An epoch of step 2; the loss."""
    history = distill(
        made, teacher, target, goal, bank, views, paired(len(views)), CONFIG, 1, seed=0, session=Session()
    )
    assert history.last is not None
    return history.last


def recomputed(
    teacher: Encoder, bank: FeatureBank, seen: Views, views: Views, made: Fabric, target: Encoder, goal: Objective
) -> float:
    """The same steps, the teacher looking at each batch's pictures first; the loss."""
    pairs = paired(len(views))

    def make(epoch: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        for number, rows in enumerate(shuffled_batches(len(pairs), CONFIG.batch_size, 0, epoch)):
            with torch.no_grad():
                features = teacher(seen.plain(rows)).pooled
            x = views.augmented(rows, batch_seed(0, epoch, number), area_min=CONFIG.crop_min, flip=CONFIG.flip)
            yield len(rows), (x, features, *map(torch.from_numpy, (rows, pairs.group[rows], pairs.weight[rows])))

    recipe = Recipe(
        epochs=1, batch_size=CONFIG.batch_size, lr=CONFIG.peak_lr, weight_decay=CONFIG.weight_decay, ema=CONFIG.ema
    )
    history = teach(
        made, teacher, target, goal, recipe, make, bank=bank_features(bank, pairs),
        pairs=len(pairs), seed=0, session=Session(), title="", keys=lambda rows: [],
    )  # fmt: skip
    assert history.last is not None
    return history.last


def flops(network: Encoder, channels: int) -> int:
    """Of one picture's way forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, channels, SIZE, SIZE))
    return int(counter.get_total_flops())
