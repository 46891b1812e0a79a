"""Small encoders, synthetic pairs that share a latent, and a training that can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cmcd_core import Encoder, Features, Modality, Sample
from cmcd_core.data.bank import FeatureBank, feature_bank
from cmcd_core.data.decoded import BoundModality, decode_views
from cmcd_core.data.views import Views
from cmcd_core.progress import Progress
from cmcd_core.run_folder import Checkpoints
from cmcd_core.stages.training import Session


class Vectors(Modality):
    """(1, 1, D) arrays: no picture, nothing is cropped."""

    spatial, channels = False, 1

    def decode(self, raw: Any) -> Tensor:
        return torch.from_numpy(raw)


class Net(Encoder):
    """Two layers with a BatchNorm between them, on (N, 1, 1, width)."""

    channels = 1

    def __init__(self, width: int, dim: int, seed: int, hidden: int = 64) -> None:
        super().__init__()
        self.dim = dim
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim)
            )

    def forward(self, x: Tensor) -> Features:
        return Features(pooled=self.layers(x.flatten(1)))


class Identity(Encoder):
    """The source whose features are its input: the best teacher there is. It has a BatchNorm all the same."""

    channels = 1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dim = width
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Features:
        return Features(pooled=self.norm(x.flatten(1)))


class StoppedError(Exception):
    """The process was interrupted."""


@dataclass
class Recorder:
    """A session whose log can end the training after so many epochs."""

    folder: Path
    stop_after: int | None = None
    digest: str = "d"
    logged: list[dict[str, Any]] = field(default_factory=list)
    rewound: list[int] = field(default_factory=list)

    def session(self) -> Session:
        return Session(
            log=self._log, rewind=self.rewound.append, store=Checkpoints(self.folder, "step"), digest=self.digest
        )

    def _log(self, values: Mapping[str, Any]) -> None:
        self.logged.append(dict(values))
        if self.stop_after is not None and values["epoch"] + 1 > self.stop_after:
            raise StoppedError


def views_of(arrays: np.ndarray, name: str, keep: np.ndarray | None = None) -> Views:
    """Views of the rows in ``keep`` (default: all) of (N, D) vectors."""
    kept = set(range(len(arrays)) if keep is None else keep.tolist())
    samples = [Sample(str(i), {name: row[None, None]} if i in kept else {}) for i, row in enumerate(arrays)]
    bound = BoundModality(name, {"name": name}, Vectors())
    decoded = decode_views(samples, bound, 16, on_error="fail", progress=Progress(), title="")
    return Views(decoded, bound, 16, torch.device("cpu"))


def bank_of(source: Encoder, views: Views, count: int = 1) -> FeatureBank:
    return feature_bank(source, views, count=count, seed=0, area_min=1, flip=False, progress=Progress(), title="")


@pytest.fixture(scope="session")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture
def small() -> SimpleNamespace:
    """What the tests of this room are made of."""
    return SimpleNamespace(
        Vectors=Vectors,
        Net=Net,
        Identity=Identity,
        StoppedError=StoppedError,
        Recorder=Recorder,
        views=views_of,
        bank=bank_of,
    )


@pytest.fixture
def recorder(tmp_path: Path) -> Callable[..., Recorder]:
    """``recorder(stop_after=k)``: sessions that share one folder of checkpoints."""
    return lambda **kwargs: Recorder(tmp_path / "checkpoints", **kwargs)
