"""Augmentation: reproducible, different for each sketch, and strokes survive."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cmcd_sketch import SketchOptions, build
from hypothesis import given, settings
from hypothesis import strategies as st

OFF = {"thickness": 0, "gaps": 0, "jitter": 0, "rotation": 0, "shear": 0}


def augmented(batch: torch.Tensor, seed: int = 0, **options: float) -> torch.Tensor:
    return build(SketchOptions(**options)).augment(batch, torch.Generator().manual_seed(seed))


def strokes(n: int, height: int = 64, width: int = 64) -> torch.Tensor:
    """A ring and a cross, one to two pixels wide."""
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    ring = (torch.hypot(y, x) - 0.35 * min(height, width)).abs() < 1
    cross = ((y.abs() < 0.6) | (x.abs() < 1.1)) & (torch.hypot(y, x) < 0.35 * min(height, width))
    return (ring | cross).float().expand(n, 1, -1, -1).contiguous()


@pytest.mark.parametrize("shape", [(64, 64), (40, 56), (7, 90), (1, 1)])
def test_reproducible_in_range_and_each_its_own(shape: tuple[int, int]) -> None:
    batch = strokes(16, *shape)
    before = batch.clone()
    first, again, other = augmented(batch), augmented(batch), augmented(batch, seed=1)
    assert torch.equal(batch, before), "the batch itself is left alone"
    assert torch.equal(first, again)
    assert (first.shape, first.dtype) == (batch.shape, batch.dtype)
    assert 0 <= first.min() <= first.max() <= 1
    if shape[0] > 7:
        assert not torch.equal(first, other)
        assert len({tuple(x.flatten().tolist()) for x in first}) == 16


def test_no_other_randomness() -> None:
    state = torch.get_rng_state()
    augmented(strokes(4))
    assert torch.equal(state, torch.get_rng_state())


def test_all_off_changes_nothing() -> None:
    batch = torch.rand(4, 1, 20, 30)
    assert torch.equal(augmented(batch, **OFF), batch)


@pytest.mark.parametrize("name", ["thickness", "gaps", "jitter", "rotation", "shear"])
def test_each_strength_alone_changes_sketches(name: str) -> None:
    batch = strokes(16)
    default = SketchOptions().model_dump()[name]
    weak, full = ((augmented(batch, **{**OFF, name: k * default}) - batch).abs().mean().item() for k in (0.25, 1))
    assert 0 < weak < full


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    thickness=st.floats(0, 0.05),
    gaps=st.floats(0, 0.5),
    gap_size=st.floats(0.01, 0.5),
    jitter=st.floats(0, 0.03),
)
def test_strokes_survive_at_any_strength(seed: int, **options: float) -> None:
    batch = strokes(8)
    out = augmented(batch, seed, **options)
    assert out.isfinite().all()
    assert 0 <= out.min() <= out.max() <= 1
    # Thinning and gaps may each take half of the ink, displacement a little more: .19 in the worst of 24,000 sketches.
    assert (out.sum((1, 2, 3)) > 0.15 * batch.sum((1, 2, 3))).all()
    assert (out.amax((1, 2, 3)) > 0.5).all()


def test_thickness_widens_by_no_more_than_said_and_never_erases() -> None:
    batch = strokes(64)
    out = augmented(batch, **{**OFF, "thickness": 2 / 64})
    assert (out[F.max_pool2d(batch, 5, 1, 2) == 0] == 0).all(), "two pixels on each side"
    ink, before = out.mean((1, 2, 3)), batch.mean()
    assert ink.min() > 0.5 * before
    assert ink.max() > 1.5 * before
    assert (out[:, :, 32, 14:28] > 0.99).all(), "a line of one pixel stays as dark as it was"
    default = augmented(batch, **{**OFF, "thickness": SketchOptions().thickness})
    assert (default[:, :, 32, 14:50] > 0.3).all(), "and crossings hold together"


def test_thick_strokes_shrink() -> None:
    block = torch.zeros(64, 1, 64, 64)
    block[..., 20:40, 20:40] = 1
    areas = augmented(block, **{**OFF, "thickness": 2 / 64}).sum((1, 2, 3))
    assert 16**2 - 1e-2 <= areas.min() < 18**2
    assert 22**2 < areas.max() <= 24**2 + 1e-2


def test_gaps_break_but_keep_half() -> None:
    batch = strokes(256)
    out = augmented(batch, **{**OFF, "gaps": 0.4})
    assert (out <= batch).all(), "gaps add nothing"
    kept = out.sum((1, 2, 3)) / batch.sum((1, 2, 3))
    assert kept.min() >= 0.5
    assert kept.mean() == pytest.approx(0.8, abs=0.06)


def test_a_dot_is_not_erased() -> None:
    dot = torch.zeros(256, 1, 48, 48)
    dot[..., 20:22, 20:22] = 1
    assert (augmented(dot, **{**OFF, "gaps": 0.5}).sum((1, 2, 3)) >= 2).all()


def test_rotation_and_jitter_stay_within_bounds() -> None:
    dot = torch.zeros(128, 1, 40, 80)
    dot[..., 19:22, 69:72] = 1  # 30 pixels right of the centre
    out = augmented(dot, **{**OFF, "rotation": 30})
    y, x = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(80) - 39.5, indexing="ij")
    total = out.sum((1, 2, 3))
    y, x = ((out[:, 0] * t).sum((1, 2)) / total for t in (y, x))
    inside = total > 8.5
    assert inside.float().mean() > 0.5
    assert torch.hypot(y, x)[inside].std() < 0.1, "turned, not stretched, though the page is no square"
    assert torch.rad2deg(torch.atan2(y, x))[inside].abs().max() < 31
    moved = augmented(strokes(32), **{**OFF, "jitter": 0.01})
    assert (moved[F.max_pool2d(strokes(32), 9, 1, 4) == 0] == 0).all(), "within 4 pixels at 0.6 standard deviation"


def test_real_sketches_stay_recognisable(data: Callable[[str], Path]) -> None:
    sketch = build(SketchOptions())
    paths = sorted((data("sketchy") / "sketch").glob("*.png"))[::100][:32]
    batch = torch.stack([sketch.resize(sketch.resize(sketch.decode(p), 80), 64) for p in paths])
    out = sketch.augment(batch, torch.Generator().manual_seed(0))
    blurred = (F.avg_pool2d(x, 8).flatten(1).numpy() for x in (batch, out))
    similarity = np.corrcoef(*blurred)[: len(paths), len(paths) :]
    assert (similarity.argmax(1) == np.arange(len(paths))).all(), "each is most like what it was"
    ratio = out.sum((1, 2, 3)) / batch.sum((1, 2, 3))
    assert ratio.min() > 0.3
    assert ratio.max() < 2.5


def test_fast_enough() -> None:
    """A wide margin over the 8 ms measured on one core, for busy machines."""
    sketch, batch, g = build(SketchOptions()), strokes(64), torch.Generator().manual_seed(0)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        sketch.augment(batch, g)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.08
