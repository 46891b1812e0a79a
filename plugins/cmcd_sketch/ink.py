"""What of a picture is ink: (H, W, C) pixels -> (H, W) with ink = 1 on paper = 0."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import uniform_filter

from cmcd_core import DataError

LEAST_CONTRAST = 8 / 255
"""Ink differs from its paper by at least this; less is the paper's own texture."""
LEAST_INK = 1e-4
"""Less than this share of ink is a speck on an empty page."""
PURE = 2 / 255
"""Paper that varies by no more than this was not photographed: its level is one number."""
ONE_COLOUR = 0.2
SAMPLES, COARSE = 2**20, 2**12
"""Levels are measured on a regular grid of at most so many pixels, shading on a coarser one."""
MAD = 1.4826
"""From the median absolute deviation to a normal distribution's standard deviation."""


def ink(pixels: np.ndarray, polarity: str) -> np.ndarray:
    """(H, W, 1 | 3 | 4) in [0, 1] -> (H, W) float32: the paper's level is 0, the full ink's is 1.

    Args:
        polarity: The ink's shade: "dark", "light", or "auto".

    Raises:
        DataError: Nothing is drawn.
    """
    if pixels.shape[2] == 4:
        pixels, polarity = _opaque(pixels[..., :3], pixels[..., 3:], polarity)
    if polarity == "auto":
        polarity = "dark" if _paper_is_light(_sampled(pixels.mean(axis=2), SAMPLES)) else "light"
    # The channel where ink of any colour stands out most: yellow on white is dark in blue.
    dark = pixels.min(axis=2) if polarity == "dark" else 1 - pixels.max(axis=2)
    return _stretched(_paper(dark) - dark)


def _opaque(colours: np.ndarray, alpha: np.ndarray, polarity: str) -> tuple[np.ndarray, str]:
    """Strokes of one colour on a transparent ground are where alpha is; other pictures are laid on paper."""
    if alpha.min() == 1 or alpha.max() == 0:
        return (colours if alpha.min() == 1 else np.ones_like(alpha)), polarity
    seen = alpha[..., 0] >= alpha.max() / 2
    low, high = np.percentile(colours[seen], (0.5, 99.5), axis=0)
    if (high - low).max() < ONE_COLOUR:
        return 1 - alpha, "dark"
    covers = seen.mean() > 0.5
    paper = np.median(colours[seen], axis=0) if covers else np.float32(polarity != "light")
    return (colours * alpha + paper * (1 - alpha)).astype(np.float32), polarity


def _paper_is_light(grey: np.ndarray) -> bool:
    """What most pixels, the border, and strokes against their surroundings say, each from -1 to 1.

    Borders count half: a page may lie on a dark desk. Strokes are narrower than what lies between them, so that they
    show as rare large deviations from the local mean, whatever the light.
    """
    shade = np.sign(grey - _middle(grey))
    edge = max(1, min(grey.shape) // 50)
    border = [shade[:edge], shade[-edge:], shade[:, :edge], shade[:, -edge:]]
    relief = grey - uniform_filter(grey, max(3, max(grey.shape) // 8), mode="reflect")
    cubes = relief.astype(np.float64) ** 3
    skew = cubes.sum() / max(np.abs(cubes).sum(), 1e-12)
    return bool(shade.mean() + np.concatenate([b.ravel() for b in border]).mean() / 2 - skew >= 0)


def _middle(values: np.ndarray) -> float:
    """Halfway between dark and light; a few hot pixels do not count unless there is nothing else."""
    low, high = np.percentile(values, (0.1, 99.9))
    if high - low < LEAST_CONTRAST:
        low, high = values.min(), values.max()
    return float(low + high) / 2


def _paper(dark: np.ndarray) -> np.ndarray:
    """The level of the paper under dark ink: one number, or (H, W) where the light falls unevenly."""
    values = _sampled(dark, SAMPLES)
    paper = values[values >= _middle(values)]
    for _ in range(2):  # an empty page's middle cuts through its noise: take in as much below the level as above
        level = np.median(paper)
        paper = values[values >= 2 * level - np.percentile(paper, 99.9)]
    level = np.median(paper)
    if np.mean(np.abs(paper - level) <= PURE) > 0.5:
        return np.asarray(level, dtype=np.float32)
    return _shading(dark)


def _shading(dark: np.ndarray) -> np.ndarray:
    """A quadratic surface through the paper; so smooth a surface cannot follow a filled shape."""
    y, x = np.ogrid[-1 : 1 : dark.shape[0] * 1j, -1 : 1 : dark.shape[1] * 1j]
    at_y, at_x = (_sampled(np.broadcast_to(at, dark.shape), COARSE).ravel() for at in (y, x))
    terms = np.stack([np.ones_like(at_x), at_x, at_x**2, at_y, at_y * at_x, at_y**2], axis=1)
    values = _sampled(dark, COARSE).ravel()
    on_paper = values >= _middle(values)
    for _ in range(10):  # what is far from the surface is ink, or paper that the first guess missed
        w = np.linalg.lstsq(terms[on_paper], values[on_paper], rcond=None)[0]
        off = np.abs(values - terms @ w)
        on_paper = off <= max(3 * MAD * float(np.median(off[on_paper])), PURE)
    surface: np.ndarray = (w[0] + w[1] * x + w[2] * x**2) + y * (w[3] + w[4] * x) + w[5] * y**2
    return surface.clip(0, 1).astype(np.float32)


def _stretched(relief: np.ndarray) -> np.ndarray:
    """How much darker than paper -> [0, 1], less the paper's own noise."""
    values = _sampled(relief, SAMPLES)
    lighter = values[values <= 0]  # than paper: noise alone
    noise = float(np.percentile(-lighter, 95)) / 1.96 if lighter.size else 0.0
    drawn = relief[relief > max(6 * noise, LEAST_CONTRAST)]
    if drawn.size <= LEAST_INK * relief.size:
        raise DataError(
            "nothing is drawn: no ink stands out from the paper",
            "Leave this sample out, or check that the picture was exported with its strokes.",
        )
    full = float(np.percentile(drawn, 98))
    return ((relief - 3 * noise) / (full - 3 * noise)).clip(0, 1).astype(np.float32)


def _sampled(values: np.ndarray, most: int) -> np.ndarray:
    step = max(1, math.ceil(math.sqrt(values.size / most)))
    return values[step // 2 :: step, step // 2 :: step]
