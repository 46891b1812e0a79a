"""Modalities small enough to know every number of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmcd_core import Modality, Sample
from cmcd_core.data.decoded import BoundModality, DecodedViews, decode_views
from cmcd_core.progress import Progress


class Plain(Modality):
    """(C, H, W) arrays or .npy files, as they are; counts what it decodes."""

    channels = 2

    def __init__(self) -> None:
        self.decoded: list[Any] = []

    def decode(self, raw: Path | bytes | np.ndarray) -> torch.Tensor:
        self.decoded.append(raw)
        if isinstance(raw, bytes):
            return torch.from_numpy(np.frombuffer(raw, dtype=np.float32).copy().reshape(2, 8, 8))
        return torch.from_numpy(np.load(raw) if isinstance(raw, Path) else raw.copy())


def bind(modality: Modality, name: str = "plain", **options: Any) -> BoundModality:
    return BoundModality(name, {"plugin": "test", "version": "0", "name": name, "options": options}, modality)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test alone."""
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def plain() -> Plain:
    return Plain()


@pytest.fixture
def decode(cache: Path) -> Callable[..., DecodedViews]:
    """``decode(samples, modality, size=8, on_error="fail", name="plain", **options)``."""

    def run(
        samples: list[Sample], modality: Modality, size: int = 8, on_error: Any = "fail", name: str = "plain", **o: Any
    ) -> DecodedViews:
        bound = bind(modality, name, **o)
        return decode_views(samples, bound, size, on_error=on_error, progress=Progress(), title="decode")

    return run


@pytest.fixture
def files(tmp_path: Path) -> Callable[[int], list[Sample]]:
    """Samples over .npy files of (2, 8, 8) random numbers."""

    def make(count: int) -> list[Sample]:
        rng = np.random.default_rng(0)
        out = []
        for number in range(count):
            path = tmp_path / f"{number}.npy"
            np.save(path, rng.random((2, 8, 8), dtype=np.float32))
            out.append(Sample(f"key{number}", {"plain": path}))
        return out

    return make
