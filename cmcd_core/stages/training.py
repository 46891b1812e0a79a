"""The one training loop: pretraining, distillation and the supervised baseline all run through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..data.seeds import seeded
from ..errors import CmcdError
from ..progress import Progress
from ..run_folder import RunFolder

DROPOUT = 2**20
"""Where an epoch's seed for the network's own randomness lies, beyond any batch's number."""


class CheckpointStore(Protocol):
    """Where a training's state is kept between sessions."""

    def save(self, epoch: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None: ...

    def latest(self, digest: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None: ...


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
    def within(cls, folder: RunFolder, stage: str, digest: str, progress: Progress) -> Session:
        """A training that logs and keeps its checkpoints in a run's folder."""
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
) -> History:
    """Minimise ``module(*args)`` over ``batches(epoch)``, which yields (number of samples, args).

    Everything random in an epoch must follow from ``seed`` and its number alone; a resumed training then goes on as
    an uninterrupted one would.

    Args:
        enough: Asked after each epoch; True ends the training early.
        scales: Parameter name -> its share of the learning rate; others take all of it.

    Raises:
        CmcdError: The loss is not finite; the last checkpoint stays.
    """
    fused = fabric.device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(_groups(module, plan.weight_decay, scales or {}), lr=plan.lr, fused=fused)
    history = History()
    if session.store and (found := session.store.latest(session.digest)):
        _restore(module, optimizer, *found)
        history.losses = list(found[1]["losses"])
        session.progress.note(f"{title}: going on after epoch {len(history.losses)} of {plan.epochs}")
    session.rewind(len(history.losses))
    wrapped, fast = fabric.setup(module, optimizer)
    start = len(history.losses)
    with seeded(seed), session.progress.track(title, (plan.epochs - start) * plan.steps_per_epoch) as advance:
        for epoch in range(start, plan.epochs):
            module.train()
            total, seen = torch.zeros((), device=fabric.device), 0
            torch.manual_seed(batch_seed(seed, epoch, DROPOUT))
            for number, (count, args) in enumerate(batches(epoch)):
                for group in optimizer.param_groups:
                    group["lr"] = group["share"] * plan.lr_at(epoch * plan.steps_per_epoch + number)
                loss = wrapped(*args)
                fast.zero_grad()
                fabric.backward(loss)
                fast.step()
                after_step()
                total, seen = total + loss.detach().float() * count, seen + count
                last = f", loss {history.losses[-1]:.3f}" if history.losses else ""
                advance(1, f"epoch {epoch + 1}/{plan.epochs}{last}")
            mean = float(total) / max(1, seen)
            if not math.isfinite(mean):
                raise CmcdError(
                    f"{title}: the loss is not finite in epoch {epoch + 1}",
                    "Lower the learning rate, or raise the temperature.",
                )
            history.losses.append(mean)
            session.log({"epoch": epoch, "loss": mean, **after_epoch()})
            if session.store:
                meta = {"digest": session.digest, "losses": history.losses}
                session.store.save(epoch + 1, _state(module, optimizer), meta)
            if enough():
                break
    return history


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


def _state(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    out = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        out |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return out


def _restore(
    module: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> None:
    module.load_state_dict({n.removeprefix("module."): t for n, t in tensors.items() if n.startswith("module.")})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            like = parameters[int(index)]
            if tensor.shape == like.shape:  # fused steps walk memory: the moments must lie as the weights do
                tensor = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
