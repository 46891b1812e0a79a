"""Augmentation: reproducible, different for each map, and holes stay holes."""

from __future__ import annotations

import pytest
import torch
from cmcd_depth import DepthOptions, build

OFF = {"scale_jitter": 0, "hole_probability": 0, "noise": 0}


def augmented(batch: torch.Tensor, seed: int = 0, **options: float) -> torch.Tensor:
    return build(DepthOptions(**options)).augment(batch, torch.Generator().manual_seed(seed))


@pytest.fixture
def batch() -> torch.Tensor:
    g = torch.Generator().manual_seed(5)
    depth = 1 + torch.rand(32, 1, 24, 30, generator=g)
    return depth * (torch.rand(depth.shape, generator=g) > 0.3)


def test_reproducible_and_holes_stay(batch: torch.Tensor) -> None:
    before = batch.clone()
    first, again, other = augmented(batch), augmented(batch), augmented(batch, seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(batch, before), "the batch itself is left alone"
    assert (first.shape, first.dtype) == (batch.shape, batch.dtype)
    assert (first[batch == 0] == 0).all()
    assert (first >= 0).all()


def test_each_map_has_its_own_draw(batch: torch.Tensor) -> None:
    out = augmented(batch[:1].expand(32, -1, -1, -1).contiguous())
    assert len({tuple(x.flatten().tolist()) for x in out}) == 32


def test_all_off_changes_nothing(batch: torch.Tensor) -> None:
    assert torch.equal(augmented(batch, **OFF), batch)


def test_scale_is_one_factor_a_map(batch: torch.Tensor) -> None:
    out = augmented(batch, **{**OFF, "scale_jitter": 0.5})
    factors = torch.stack([(a[b > 0] / b[b > 0]).aminmax()[i] for a, b in zip(out, batch, strict=True) for i in (0, 1)])
    low, high = factors.view(-1, 2).T
    assert torch.allclose(low, high, rtol=1e-5)
    assert 1 / 1.5 <= low.min() < 0.85
    assert 1.15 < high.max() <= 1.5


def test_holes() -> None:
    full = torch.ones(400, 1, 32, 32)
    out = augmented(full, **{**OFF, "hole_probability": 0.5}, hole_size=0.5, hole_count=2)
    missing = (out == 0).float().mean((1, 2, 3))
    assert (missing > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert missing.max() <= 2 * 0.5**2
    assert (out[out > 0] == 1).all()


def test_noise_grows_with_depth() -> None:
    near = torch.full((4, 1, 64, 64), 1.0)
    options = {**OFF, "noise": 0.01}
    for scale in (1, 4):
        spread = (augmented(near * scale, **options) - scale).std().item()
        assert spread == pytest.approx(0.01 * scale, rel=0.05)
