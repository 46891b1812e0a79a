"""Thin lines survive, wide ones keep their width, and nothing fills up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cmcd_sketch import SketchOptions, build
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torchvision.transforms.functional import pil_to_tensor

SKETCH = build(SketchOptions())


def line(start: tuple[int, int], end: tuple[int, int], side: int = 256, width: int = 1) -> torch.Tensor:
    """(1, side, side): one stroke, not antialiased."""
    page = Image.new("L", (side, side), 0)
    ImageDraw.Draw(page).line([start, end], fill=255, width=width)
    return pil_to_tensor(page).float() / 255


def weakest(small: torch.Tensor, page: torch.Tensor) -> float:
    """Of all inked pixels of ``page``, the least ink found beside its place in ``small``."""
    y, x = (page[0] > 0).nonzero().T
    near = F.max_pool2d(small[None], 3, 1, 1)[0, 0]
    k = small.shape[-1] / page.shape[-1]
    return near[((y + 0.5) * k).long(), ((x + 0.5) * k).long()].min().item()


@settings(max_examples=60)
@given(st.integers(8, 248), st.integers(8, 248), st.booleans(), st.sampled_from([32, 48, 64, 96]))
def test_a_line_of_one_pixel_survives(a: int, b: int, across: bool, size: int) -> None:
    page = line((8, a), (248, b)) if across else line((a, 8), (b, 248))
    small = SKETCH.resize(page, size)
    assert weakest(small, page) >= 0.5
    length = math.hypot(240, b - a) / 256 * size
    assert 0.8 < small.sum().item() / length < 2.2, "one to two pixels wide"


@settings(max_examples=40)
@given(st.integers(8, 248), st.integers(8, 248), st.sampled_from([32, 48, 64]), st.sampled_from([1.25, 0.9, 0.6]))
def test_it_survives_storing_and_cropping(a: int, b: int, size: int, crop: float) -> None:
    page = line((0, a), (255, b))
    stored = SKETCH.resize(page, round(size * 1.25))
    side = round(stored.shape[-1] * min(crop, 1.0))
    small = SKETCH.resize(stored[:, :side, :side] if crop < 1 else stored, size)
    column = small[0].amax(dim=0)
    inside = (stored[0, :side, :side].amax(dim=0) > 0.5).float().view(1, 1, -1)
    seen = F.interpolate(inside, size=size)[0, 0] == 1
    assert column[seen][1:-1].numel() == 0 or column[seen][1:-1].min() >= 0.35


@pytest.mark.parametrize("size", [32, 48, 64, 80, 128, 200])
@pytest.mark.parametrize("width", [12, 24, 48])
def test_wide_strokes_keep_their_width(size: int, width: int) -> None:
    page = line((128, 0), (128, 255), width=width)
    small = SKETCH.resize(page, size)
    assert small.sum().item() / size == pytest.approx(page.sum().item() / 256 / 256 * size, rel=0.12, abs=0.3)


@pytest.mark.parametrize("factor", [1.25, 1.5, 2.0])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_repeated_resizing_does_not_thicken_without_bound(factor: float, width: int) -> None:
    x = line((256, 0), (256, 511), side=512, width=width)
    while x.shape[-1] > 24:
        before = x[0].sum(dim=1).max().item()
        x = SKETCH.resize(x, round(x.shape[-1] / factor))
        assert x[0].sum(dim=1).max().item() <= max(before, 2.2)


def test_hatching_stays_grey() -> None:
    page = torch.zeros(1, 160, 160)
    page[:, :, ::4] = 1
    for size in (32, 24, 16):
        assert SKETCH.resize(page, size).mean() < 0.8
    page[:, :, 1::4] = 1
    assert SKETCH.resize(page, 32).mean() < 0.75


@pytest.mark.parametrize("name", ["sketchy", "bsds500", "camvid_contour"])
def test_real_sketches_are_neither_lost_nor_blobs(name: str, data: Callable[[str], Path]) -> None:
    for path in sorted((data(name) / "sketch").glob("*.png"))[::40][:20]:
        x = SKETCH.decode(path)
        for size in (64, 48, 32):
            small = SKETCH.resize(SKETCH.resize(x, round(1.25 * size)), size)
            plain = F.interpolate(x[None], size=(size, size), mode="bilinear", antialias=True)[0]
            touched = (plain > 0.02).float().mean()
            assert small.max() > 0.5
            assert plain.mean() <= small.mean() < 0.75 * touched, "a line touches two pixels and fills about one"
            drawn = plain > 0.5 * plain.max()
            assert small[drawn].mean() > 0.4
            assert (small[F.max_pool2d(plain, 5, 1, 2) < 0.01] < 0.01).all(), "empty paper stays empty"


@settings(max_examples=60)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 40), st.integers(1, 48), st.floats(0, 1), st.booleans())
def test_range_and_batches(seed: int, height: int, width: int, size: int, share: float, soft: bool) -> None:
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(2, 3, 1, height, width, generator=g) < share).float()
    x = x * torch.rand(x.shape, generator=g) if soft else x
    before = x.clone()
    out = SKETCH.resize(x, size)
    assert torch.equal(x, before)
    assert out.shape == (2, 3, 1, size, size)
    assert 0 <= out.min() <= out.max() <= 1
    one_by_one = torch.stack([SKETCH.resize(one, size) for one in x.reshape(-1, 1, height, width)])
    assert torch.allclose(out.reshape(-1, 1, size, size), one_by_one, atol=1e-5)


def test_plain_pages_and_the_same_size() -> None:
    for level in (0.0, 0.4, 1.0):
        for size in (1, 8, 20, 64):
            assert torch.allclose(SKETCH.resize(torch.full((1, 20, 30), level), size), torch.tensor(level), atol=1e-5)
    x = torch.rand(2, 1, 20, 20)
    assert torch.allclose(SKETCH.resize(x, 20), x, atol=1e-6)
    bigger = SKETCH.resize(x, 50)
    assert torch.allclose(bigger, F.interpolate(x, size=(50, 50), mode="bilinear"), atol=1e-5)


def test_mirrored_pages_give_mirrored_results() -> None:
    x = (torch.rand(1, 1, 90, 70, generator=torch.Generator().manual_seed(0)) > 0.95).float()
    for size in (64, 40, 20, 12):
        assert torch.allclose(SKETCH.resize(x.flip(-1), size), SKETCH.resize(x, size).flip(-1), atol=1e-4)
        assert torch.allclose(SKETCH.resize(x.flip(-2), size), SKETCH.resize(x, size).flip(-2), atol=1e-4)


def test_fast_enough() -> None:
    """A wide margin over the 5 ms measured on one core, for busy machines."""
    x = torch.rand(64, 1, 80, 80)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        SKETCH.resize(x, 64)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.06
