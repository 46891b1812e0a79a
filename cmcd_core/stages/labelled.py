"""What step 3 works on: one modality's views with a task's targets, split by split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..data.digest import digest, list_digest
from ..data.targets import Targets, read_targets
from ..data.views import Views
from ..errors import DataError
from ..interfaces.loader import Sample
from ..interfaces.task import Task


@dataclass(frozen=True)
class Labelled:
    """One split: views of one modality that have the task's target.

    Attributes:
        rows: (n,) positions among the views.
        strata: Each one's class for label subsets; None where the task has none.
    """

    views: Views
    rows: np.ndarray
    targets: Targets
    strata: tuple[int | None, ...]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int = 256) -> Iterator[Tensor]:
        """Whole pictures, ready for an encoder, in the order of ``targets``."""
        return self.views.chunks(size, rows=self.rows)


def labelled(
    samples: Sequence[Sample], views: Views, task: Task, classes: Sequence[str] | None, identity: object
) -> Labelled:
    """The views whose samples carry the task's target.

    Raises:
        DataError: There is none, or a target cannot be read.
    """
    rows, values = [], []
    for position, row in enumerate(views.decoded.rows.tolist()):
        if (value := samples[row].targets.get(task.target_name)) is not None:
            rows.append(position)
            values.append(value)
    if not rows:
        raise DataError(f"no sample of this split has a {task.target_name!r}")
    keys = tuple(samples[views.decoded.rows[row]].key for row in rows)
    targets = read_targets(task, classes, keys, values, views.decoded.array.shape[-1], identity)
    strata = (None,) * len(rows) if task.spatial else tuple(map(task.stratum, targets.at(np.arange(len(rows)))))
    return Labelled(views, np.asarray(rows), targets, strata, keys)


@dataclass(frozen=True)
class Splits:
    """Train, val and test of one modality and task, and the classes' names."""

    train: Labelled
    val: Labelled
    test: Labelled
    classes: tuple[str, ...] | None

    @property
    def digest(self) -> str:
        """Of every view and target: scores of other data are other scores."""
        parts = (self.train, self.val, self.test)
        return digest(
            [
                [p.views.decoded.digest, p.views.size, p.rows.tolist(), list_digest(p.keys), p.targets.digest]
                for p in parts
            ]
        )
