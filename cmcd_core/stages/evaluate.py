"""Step 3 on a frozen encoder: linear evaluation and nearest neighbours, on features computed once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.seeds import seeded
from ..interfaces.encoder import Encoder, Features
from ..interfaces.task import Task
from .labelled import Labelled, Splits
from .scoring import Draw, Scores, judge, own_metrics, score, summarise

L2_STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3)
"""Candidates for the linear head's penalty on unit-variance features, strongest first; chosen on val."""
NEIGHBOURS = (1, 5, 20)
"""Candidates for the number of nearest neighbours; chosen on val."""
CHUNK = 64
"""So many samples' maps go through a head at a time."""
Subsets = Mapping[str, Sequence[np.ndarray]]


class CachedFeatures(NamedTuple):
    """(n, …) features of some samples, part by part: pooled first, then what else the task's head reads."""

    parts: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def at(self, rows: Tensor) -> CachedFeatures:
        """The features of some samples."""
        return CachedFeatures(tuple(part[rows] for part in self.parts))

    def features(self, start: int = 0, stop: int | None = None) -> Features:
        """As an encoder gives them; the last map of several is the dense one."""
        pooled, *maps = (part[start:stop] for part in self.parts)
        return Features(pooled=pooled, dense=maps[-1] if maps else None, pyramid=tuple(maps[:-1]) or None)


def parts_of(features: Features, task: Task) -> tuple[Tensor, ...]:
    """Pooled features, and the maps that the task's head reads, fine to coarse."""
    needs = task.needs | ({"dense", "pyramid"} if task.spatial else set())
    pyramid = (features.pyramid or ()) if "pyramid" in needs else ()
    dense = (features.dense,) if features.dense is not None and needs else ()
    return (features.pooled, *pyramid, *dense)


@dataclass(frozen=True)
class Cached:
    """What an encoder says of each split, and the training features' mean and deviation, channel by channel.

    ``place`` finds a training row among ``train``, which holds only rows that some label subset has.
    """

    train: CachedFeatures
    val: CachedFeatures
    test: CachedFeatures
    place: Tensor
    mean: tuple[Tensor, ...]
    std: tuple[Tensor, ...]


@torch.no_grad()
def cached(encoder: Encoder, task: Task, splits: Splits, subsets: Subsets) -> Cached:
    """Features of whole pictures, float32 on the CPU. The mean and deviation are those of all training views."""
    encoder.eval()
    wanted = np.unique(np.concatenate([rows for draws in subsets.values() for rows in draws]))
    place = torch.full((len(splits.train),), -1)
    place[wanted] = torch.arange(len(wanted))
    kept: list[tuple[Tensor, ...]] = []
    moments: list[list[Tensor]] = []  # one list a batch, one (3, channels) tensor a part
    start = 0
    for parts in _batches(encoder, task, splits.train):
        moments.append([_moments(part) for part in parts])
        here = (place[start : start + len(parts[0])] >= 0).nonzero().flatten()
        kept.append(tuple(part[here] for part in parts))
        start += len(parts[0])
    counts, sums, squares = zip(*(torch.stack(part).sum(0) for part in zip(*moments, strict=True)), strict=True)
    mean = [total / count for total, count in zip(sums, counts, strict=True)]
    std = [(s / n - m.square()).clamp_min(0).sqrt() for s, n, m in zip(squares, counts, mean, strict=True)]
    return Cached(
        _together(kept),
        _together(_batches(encoder, task, splits.val)),
        _together(_batches(encoder, task, splits.test)),
        place,
        tuple(each.float() for each in mean),
        tuple(each.float() + 1e-6 for each in std),
    )


def _moments(part: Tensor) -> Tensor:
    """(n, channels, …) -> (3, channels) float64: count, sum and sum of squares."""
    flat = part.transpose(0, 1).flatten(1).double()
    return torch.stack([torch.full((len(flat),), flat.shape[1], dtype=flat.dtype), flat.sum(1), flat.square().sum(1)])


def _batches(encoder: Encoder, task: Task, part: Labelled) -> Iterator[tuple[Tensor, ...]]:
    for batch in part.batches():
        yield tuple(each.float().cpu() for each in parts_of(encoder(batch), task))


def _together(batches: Iterator[tuple[Tensor, ...]] | list[tuple[Tensor, ...]]) -> CachedFeatures:
    return CachedFeatures(tuple(torch.cat(parts) for parts in zip(*batches, strict=True)))


class Standardised(nn.Module):
    """A head behind the features' standardisation, channel by channel (no labels used)."""

    def __init__(self, head: nn.Module, mean: Sequence[Tensor], std: Sequence[Tensor]) -> None:
        super().__init__()
        self.head, self.parts = head, len(mean)
        for number, (centre, spread) in enumerate(zip(mean, std, strict=True)):
            self.register_buffer(f"mean{number}", centre)
            self.register_buffer(f"std{number}", spread)

    def forward(self, features: Features) -> Tensor:
        given = [features.pooled, *(features.pyramid or ()), *([] if features.dense is None else [features.dense])]
        mean, std = ([self.get_buffer(f"{name}{n}") for n in range(self.parts)] for name in ("mean", "std"))
        output: Tensor = self.head(standardised(CachedFeatures(tuple(given[: self.parts])), mean, std).features())
        return output


