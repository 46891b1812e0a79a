"""What the numbers of a depth file mean."""

from __future__ import annotations

import numpy as np

from cmcd_core import DataError

SATURATED = np.iinfo(np.uint16).max
"""Sensors that count millimetres write the largest 16-bit number where they saw nothing: 65.5 m is out of reach."""


def to_depth(values: np.ndarray, unit: str, *, metres: bool) -> np.ndarray:
    """Numbers in ``unit`` -> a new float32 map: metres or relative, larger is farther, 0 is missing.

    Raises:
        DataError: ``metres`` are needed, but the map has no scale.
    """
    if unit == "auto":
        unit = detect(values.dtype)
        if metres and unit == "relative":
            raise DataError(
                "8-bit depth has no scale, but near, far or encoding 'log' need metres",
                "Use 16-bit depth, say unit = 'mm' or 'm', or use encoding 'percentile' without near and far.",
            )
    if unit == "mm" and values.dtype == np.uint16:  # the same numbers as below, at a fraction of the cost
        return np.where(values == SATURATED, np.uint16(0), values).astype(np.float32) / np.float32(1000)
    depth = values.astype(np.float64)
    depth[~(np.isfinite(depth) & (depth > 0))] = 0
    match unit:
        case "mm":
            depth[depth == SATURATED] = 0
            depth /= 1000
        case "relative" if values.dtype.kind in "ui":
            depth /= np.iinfo(values.dtype).max
        case "disparity":
            np.divide(1, depth, out=depth, where=depth > 0)
    return np.minimum(depth, np.finfo(np.float32).max).astype(np.float32)


def detect(dtype: np.dtype) -> str:
    """The unit that unit = "auto" takes numbers of this type to have."""
    if dtype.kind == "f":
        return "m"
    return "relative" if dtype.itemsize == 1 else "mm"


def unit_doubt(metres: np.ndarray) -> str:
    """What speaks against a map being in metres: indoors or outdoors, few sensors see nearer than 2 cm or beyond 200 m.

    Values that reach no further than 1 may be relative, and are let pass unless they are tiny.
    """
    seen = metres[metres > 0]
    middle = float(np.median(seen)) if seen.size else 1.0
    if middle > 200:
        return 'read as metres, its middle lies beyond 200 m: millimetres? (unit = "mm")'
    if middle < 0.02:
        return 'read as metres, its middle lies nearer than 2 cm: not millimetres? (unit = "m" or "relative")'
    steps = np.unique(seen[:: max(1, seen.size // 4096)] * 1000)
    if len(steps) > 32 and middle > 4 and np.allclose(steps / 8, np.round(steps / 8), atol=1e-3):
        return "every depth is a multiple of 8 mm: bit-rotated, as in SUN RGB-D? (the loader sunrgbd undoes it)"
    return ""
