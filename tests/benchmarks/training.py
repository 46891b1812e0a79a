"""Step 2 beside a bare loop over the same batches, which lie ready in memory, and beside one batch again and again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from cmcd_core import Encoder, Objective
from cmcd_core.config import DistillConfig
from cmcd_core.progress import Progress
from cmcd_core.run_folder import RunFolder
from cmcd_core.stages.distill import Student, distill
from cmcd_core.stages.pairs import bank_features
from cmcd_core.stages.training import Plan, Session, batch_seed, shuffled_batches

from .measuring import Found, Row, added, alternating, at_least, at_most, both_clocks, middle, ratio, require
from .setting import Lesson, encoder, fabric, lesson, objective, same_weights

Batch = tuple[Tensor, ...]
CASES = (("slim ResNet (default)", None, 2048), ("ResNet-18", "resnet18", 512))
SHOWN = 8
"""Lines of the profile."""


def measure(repeats: int, quick: bool) -> Found:
    """Epochs of both, for the default student and a larger one."""
    found = Found()
    for name, architecture, count in CASES[:1] if quick else CASES:
        one = lesson("depth", 192 if quick else count, 64)
        rows, profiled = measure_student(name, one, partial(encoder, one.target, architecture), repeats)
        found.rows += rows
        found.details += profiled
    return found


def measure_student(name: str, given: Lesson, new: Callable[[], Encoder], repeats: int) -> tuple[list[Row], str]:
    """One student's rows, and where the time of its epoch goes."""
    config, count = DistillConfig(), len(given.pairs)
    batches = preloaded(given, config)

    def ready() -> tuple[Fabric, Encoder, Objective]:
        target = new()
        return fabric(), target, objective("cmd", given.bank.array.shape[-1], target.dim)

    (made, ours, goal), (_, bare, other) = ready(), ready()
    loss = step_two(given, config, made, ours, goal)
    require(abs(loss - bare_loop(given, config, batches, bare, other)) < 1e-5, "both losses are equal")
    require(same_weights(ours, bare, 1e-6), "step 2 and the bare loop end at the same weights")
    again = [batches[0]] * len(batches)
    taken = alternating(
        {
            "ours": lambda fabric, target, goal: step_two(given, config, fabric, target, goal),
            "bare": lambda fabric, target, goal: bare_loop(given, config, batches, target, goal),
            "constant": lambda fabric, target, goal: bare_loop(given, config, again, target, goal),
            "making": lambda *_: preloaded(given, config),
        },
        repeats,
        warm=False,
        ready=ready,
    )
    a, b, constant, making = taken["ours"], taken["bare"], taken["constant"], taken["making"]
    rows = [
        at_most(
            f"{name}, depth at 64 px: epoch of step 2 / bare loop over preloaded batches",
            ratio(a, b), 1.05, f"{middle(a):.2f} and {middle(b):.2f} s for {count} pairs; {both_clocks(a, b)}",
        ),
        at_most(
            f"{name}: the same, the making of the batches (crops, noise, holes, encoding) added to the bare loop",
            ratio(a, added(b, making)), 1.05,
            f"{middle(making):.2f} s to make them; {both_clocks(a, added(b, making))}",
        ),
        at_least(
            f"{name}: training images/s / the same student on one constant batch",
            ratio(constant, a), 0.9, f"{count / middle(a):,.0f} images/s; {both_clocks(constant, a)}",
        ),
    ]  # fmt: skip
    return rows, profile_of(name, lambda: step_two(given, config, *ready()))


def step_two(given: Lesson, config: DistillConfig, made: Fabric, target: Encoder, goal: Objective) -> float:
    """An epoch as a run does it, with its log and its checkpoint; the loss."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session.within(RunFolder(Path(folder)), "distill", "", Progress(), made)
        history = distill(
            made, target, target, goal, given.bank, given.views, given.pairs, config, 1, seed=0, session=session
        )
    assert history.last is not None
    return history.last


def preloaded(given: Lesson, config: DistillConfig) -> list[Batch]:
    """The very batches that step 2 draws in its first epoch."""
    chosen, out = np.random.default_rng([0, 0, 1]), []
    for number, rows in enumerate(shuffled_batches(len(given.pairs), config.batch_size, 0, 0)):
        view, at = chosen.integers(given.bank.views, size=len(rows)), given.pairs.source[rows]
        x = given.views.augmented(
            given.pairs.target[rows], batch_seed(0, 0, number), area_min=config.crop_min, flip=config.flip
        )
        about = map(torch.from_numpy, (rows, given.pairs.group[rows], given.pairs.weight[rows]))
        out.append((x, given.bank.pooled(view, at), *about))
    return out


def bare_loop(given: Lesson, config: DistillConfig, batches: list[Batch], target: Encoder, goal: Objective) -> float:
    """What anyone would write: no log, no checkpoint, no check; the loss."""
    goal.attach(target, target, bank=bank_features(given.bank, given.pairs), pairs=len(given.pairs), steps=len(batches))
    student = Student(target, goal, config.ema).train()
    decayed = [p for p in student.parameters() if p.ndim > 1]
    others = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.peak_lr, fused=True)
    plan = Plan(epochs=1, steps_per_epoch=len(batches), lr=config.peak_lr, weight_decay=config.weight_decay)
    total = torch.zeros(())
    for number, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = plan.lr_at(number)
        loss = student(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(batch[0])
    return float(total) / len(given.pairs)


def profile_of(name: str, go: Callable[[], Any]) -> str:
    """The operators that an epoch's processor time goes to, as a table."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        go()
    events = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = [f"| {event.key} | {event.self_cpu_time_total / total:.1%} | {event.count} |" for event in events[:SHOWN]]
    head = [
        "",
        f"Where an epoch of step 2 spends its time, {name}:",
        "",
        "| operator | share | calls |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *lines, ""])
