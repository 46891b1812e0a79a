"""Resizing keeps holes, and lets nothing bleed out of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from cmcd_depth import DepthOptions, build
from hypothesis import given, settings
from hypothesis import strategies as st

DEPTH = build(DepthOptions())
SIZES = st.integers(2, 40)


@st.composite
def maps(draw: st.DrawFn) -> torch.Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    shape = (draw(st.integers(1, 3)), 1, draw(SIZES), draw(SIZES))
    depth = 0.3 + 5 * torch.rand(shape, generator=generator)
    blobs = F.interpolate(torch.rand(shape[0], 1, 4, 4, generator=generator), size=shape[2:], mode="bilinear")
    return depth * (blobs > draw(st.floats(0, 1)))


@settings(max_examples=60)
@given(maps(), st.integers(1, 48))
def test_valid_depth_stays_within_its_range(x: torch.Tensor, size: int) -> None:
    out = DEPTH.resize(x, size)
    assert out.shape == (*x.shape[:2], size, size)
    for before, after in zip(x, out, strict=True):
        seen, left = before[before > 0], after[after > 0]
        assert (after >= 0).all()
        if len(left):
            assert left.min() >= seen.min() * (1 - 1e-4)
            assert left.max() <= seen.max() * (1 + 1e-4)


@settings(max_examples=30)
@given(maps(), st.integers(1, 48))
def test_a_flat_surface_with_holes_stays_flat(x: torch.Tensor, size: int) -> None:
    out = DEPTH.resize((x > 0) * 1.7, size)
    assert torch.allclose(out[out > 0], torch.tensor(1.7), rtol=1e-4)


@settings(max_examples=30)
@given(maps(), st.integers(1, 48))
def test_missing_is_where_less_than_half_is_valid(x: torch.Tensor, size: int) -> None:
    share = F.interpolate((x > 0).float(), size=(size, size), mode="bilinear", antialias=True)
    clear = (share - 0.5).abs() > 1e-3
    assert torch.equal((DEPTH.resize(x, size) > 0)[clear], (share > 0.5)[clear])


@settings(max_examples=20)
@given(maps(), st.floats(0.01, 1000))
def test_commutes_with_scale(x: torch.Tensor, factor: float) -> None:
    assert torch.allclose(DEPTH.resize(x * factor, 16), DEPTH.resize(x, 16) * factor, rtol=1e-3)


def test_a_full_map_is_resized_as_any_picture() -> None:
    x = 1 + torch.rand(2, 1, 30, 20)
    plain = F.interpolate(x, size=(16, 16), mode="bilinear", antialias=True)
    assert torch.allclose(DEPTH.resize(x, 16), plain, rtol=1e-5)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)])
def test_leading_dimensions(leading: tuple[int, ...]) -> None:
    x = torch.rand(*leading, 1, 20, 12)
    out = DEPTH.resize(x, 8)
    assert out.shape == (*leading, 1, 8, 8)
    one_by_one = torch.stack([DEPTH.resize(m, 8) for m in x.reshape(-1, 1, 20, 12)])
    assert torch.allclose(out.reshape(-1, 1, 8, 8), one_by_one)
    assert DEPTH.resize(x.transpose(-1, -2), 8).shape == (*leading, 1, 8, 8), "not contiguous"