def standardised(frozen: CachedFeatures, mean: Sequence[Tensor], std: Sequence[Tensor]) -> CachedFeatures:
    """Each part minus its channels' mean, over their deviation."""
    shaped = (
        (part, *(each.view(-1, *[1] * (part.ndim - 2)) for each in (centre, spread)))
        for part, centre, spread in zip(frozen.parts, mean, std, strict=True)
    )
    return CachedFeatures(tuple((part - centre) / spread for part, centre, spread in shaped))


def linear(encoder: Encoder, task: Task, splits: Splits, subsets: Subsets, seed: int) -> Iterator[tuple[str, Scores]]:
    """Linear evaluation of a frozen encoder for each label budget in turn, each averaged over its subsets.

    Features are computed once. The penalty is chosen on val in each draw. The encoder is left bit for bit as it was.
    """
    known, metrics = cached(encoder, task, splits, subsets), own_metrics(task, splits)

    def one_draw(rows: np.ndarray) -> Draw:
        targets = _training_targets(splits.train, rows)
        train = standardised(known.train.at(known.place[rows]), known.mean, known.std)
        best: tuple[float, nn.Module, float] | None = None
        head = Standardised(fresh_head(task, encoder, splits, seed), known.mean, known.std)
        for strength in L2_STRENGTHS:
            _solve(head.head, task, train, targets, strength)
            reached = score(task, splits, splits.val, _outputs(head, known.val), metrics)
            if best is None or reached > best[0]:
                best = (reached, copy.deepcopy(head), strength)
        assert best is not None
        return Draw(best[1], judge(task, splits, splits.test, _outputs(best[1], known.test)), best[2], best[0])

    for budget, draws in subsets.items():
        yield budget, summarise(task, splits, [one_draw(rows) for rows in draws], draws, seed)


def _training_targets(part: Labelled, rows: np.ndarray) -> Tensor:
    """What a head is solved on. Masks at half the size that encoders see: their maps have a quarter of it at most."""
    if not part.targets.spatial:
        return part.targets.at(rows)
    return part.targets.cropped(rows, None, max(1, part.views.size // 2))


def _outputs(head: nn.Module, frozen: CachedFeatures) -> Iterator[Tensor]:
    with torch.no_grad():
        for start in range(0, len(frozen), CHUNK):
            yield head(frozen.features(start, start + CHUNK))


def _solve(head: nn.Module, task: Task, frozen: CachedFeatures, targets: Tensor, strength: float) -> None:
    """Minimise the task's loss plus strength/2·‖w‖² by L-BFGS, from where the head stands (a stronger penalty's).

    ``frozen`` is standardised already.
    """
    weights = [p for p in head.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(weights, lr=1.0, max_iter=40, tolerance_grad=1e-4, line_search_fn="strong_wolfe")
    chunk = CHUNK if task.spatial else len(frozen)

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty: Tensor = strength / 2 * sum((p.square().sum() for p in weights if p.ndim > 1), torch.zeros(()))
        total = torch.zeros(())
        for start in range(0, len(frozen), chunk):
            part = targets[start : start + chunk]
            loss = task.loss(head(frozen.features(start, start + chunk)), part) * len(part) / len(frozen)
            loss = loss if start else penalty + loss
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def fresh_head(task: Task, encoder: Encoder, splits: Splits, seed: int) -> nn.Module:
    """The task's head for frozen encoders, its weights from ``seed``."""
    with seeded(seed):
        return task.head(encoder, splits.classes)


def nearest_neighbours(
    encoder: Encoder, task: Task, splits: Splits, subsets: Subsets, seed: int
) -> Iterator[tuple[str, Scores]]:
    """Votes of the nearest labelled samples by cosine, each worth exp(cosine/0.07); their number is chosen on val.

    Outputs are log shares of the votes, (n, classes). After Wu et al., arXiv 1805.01978, section 3.4.
    """
    known, metrics = cached(encoder, task, splits, subsets), own_metrics(task, splits)
    strata = torch.tensor([-1 if stratum is None else stratum for stratum in splits.train.strata])
    classes = len(splits.classes) if splits.classes else int(strata.max()) + 1

    def unit(frozen: CachedFeatures) -> Tensor:
        return F.normalize((frozen.parts[0] - known.mean[0]) / known.std[0], dim=1)

    train, val, test = unit(known.train), unit(known.val), unit(known.test)

    def one_draw(rows: np.ndarray) -> Draw:
        near, labels = train[known.place[rows]], strata[rows]
        best: tuple[float, int] | None = None
        for count in sorted({min(count, len(rows)) for count in NEIGHBOURS}):
            votes = _votes(val, near, labels, count, classes)
            reached = score(task, splits, splits.val, [votes], metrics)
            if best is None or reached > best[0]:
                best = (reached, count)
        assert best is not None
        votes = _votes(test, near, labels, best[1], classes)
        return Draw(nn.Identity(), judge(task, splits, splits.test, [votes]), float(best[1]), best[0])

    for budget, draws in subsets.items():
        yield budget, summarise(task, splits, [one_draw(rows) for rows in draws], draws, seed)


def _votes(queries: Tensor, near: Tensor, labels: Tensor, count: int, classes: int) -> Tensor:
    """(n, D), (m, D), (m,) -> (n, classes) log shares of the votes of the ``count`` nearest."""
    cosines, which = (queries @ near.T).topk(count, dim=1)
    shares = torch.zeros(len(queries), classes).scatter_add_(1, labels[which], (cosines / 0.07).softmax(dim=1))
    return (shares + 1e-6).log()
