"""Step 2: distil the frozen source into the target encoder on unlabelled pairs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config import DistillConfig
from ..data.bank import FeatureBank
from ..data.views import Views
from ..errors import ConfigError
from ..interfaces.encoder import Encoder, Features
from ..interfaces.objective import Objective
from ..processes import gathered, own_randomness, require_two_each, share
from .pairs import Pairs, bank_features
from .training import History, Plan, Session, batch_seed, fit, shuffled_batches, steps_an_epoch

OFFERED = frozenset({"dense", "momentum"})


class Student(nn.Module):
    """The target encoder, the objective, and the EMA encoder where one is needed: what step 2 trains.

    Args:
        chunk: Most inputs that the encoder keeps its activations of at a time; None: all.
        fabric: Of the processes that share each batch; None: there is one.
    """

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        decay: float,
        chunk: int | None = None,
        fabric: Fabric | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.objective, self.decay, self.chunk, self.fabric = encoder, objective, decay, chunk, fabric
        self.momentum = copy.deepcopy(encoder).requires_grad_(False) if "momentum" in objective.needs else None

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        index: Tensor,
        group: Tensor,
        weight: Tensor,
        dense: Tensor | None = None,
        valid: Tensor | None = None,
        noise: int | None = None,
    ) -> Tensor:
        """(n, C, H, W) of this process' targets, (N, D) source features and (N, D', h, w) source maps -> scalar loss.

        The loss is that of the whole batch of N pairs, and the same on every process.

        Args:
            valid: (n, h, w) share of these targets' pixels under each cell that hold a measurement.
            noise: Seed of what the encoder draws on its own; None: there is one process, and its stream serves.
        """
        smooth = None
        with own_randomness(self.fabric, noise):
            seen = self._encoded(x)
            if self.momentum is not None:
                with torch.no_grad():
                    smooth = self.momentum(x).pooled
        given = Features(pooled=source, dense=dense, index=index, group=group, weight=weight)
        maps = seen.dense
        if dense is not None:
            if maps is None:
                raise ConfigError("the objective needs dense features, and the target encoder has none")
            maps = F.adaptive_avg_pool2d(maps, (dense.shape[-2], dense.shape[-1]))
        learnt = replace(
            given,
            pooled=gathered(self.fabric, seen.pooled, len(source)),
            dense=self._whole(maps if dense is not None else None, len(source)),
            momentum=self._whole(smooth, len(source)),
            valid=self._whole(valid, len(source)),
        )
        loss: Tensor = self.objective(given, learnt)
        if loss.ndim:
            raise ConfigError(f"the objective returned a tensor of shape {tuple(loss.shape)}, expected a scalar")
        return loss

    def _whole(self, rows: Tensor | None, count: int) -> Tensor | None:
        return None if rows is None else gathered(self.fabric, rows, count)

    def _encoded(self, x: Tensor) -> Features:
        """The encoder's features; in chunks, each is computed again for its part of the backward pass."""
        if self.chunk is None or len(x) <= self.chunk:
            return self.encoder(x)  # type: ignore[no-any-return]
        parts: list[Features] = [
            checkpoint(
                self.encoder, part, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_kept(self))
            )
            for part in x.tensor_split(steps_an_epoch(len(x), self.chunk))  # as for batches: none of a single sample
        ]
        dense = [part.dense for part in parts if part.dense is not None]
        return Features(pooled=torch.cat([part.pooled for part in parts]), dense=torch.cat(dense) if dense else None)

    @torch.no_grad()
    def after_step(self) -> None:
        """Objective's queues, then the moving average."""
        self.objective.after_step()
        if self.momentum is not None:
            for average, weight in zip(self.momentum.parameters(), self.encoder.parameters(), strict=True):
                average.lerp_(weight, 1 - self.decay)
            for copied, buffer in zip(self.momentum.buffers(), self.encoder.buffers(), strict=True):
                copied.copy_(buffer)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """What is computed again must not count twice in BatchNorm's running statistics."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How step 2 trains: the optimiser's part of ``[distill]``."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    ema: float
    chunk: int | None = None


def teach(
    fabric: Fabric,
    source: Encoder,
    target: Encoder,
    objective: Objective,
    recipe: Recipe,
    batches: Callable[[int], Iterator[tuple[int, tuple[Any, ...]]]],
    *,
    bank: Features,
    pairs: int,
    seed: int,
    session: Session,
    title: str = "2 distil into target",
    keys: Callable[[np.ndarray], Sequence[str]],
) -> History:
    """Train ``target`` and the objective's heads in place; ``source`` is only read.

    Args:
        batches: Epoch -> (number of pairs, the arguments of :meth:`Student.forward`) of each batch.
        bank: The source's features of the ``pairs`` pairs, unpaired source samples after them.
        keys: (n,) numbers of pairs -> their samples' keys.

    Raises:
        ConfigError: The objective needs features that step 2 does not hand over.
    """
    if missing := objective.needs - OFFERED:
        raise ConfigError(
            f"the objective needs {', '.join(sorted(missing))} features, which step 2 does not hand over",
            "This version offers pooled, dense and momentum features.",
        )
    plan = Plan(
        epochs=recipe.epochs,
        steps_per_epoch=steps_an_epoch(pairs, recipe.batch_size),
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
    )
    require_two_each(fabric, pairs // plan.steps_per_epoch, "--batch-size")
    objective.attach(source, target, bank=bank, pairs=pairs, steps=plan.steps)
    student = Student(target, objective, recipe.ema, recipe.chunk, fabric)
    return fit(
        fabric,
        student,
        plan,
        batches,
        seed=seed,
        session=session,
        title=title,
        after_step=student.after_step,
        after_epoch=objective.diagnostics,
        keys=lambda epoch, number: keys(shuffled_batches(pairs, recipe.batch_size, seed, epoch)[number]),
    )


def distill(
    fabric: Fabric,
    source: Encoder,
    target: Encoder,
    objective: Objective,
    bank: FeatureBank,
    views: Views,
    pairs: Pairs,
    config: DistillConfig,
    epochs: int,
    *,
    seed: int,
    session: Session,
    title: str = "2 distil into target",
) -> History:
    """:func:`teach` from decoded views: each sample's source features come from its bank, its target is augmented."""

    def make(epoch: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        chosen_views = np.random.default_rng([seed, epoch, 1])
        for number, rows in enumerate(shuffled_batches(len(pairs), config.batch_size, seed, epoch)):
            view, at = chosen_views.integers(bank.views, size=len(rows)), pairs.source[rows]
            given = [bank.pooled(view, at), *map(torch.from_numpy, (rows, pairs.group[rows], pairs.weight[rows]))]
            # Maps must show the same places; pooled features need not.
            geometry, own = bank.geometry(view, at) if bank.geometries is not None else None, share(fabric, len(rows))
            x = views.drawn(
                pairs.target[rows],
                batch_seed(seed, epoch, number),
                area_min=config.crop_min,
                flip=config.flip,
                geometry=geometry,
                own=own,
            )
            if bank.maps is not None:
                given.append(bank.dense(view, at))
                if (valid := views.modality.valid(x)) is not None:
                    given.append(F.adaptive_avg_pool2d(valid[:, None].float(), bank.maps.shape[-2:])[:, 0])
            yield len(rows), (views.encoded(x), *(tensor.to(x.device) for tensor in given))

    recipe = Recipe(
        epochs=epochs,
        batch_size=config.batch_size,
        lr=config.peak_lr,
        weight_decay=config.weight_decay,
        ema=config.ema,
        chunk=config.chunk,
    )
    whole = bank_features(bank, pairs)
    target = target.to(memory_format=torch.channels_last)
    return teach(
        fabric, source, target, objective, recipe, make, bank=whole, pairs=len(pairs), seed=seed,
        session=session, title=title, keys=lambda rows: views.keys(pairs.target[rows]),
    )  # fmt: skip
