"""The one training loop: pretraining, distillation and the supervised baseline all run through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from ..data.seeds import seeded
from ..processes import led, several
from ..progress import Progress
from ..run_folder import RunFolder
from .keeping import CheckpointStore, Keeping
from .standing import Standing
from .watch import Watch

DROPOUT = 2**20
"""Where an epoch's seed for the network's own randomness lies, beyond any batch's number."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast: AdamW, linear warm-up over a twentieth of the steps, cosine to zero."""

    epochs: int
    steps_per_epoch: int
    lr: float
    weight_decay: float

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def lr_at(self, step: int) -> float:
        warm = max(1, self.steps // 20)
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a training tells the outside, and where it keeps its state.

    Attributes:
        progress: Bars and notes.
        log: Receives each epoch's numbers.
        rewind: Told from which epoch on numbers will be logged anew.
        store: Where checkpoints go; None keeps none.
        digest: Of everything that the training was made from: a checkpoint of another digest is not used.
    """

    progress: Progress = field(default_factory=Progress)
    log: Callable[[Mapping[str, Any]], None] = lambda values: None
    rewind: Callable[[int], None] = lambda epochs: None
    store: CheckpointStore | None = None
    digest: str = ""

    @classmethod
    def within(cls, folder: RunFolder, stage: str, digest: str, progress: Progress, fabric: Fabric) -> Session:
        """A training that logs and keeps its checkpoints in a run's folder; of several processes one does."""
        if not fabric.is_global_zero:
            return cls(progress=progress, digest=digest)
        return cls(
            progress=progress,
            log=lambda values: folder.log(stage, values),
            rewind=lambda epochs: folder.rewind_log(stage, epochs),
            store=folder.checkpoints(stage),
            digest=digest,
        )


@dataclass
class History:
    """Sample-weighted mean loss of each epoch."""

    losses: list[float] = field(default_factory=list)

    @property
    def last(self) -> float | None:
        return self.losses[-1] if self.losses else None


def fit(
    fabric: Fabric,
    module: nn.Module,
    plan: Plan,
    batches: Callable[[int], Iterable[tuple[int, tuple[Any, ...]]]],
    *,
    session: Session,
    title: str,
    seed: int = 0,
    after_step: Callable[[], None] = lambda: None,
    after_epoch: Callable[[], Mapping[str, float]] = dict,
    enough: Callable[[], bool] = lambda: False,
    scales: Mapping[str, float] | None = None,
    keys: Callable[[int, int], Sequence[str]] = lambda epoch, number: (),
) -> History:
    """Minimise ``module(*args)`` over ``batches(epoch)``, which yields (number of samples, args).

    Everything random in an epoch must follow from ``seed`` and its number alone; a resumed training then goes on as
    an uninterrupted one would. Checkpoints are written after each epoch, in long epochs now and then, and where a
    signal ends the training.

    Several processes take each step together. The samples are then counted over all of them, the loss is the same on
    all, and ``module`` is called with ``noise``, a seed for what a network draws on its own.

    Args:
        enough: Asked after each epoch; True ends the training early.
        scales: Parameter name -> its share of the learning rate; others take all of it.
        keys: Epoch and batch number -> the keys of that batch's samples.

    Raises:
        CmcdError: The loss is not finite; the last checkpoint stays.
    """
    fused = fabric.device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(_groups(module, plan.weight_decay, scales or {}), lr=plan.lr, fused=fused)
    standing = Standing(module, optimizer, fabric.device)
    _go_on(fabric, standing, session, title, plan)
    wrapped, fast = fabric.setup(module, optimizer)
    done = len(standing.losses) * plan.steps_per_epoch + standing.steps
    keeping = Keeping(fabric, session.store, session.digest, standing)
    with seeded(seed), session.progress.track(title, plan.steps - done) as advance, keeping:
        for epoch in range(len(standing.losses), plan.epochs):
            module.train()
            torch.manual_seed(batch_seed(seed, epoch, DROPOUT))
            watch = Watch(module, title, epoch, keys)
            for number, (count, args) in enumerate(batches(epoch)):
                if standing.drawn_again(number):
                    continue
                for group in optimizer.param_groups:
                    group["lr"] = group["share"] * plan.lr_at(epoch * plan.steps_per_epoch + number)
                own = {"noise": batch_seed(seed, epoch, DROPOUT + 1 + number)} if several(fabric) else {}
                loss = wrapped(*args, **own)
                watch.see(loss, number)
                fast.zero_grad()
                fabric.backward(loss)
                fast.step()
                after_step()
                standing.add(loss, count)
                last = f", loss {standing.losses[-1]:.3f}" if standing.losses else ""
                advance(1, f"epoch {epoch + 1}/{plan.epochs}{last}")
                keeping.step_done(watch)
            watch.look()
            session.log({"epoch": epoch, "loss": standing.end_epoch(), **after_epoch()})
            keeping.epoch_done()
            if enough():
                break
    return History(standing.losses)


def _go_on(fabric: Fabric, standing: Standing, session: Session, title: str, plan: Plan) -> None:
    """From the newest checkpoint that can be read, if there is one."""
    store = session.store
    if found := led(fabric, lambda: store.latest(session.digest, session.progress.note) if store else None):
        standing.restore(*found)
        within = f" and {standing.steps} steps" if standing.steps else ""
        session.progress.note(f"{title}: going on after epoch {len(standing.losses)} of {plan.epochs}{within}")
    session.rewind(len(standing.losses))


def shuffled_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """One epoch's batches: a permutation in nearly equal parts, so that no sample and no odd batch is left."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return np.array_split(order, steps_an_epoch(count, batch_size))


def batch_seed(seed: int, epoch: int, number: int) -> int:
    """The seed of one batch's augmentation."""
    return int(np.random.SeedSequence([seed, epoch, number]).generate_state(1)[0])


def steps_an_epoch(count: int, batch_size: int) -> int:
    """Batches in an epoch of :func:`shuffled_batches`; no batch has a single sample where there are two."""
    return max(1, min(math.ceil(count / batch_size), count // 2))


def _groups(module: nn.Module, weight_decay: float, scales: Mapping[str, float]) -> list[dict[str, Any]]:
    """One group a learning rate and decay; no decay on biases, normalisation and temperatures."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((scales.get(name, 1.0), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "share": share, "weight_decay": weight_decay if decays else 0.0}
        for (share, decays), parameters in sorted(groups.items(), key=lambda item: (-item[0][0], not item[0][1]))
    ]
