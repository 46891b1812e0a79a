"""Crops, resizes and flips go where their numbers say."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from cmcd_core import Modality
from cmcd_core.data.geometry import Geometry, apply_geometry, batched, draw_geometry


class Default(Modality):
    channels: ClassVar[int] = 2

    def decode(self, raw: object) -> Tensor:
        raise NotImplementedError


resize = Default().resize


def draw(count: int = 200, seed: int = 0, area_min: float = 0.3, flip: bool = True) -> Geometry:
    return draw_geometry(count, torch.Generator().manual_seed(seed), area_min=area_min, flip=flip)


def coded(count: int, side: int) -> Tensor:
    """(count, 2, side, side): each pixel holds its own place, as shares of the side (pixel centres)."""
    at = (torch.arange(side) + 0.5) / side
    return torch.stack([at[:, None].expand(side, side), at[None, :].expand(side, side)]).repeat(count, 1, 1, 1)


def fields(geometry: Geometry) -> list[Tensor]:
    return [getattr(geometry, name) for name in ("top", "left", "height", "width", "shape", "flip")]


def test_the_seed_decides() -> None:
    one, same, other = draw(seed=1), draw(seed=1), draw(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(fields(one), fields(same), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(fields(one), fields(other), strict=True))


@pytest.mark.parametrize("area_min", [0.05, 0.4, 1.0])
def test_boxes_lie_inside(area_min: float) -> None:
    g = draw(2000, area_min=area_min)
    for start, extent in ((g.top, g.height), (g.left, g.width)):
        assert (start >= 0).all()
        assert (start + extent <= 1 + 1e-6).all()
        assert (extent > 0).all()
    area, ratio = g.height * g.width, g.width / g.height
    assert area.max() <= 1 + 1e-6
    assert area.min() >= area_min * 0.75 - 1e-6  # a box that is cut to the picture loses up to a quarter
    assert ratio.min() >= 0.75 - 1e-6
    assert ratio.max() <= 4 / 3 + 1e-6
    assert (g.height.unique().numel() > 1) == (area_min < 1 or g.height.min() < 1)


def test_boxes_are_spread_over_the_picture() -> None:
    g = draw(4000)
    free = g.height < 0.9
    place = g.top[free] / (1 - g.height[free])
    assert abs(place.mean() - 0.5) < 0.03
    assert place.min() < 0.02
    assert place.max() > 0.98


def test_one_shape_number_one_shape() -> None:
    g = draw(2000)
    for shape in g.shape.unique():
        members = g.shape == shape
        assert g.height[members].unique().numel() == g.width[members].unique().numel() == 1


def test_flips() -> None:
    assert not draw(500, flip=False).flip.any()
    assert 0.4 < draw(2000).flip.float().mean() < 0.6


def test_flipping_does_not_change_the_boxes() -> None:
    assert all(torch.equal(a, b) for a, b in zip(fields(draw())[:5], fields(draw(flip=False))[:5], strict=True))


@pytest.mark.parametrize(("side", "size"), [(20, 16), (16, 16), (40, 32), (9, 24)])
def test_against_one_sample_at_a_time(side: int, size: int) -> None:
    x = torch.rand(60, 3, side, side, generator=torch.Generator().manual_seed(3))
    g = draw(60, area_min=0.1)
    out = apply_geometry(x, g, resize, size)
    for i in range(60):
        height, width = round(g.height[i].item() * side), round(g.width[i].item() * side)
        top, left = min(round(g.top[i].item() * side), side - height), min(round(g.left[i].item() * side), side - width)
        one = resize(x[i, :, top : top + height, left : left + width], size)
        expected = one.flip(-1) if g.flip[i] else one
        assert torch.allclose(out[i], expected, atol=1e-6), i


def test_each_pixel_comes_from_where_the_numbers_say() -> None:
    side, size = 64, 16
    g = draw(80, seed=5)
    out = apply_geometry(coded(80, side), g, resize, size)
    at = (torch.arange(size) + 0.5) / size
    rows = g.top[:, None] + g.height[:, None] * at
    columns = g.left[:, None] + g.width[:, None] * torch.where(g.flip[:, None], at.flip(0), at)
    inner = slice(2, -2)  # at the border the antialiasing filter has one side only
    tolerance = 1.01 / side  # crops begin and end at whole pixels
    assert (out[:, 0].mean(-1) - rows)[:, inner].abs().max() < tolerance
    assert (out[:, 1].mean(-2) - columns)[:, inner].abs().max() < tolerance
    assert out[:, 0].std(-1).max() < 1e-5  # rows stay rows


def test_the_whole_picture_is_a_resize() -> None:
    x = torch.rand(3, 2, 20, 20)
    one, zero = torch.ones(3), torch.zeros(3)
    whole = Geometry(zero, zero, one, one, torch.zeros(3, dtype=torch.long), zero.bool())
    assert torch.equal(apply_geometry(x, whole, resize, 12), resize(x, 12))


def test_the_input_is_left_as_it_is() -> None:
    x = torch.rand(40, 2, 12, 12)
    before = x.clone()
    apply_geometry(x, draw(40), resize, 12)
    assert torch.equal(x, before)


# --- batched


def test_a_resize_for_batches_is_used_as_it_is() -> None:
    assert batched(resize, 3) is resize


def one_only(x: Tensor, size: int) -> Tensor:
    channels, _, _ = x.shape
    return resize(x, size)[:channels]


def mixing(x: Tensor, size: int) -> Tensor:
    return resize(x / x.amax(), size)  # a maximum over the batch


def swallowing(x: Tensor, size: int) -> Tensor:
    return resize(x, size)[:1] if x.ndim == 4 else resize(x, size)


@pytest.mark.parametrize("written", [one_only, mixing, swallowing])
def test_any_other_resize_is_called_for_each_sample(written: object) -> None:
    x = torch.rand(5, 3, 10, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 6).view(5, 1, 1, 1)
    safe = batched(written, 3)
    assert safe is not written
    assert torch.equal(safe(x, 6), torch.stack([written(one, 6) for one in x]))


def test_geometry_through_a_resize_for_one_sample() -> None:
    x, g = torch.rand(30, 3, 20, 20), draw(30)
    assert torch.allclose(apply_geometry(x, g, batched(one_only, 3), 16), apply_geometry(x, g, resize, 16), atol=1e-6)
