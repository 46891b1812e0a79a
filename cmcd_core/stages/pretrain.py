"""Step 1: self-supervised contrastive training of the source encoder (SimCLR), labels unused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..config import PretrainConfig
from ..data.seeds import seeded
from ..data.views import Views
from ..errors import DataError
from ..interfaces.encoder import Encoder, Features
from ..interfaces.objective import Objective
from ..processes import gathered, own_randomness, require_two_each, share
from .training import History, Plan, Session, batch_seed, fit, shuffled_batches, steps_an_epoch

HEAD_WIDTH = 128


class Contrast(nn.Module):
    """Encoder, projection head (d -> d -> 128, dropped afterwards) and NT-Xent over two views."""

    def __init__(self, fabric: Fabric, encoder: Encoder, objective: Objective) -> None:
        super().__init__()
        self.fabric, self.encoder, self.objective = fabric, encoder, objective
        self.head = nn.Sequential(
            nn.Linear(encoder.dim, encoder.dim, bias=False),
            nn.BatchNorm1d(encoder.dim),
            nn.ReLU(inplace=True),
            nn.Linear(encoder.dim, HEAD_WIDTH, bias=False),
            nn.BatchNorm1d(HEAD_WIDTH),
        )

    def forward(self, first: Tensor, second: Tensor, count: int, noise: int | None = None) -> Tensor:
        """Two (n, C, H, W) views of this process' samples -> scalar loss of the batch's ``count`` samples.

        One pass: BatchNorm sees both views together.
        """
        with own_randomness(self.fabric, noise):
            pooled = self.encoder(torch.cat([first, second])).pooled
        both = torch.cat([gathered(self.fabric, side, count) for side in pooled.chunk(2)])
        one, other = self.head(both).chunk(2)
        loss: Tensor = self.objective(Features(pooled=one), Features(pooled=other))
        return loss


def pretrain(
    fabric: Fabric,
    encoder: Encoder,
    objective: Objective,
    views: Views,
    config: PretrainConfig,
    epochs: int,
    *,
    seed: int,
    session: Session,
    title: str,
) -> History:
    """Train ``encoder`` in place on two random views of each sample; its head is thrown away.

    Raises:
        DataError: There are fewer than two samples.
        ConfigError: A process has fewer than two samples of a batch.
    """
    count = len(views)
    if count < 2:
        raise DataError(f"step 1 needs at least 2 source samples, there are {count}")
    plan = Plan(
        epochs=epochs,
        steps_per_epoch=steps_an_epoch(count, config.batch_size),
        lr=config.lr,
        weight_decay=config.weight_decay,
    )
    require_two_each(fabric, count // plan.steps_per_epoch, "pretrain.batch_size")
    make = _two_views(fabric, views.at(config.crop_size or max(16, views.size * 2 // 3)), config, seed)
    with seeded(seed):
        module = Contrast(fabric, encoder, objective).to(memory_format=torch.channels_last)

    def keys(epoch: int, number: int) -> list[str]:
        return views.keys(shuffled_batches(count, config.batch_size, seed, epoch)[number])

    return fit(fabric, module, plan, make, seed=seed, session=session, title=title, keys=keys)


def _two_views(
    fabric: Fabric, views: Views, config: PretrainConfig, seed: int
) -> Callable[[int], Iterator[tuple[int, tuple[Any, ...]]]]:
    def make(epoch: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        for number, rows in enumerate(shuffled_batches(len(views), config.batch_size, seed, epoch)):
            at, own = batch_seed(seed, epoch, number), share(fabric, len(rows))
            one, other = (  # 2 apart: a batch takes a seed and the one after it
                views.augmented(rows, at + side, area_min=config.crop_min, flip=config.flip, own=own) for side in (0, 2)
            )
            yield len(rows), (one, other, len(rows))

    return make
