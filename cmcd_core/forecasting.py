"""What a forecast is made from: a source encoder's features, plain target inputs, and counts. Nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .data.arrays import evenly
from .errors import ConfigError, DataError
from .grammar import parse_labels
from .interfaces.encoder import pooled
from .served import classes_of, served_tasks
from .theory.distance import linear_cka
from .theory.forecast import features
from .theory.samples import Floats, shares_behind
from .workbench import Workbench, frozen

MOST = 400
"""Training pairs that are looked at; with fewer than ``LEAST`` nothing could be said."""
LEAST = 32
SIDE = 16
"""Plain target inputs are looked at so small."""
FOLDS = 5
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Prospect:
    """What is known of data before any training.

    Attributes:
        pairs: Training pairs, all of them.
        looked_at: Those that were measured.
        classes: Of the task.
        explained, partner_rank, dependence: As :data:`cmcd_core.theory.forecast.FEATURES` has them.
    """

    pairs: int
    looked_at: int
    classes: int
    explained: float
    partner_rank: float
    dependence: float

    def features(self, labels: float) -> dict[str, float]:
        """Those of a forecast at so many labels a class."""
        return features(
            pairs=self.pairs,
            labels=labels,
            classes=self.classes,
            explained=self.explained,
            partner_rank=self.partner_rank,
            dependence=self.dependence,
        )


def prospect(bench: Workbench, classes: int | None = None) -> Prospect:
    """Look at up to 400 training pairs.

    Args:
        bench: Of a configuration with a teacher.
        classes: How many the task will have; None: as the data say.

    Raises:
        ConfigError: There is no teacher, or nobody knows the number of classes.
        DataError: Fewer than 32 pairs.
    """
    if not bench.teachers:
        raise ConfigError(
            "a forecast needs a source encoder",
            "Name a run's folder whose step 1 is done, or --teacher efficientnet-lite0.",
        )
    classes = classes or _known_classes(bench)
    pairs = bench.paired()
    if len(pairs) < LEAST:
        raise DataError(f"{bench.resolved.main.name}: {len(pairs)} training pairs, and a forecast needs {LEAST}")
    chosen = [pairs[at] for at in evenly(len(pairs), MOST)]
    first = bench.part("source", chosen, bench.source_size)
    second = bench.part("target", chosen, bench.size)
    _, at_first, at_second = np.intersect1d(first.decoded.rows, second.decoded.rows, return_indices=True)
    a = torch.cat(
        [_standard(pooled(frozen(bench, teacher), first.chunks(rows=at_first))) for teacher in bench.teachers], dim=1
    )
    b = torch.cat([_plain(batch) for batch in second.chunks(rows=at_second)])
    return Prospect(len(pairs), len(a), classes, *statistics(a.numpy(), b.numpy()))


def labels_a_class(bench: Workbench, budget: str, classes: int) -> float:
    """A label budget as labels a class: ``"5"`` is 5, ``"10%"`` a tenth of the training labels over the classes."""
    count, share = parse_labels(budget)
    if count is not None:
        return float(count)
    for _, task in served_tasks(bench):
        labelled = sum(task.target_name in sample.targets for sample in bench.samples("evaluate", "train"))
        return max(1.0, (share or 0) * labelled / classes)
    raise ConfigError(f"--labels {budget}: the data have no labels to take a share of", "Pass a number a class.")


def _known_classes(bench: Workbench) -> int:
    """Of the first task that tells classes apart."""
    for _, task in served_tasks(bench):
        if not task.spatial and (names := classes_of(bench, task)):
            return len(names)
    raise ConfigError(
        "the data have no labels, so that nobody knows how many classes there will be", "Pass --classes N."
    )


def statistics(a: Floats, b: Floats) -> tuple[float, float, float]:
    """How much of the source the plain target tells.

    A map from target to source is fitted by kernel ridge regression (Gaussian kernel, median heuristic, the best of
    five penalties), and judged on pairs left out, a fifth at a time.

    Args:
        a: (n, d) source features.
        b: (n, m) plain target inputs of the same pairs.

    Returns:
        The share of the variance of a that the map explains; the share of other left-out pairs that it puts farther
        away than the partner, 0.5 by chance; unbiased linear CKA.
    """
    kernel = _kernel(b)
    folds = np.random.default_rng(0).permutation(len(a)) % FOLDS
    guesses = np.zeros((len(PENALTIES), *a.shape))
    means = np.zeros_like(a)
    for fold in range(FOLDS):
        out, kept = folds == fold, folds != fold
        means[out] = a[kept].mean(0)
        inner, outer = kernel[np.ix_(kept, kept)], kernel[np.ix_(out, kept)]
        for number, penalty in enumerate(PENALTIES):
            dual = np.linalg.solve(inner + penalty * np.eye(len(inner)), a[kept] - means[out][0])
            guesses[number, out] = outer @ dual
    centred = a - means
    spread = float(np.square(centred).sum()) or 1.0
    errors = [float(np.square(guess - centred).sum()) / spread for guess in guesses]
    best = guesses[int(np.argmin(errors))]
    ranks = np.concatenate([shares_behind(best[folds == fold], centred[folds == fold]) for fold in range(FOLDS)])
    return 1 - min(errors), float(ranks.mean()), linear_cka(a, b, unbiased=True).value


def _kernel(b: Floats) -> Floats:
    lengths = np.square(b).sum(1)
    squares = np.maximum(0, lengths[:, None] + lengths[None] - 2 * b @ b.T)
    return np.asarray(np.exp(-squares / max(float(np.median(squares)), 1e-9)))


def _standard(x: Tensor) -> Tensor:
    """Centred, at a mean squared length of 1."""
    x = (x - x.mean(0)).double()
    return x / x.square().sum(1).mean().sqrt().clamp_min(1e-12)


def _plain(batch: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C · 16 · 16), averaged down."""
    return F.adaptive_avg_pool2d(batch.float(), SIDE).flatten(1).double().cpu()
