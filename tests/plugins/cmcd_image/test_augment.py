"""Augmentation: reproducible, different for each picture, within [0, 1], and what it says it is."""

from __future__ import annotations

import time

import pytest
import torch
from cmcd_image import ImageOptions, build
from pydantic import ValidationError

OFF = {"jitter_probability": 0, "grayscale": 0, "blur": 0}


def augmented(batch: torch.Tensor, seed: int = 0, **options: float) -> torch.Tensor:
    return build(ImageOptions(**options)).augment(batch, torch.Generator().manual_seed(seed))


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.rand(16, 3, 24, 20, generator=torch.Generator().manual_seed(3))


def test_reproducible_and_in_range(batch: torch.Tensor) -> None:
    before = batch.clone()
    first, again, other = augmented(batch), augmented(batch), augmented(batch, seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(batch, before), "the batch itself is left alone"
    assert first.shape == batch.shape
    assert first.dtype == batch.dtype
    assert first.min() >= 0
    assert first.max() <= 1


def test_each_picture_has_its_own_draw(batch: torch.Tensor) -> None:
    same = batch[:1].expand(16, -1, -1, -1).contiguous()
    out = augmented(same, jitter_probability=1)
    assert len({tuple(x.flatten().tolist()) for x in out}) == 16


def test_all_off_changes_nothing(batch: torch.Tensor) -> None:
    assert torch.allclose(augmented(batch, **OFF), batch, atol=1e-6)
    assert torch.allclose(augmented(batch, **{**OFF, "jitter_probability": 1}, color_jitter=0), batch, atol=1e-6)


def test_grayscale_is_luma(batch: torch.Tensor) -> None:
    out = augmented(batch, **{**OFF, "grayscale": 1})
    luma = (batch * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    assert torch.allclose(out, luma.expand_as(batch), atol=1e-3)


def test_shares_of_pictures() -> None:
    many = torch.rand(2000, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    jittered = (augmented(many, blur=0, grayscale=0) - many).abs().amax((1, 2, 3)) > 1e-4
    grey = augmented(many, **{**OFF, "grayscale": 0.2}).std(dim=1).amax((1, 2)) < 1e-3
    blurred = (augmented(many, **{**OFF, "blur": 0.5}, blur_sigma=0.1) - many).abs().amax((1, 2, 3)) > 1e-4
    for found, share in ((jittered, 0.8), (grey, 0.2), (blurred, 0.5)):
        assert found.float().mean().item() == pytest.approx(share, abs=0.04)


def test_jitter_keeps_grey_grey_and_strength_matters() -> None:
    grey = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1) * 0.5
    out = augmented(grey, blur=0, jitter_probability=1)
    assert (out - out.mean(1, keepdim=True)).abs().max() < 1e-3
    colour = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    changes = [(augmented(colour, blur=0, grayscale=0, color_jitter=s) - colour).abs().mean() for s in (0.2, 0.5, 1.0)]
    assert changes[0] < changes[1] < changes[2]


def test_blur_keeps_the_mean_level_and_flat_pictures(batch: torch.Tensor) -> None:
    options = {**OFF, "blur": 1, "blur_sigma": 0.05}
    flat = torch.full((4, 3, 16, 16), 0.4)
    assert torch.allclose(augmented(flat, **options), flat, atol=1e-6)
    out = augmented(batch, **options)
    assert out.diff(dim=-1).abs().mean() < batch.diff(dim=-1).abs().mean()
    assert torch.allclose(out.mean((2, 3)), batch.mean((2, 3)), atol=0.03)


@pytest.mark.parametrize("bad", [{"color_jitter": 2.5}, {"blur": 1.1}, {"grayscale": -0.1}, {"colour": 1}])
def test_options_are_bounded(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ImageOptions(**bad)


def test_fast_enough() -> None:
    """A wide margin over the 10 to 15 ms measured on one core, for busy machines."""
    batch = torch.rand(128, 3, 64, 64)
    augmented(batch)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        augmented(batch)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.2
