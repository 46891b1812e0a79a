"""Laws whose distances are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="session")
def shifted() -> Draw:
    """``shifted(n, d, by)``: n draws of N(0, I) in d dimensions, and n more, moved by ``by`` along the first axis."""

    def draw(n: int, d: int, by: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        a, b = generator.standard_normal((n, d)), generator.standard_normal((n, d))
        b[:, 0] += by
        return a, b

    return draw


@pytest.fixture(scope="session")
def golden_inputs() -> tuple[np.ndarray, np.ndarray]:
    """X and Y, (8, 16), of the golden numbers."""
    i, j = np.arange(8)[:, None], np.arange(16)
    x = np.sin(0.7 * (i + 1) * (j + 1) + 0.3 * i) + 0.25 * np.cos(1.3 * i - j)
    return x, 0.6 * x + 0.8 * np.cos(0.5 * (i + 1) * (j + 2) + 0.1 * j)
