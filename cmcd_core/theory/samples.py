"""Samples of features: checked, read in blocks, thinned by a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Floats: TypeAlias = NDArray[np.float64]
Array: TypeAlias = NDArray[Any]
Samples: TypeAlias = "Array | Tensor"

MOST = 5_000
"""Rows a side that estimators with a cost quadratic in n use: 10⁸ distances, some seconds on one core."""
BLOCK = 1 << 21
"""Numbers in a block: 16 MiB of float64."""


def array(x: Samples, name: str = "a", *, least: int = 1) -> Array:
    """(n, d) numbers as a numpy array, without a copy where that can be.

    Raises:
        ValueError: Not two axes, no columns, fewer than ``least`` rows, not real numbers, or NaN or infinity among
            them.
    """
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.float() if x.is_floating_point() and x.element_size() < 4 else x).numpy()
    values = np.asarray(x)
    if values.ndim != 2 or values.shape[1] < 1:
        raise ValueError(f"{name} must be (n, d): got {values.shape}")
    if len(values) < least:
        raise ValueError(f"{name} needs at least {least} rows, got {len(values)}")
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers: got {values.dtype}")
    if not all(np.isfinite(block).all() for block in blocks(values)):
        raise ValueError(f"{name} holds NaN or infinity")
    return values


def two_samples(a: Samples, b: Samples, *, least: int = 2) -> tuple[Array, Array]:
    """(n, d) and (m, d), which need not be pairs.

    Raises:
        ValueError: What :func:`array` refuses, or different widths.
    """
    x, y = array(a, "a", least=least), array(b, "b", least=least)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"a and b must have the same width: got {x.shape[1]} and {y.shape[1]}")
    return x, y


def pairs(a: Samples, b: Samples, *, least: int = 2, same_width: bool = True) -> tuple[Array, Array]:
    """(n, d) and (n, d'): row i of a belongs to row i of b.

    Raises:
        ValueError: What :func:`array` refuses, different numbers of rows, or different widths where they must agree.
    """
    x, y = two_samples(a, b, least=least) if same_width else (array(a, "a", least=least), array(b, "b", least=least))
    if len(x) != len(y):
        raise ValueError(f"a and b must hold the same pairs: got {len(x)} and {len(y)} rows")
    return x, y


def blocks(x: Array) -> Iterator[Floats]:
    """Rows in order, a block at a time, in float64."""
    rows = max(1, BLOCK // x.shape[1])
    for start in range(0, len(x), rows):
        yield np.asarray(x[start : start + rows], dtype=np.float64)


def blocks_of_pairs(x: Array, y: Array) -> Iterator[tuple[Floats, Floats]]:
    """The same rows of both sides, which may differ in width."""
    rows = max(1, BLOCK // max(x.shape[1], y.shape[1]))
    for start in range(0, len(x), rows):
        span = slice(start, start + rows)
        yield np.asarray(x[span], dtype=np.float64), np.asarray(y[span], dtype=np.float64)


def mean(x: Array) -> Floats:
    """(d,)"""
    return np.asarray(sum(block.sum(axis=0) for block in blocks(x)) / len(x))


def unit(x: Floats) -> Floats:
    """Rows of Euclidean length one; zero rows stay zero."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1.0)


def shares_behind(rows: Floats, others: Floats) -> Floats:
    """(n, d) and (n, d), partners at the same place -> (n,) the share of the others that are less like a row, by
    cosine, than its own partner; those just as like count half, so that 0.5 is chance."""
    likeness = unit(rows) @ unit(others).T
    own = np.diag(likeness)[:, None]
    behind = (likeness < own) + 0.5 * (likeness == own)
    return np.asarray((behind.sum(1) - 0.5) / max(1, len(others) - 1))


def thinned(x: Array, most: int, generator: np.random.Generator) -> Floats:
    """All rows, or ``most`` of them drawn without replacement, in float64."""
    if len(x) > most:
        x = x[np.sort(generator.choice(len(x), most, replace=False))]
    return np.asarray(x, dtype=np.float64)


def thinned_both(a: Array, b: Array, seed: int, *, paired: bool = False) -> tuple[Floats, Floats]:
    """Both sides, at most MOST rows each; of pairs, the same rows."""
    generator = np.random.default_rng(seed)
    if paired:
        rows = np.sort(generator.permutation(len(a))[:MOST])
        return np.asarray(a[rows], dtype=np.float64), np.asarray(b[rows], dtype=np.float64)
    return thinned(a, MOST, generator), thinned(b, MOST, generator)


def positive(name: str, value: float) -> float:
    """The value, which must be above zero and finite."""
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be positive, got {value}")
    return value
