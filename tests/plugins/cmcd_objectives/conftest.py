"""Fixed inputs of the golden numbers, and deterministic random pairs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.append(str(Path(__file__).parent))  # for rivals.py: pytest's importlib mode leaves test folders out


@pytest.fixture(scope="session")
def fixed() -> SimpleNamespace:
    """X, Y (8 x 16), their unit rows A (source), B (target), and a queue Q (12 x 16), float64."""
    i = torch.arange(8, dtype=torch.float64)[:, None]
    q = torch.arange(12, dtype=torch.float64)[:, None]
    j = torch.arange(16, dtype=torch.float64)[None, :]
    x = torch.sin(0.7 * (i + 1) * (j + 1) + 0.3 * i) + 0.25 * torch.cos(1.3 * i - j)
    y = 0.6 * x + 0.8 * torch.cos(0.5 * (i + 1) * (j + 2) + 0.1 * j)
    queue = torch.sin(0.9 * (q + 1) * (j + 1) + 0.2 * j * q)

    def rows(t: torch.Tensor) -> torch.Tensor:
        return t / t.norm(dim=1, keepdim=True)

    return SimpleNamespace(X=x, Y=y, A=rows(x), B=rows(y), Q=rows(queue))


@pytest.fixture
def pairs() -> SimpleNamespace:
    """Aligned random pairs, N = 6, d = 5, with a queue of 4, groups and weights."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    a = draw(6, 5)
    return SimpleNamespace(
        a=a,
        b=a + 0.3 * draw(6, 5),
        wide=draw(6, 9),
        queue=draw(4, 5),
        queue_b=draw(4, 5),
        queue_wide=draw(4, 9),
        group=torch.tensor([0, 1, 0, 2, 1, 0]),
        weight=torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0, 0.25], dtype=torch.float64),
    )
