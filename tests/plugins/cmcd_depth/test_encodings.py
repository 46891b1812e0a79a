"""What the encoder sees: in [0, 1], each map on its own, near is bright, missing is 0."""

from __future__ import annotations

import itertools
import time

import cmcd_depth
import numpy as np
import pytest
import torch
from cmcd_depth import DepthOptions, build
from hypothesis import given, settings
from hypothesis import strategies as st

ENCODINGS = ("percentile", "inverse", "log", "normals")
OPTIONS = [{"encoding": e, "validity": v} for e, v in itertools.product(ENCODINGS, (False, True))]


def scenes(n: int = 6, size: int = 40, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0, 1, size).view(1, 1, 1, -1)
    depth = 0.5 + 3 * torch.rand(n, 1, 1, 1, generator=g) + ramp + 0.05 * torch.rand(n, 1, size, size, generator=g)
    return depth * (torch.rand(depth.shape, generator=g) > 0.2)


def test_descriptor() -> None:
    (plugin,) = cmcd_depth.cmcd_modalities()
    modality = plugin.build(plugin.options())
    assert (plugin.name, modality.channels, modality.spatial, modality.storage) == ("depth", 1, True, "float32")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_range_channels_and_missing(options: dict[str, object]) -> None:
    depth, x = build(DepthOptions(**options)), scenes()
    before = x.clone()
    out = depth.encode(x)
    assert torch.equal(x, before)
    assert out.shape == (6, depth.channels, 40, 40)
    assert depth.channels == (3 if options["encoding"] == "normals" else 1) + options["validity"]
    assert out.min() >= 0
    assert out.max() <= 1
    missing = (x == 0).expand_as(out)
    assert (out[missing] == 0).all()
    if options["validity"]:
        assert torch.equal(out[:, -1:], (x > 0).float())
    else:
        assert out[~missing].min() >= 0.1 - 1e-6, "valid depth is told from missing"


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_maps_do_not_depend_on_their_batch(options: dict[str, object]) -> None:
    depth, x = build(DepthOptions(**options)), scenes()
    x[2] = 0
    x[3] *= 1000
    together = depth.encode(x)
    alone = torch.cat([depth.encode(m[None]) for m in x])
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("case", ["empty", "one pixel", "flat", "tiny", "huge", "strip"])
def test_odd_maps_stay_finite(options: dict[str, object], case: str) -> None:
    x = torch.zeros(1, 1, 64, 64)
    if case == "one pixel":
        x[0, 0, 0, 0] = 1.0  # off the grid that percentiles are taken over
    elif case == "strip":
        x = torch.rand(1, 1, 1, 7) + 0.1
    elif case != "empty":
        x += {"flat": 2.0, "tiny": 1e-30, "huge": 3e38}[case]
    out = build(DepthOptions(**options)).encode(x)
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1


@settings(max_examples=25)
@given(st.floats(1e-3, 1e3), st.integers(0, 100), st.sampled_from(["percentile", "inverse", "normals"]))
def test_scale_invariance(factor: float, seed: int, encoding: str) -> None:
    depth, x = build(DepthOptions(encoding=encoding)), scenes(3, seed=seed)
    assert torch.allclose(depth.encode(x * factor), depth.encode(x), atol=2e-3)


def test_percentiles_are_those_of_the_valid_pixels() -> None:
    x = scenes(4, size=32)  # as many pixels as the grid has: all are used
    out = build(DepthOptions(percentiles=(10, 80), validity=True)).encode(x)
    for before, after in zip(x[:, 0].numpy(), out[:, 0].numpy(), strict=True):
        low, high = np.percentile(before[before > 0], (10, 80))
        expected = 1 - np.clip((before - low) / (high - low), 0, 1)
        assert after[before > 0] == pytest.approx(expected[before > 0], abs=1e-4)


def test_log_is_metric() -> None:
    depth = build(DepthOptions(encoding="log", near=0.5, far=8.0, validity=True))
    x = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 20.0]).view(1, 1, 1, -1)
    assert depth.encode(x)[0, 0, 0].tolist() == pytest.approx([0, 1, 0.75, 0.5, 0.25, 0, 0], abs=1e-6)


def test_near_is_bright() -> None:
    x = torch.linspace(0.5, 5, 400).view(1, 1, 20, 20)
    for encoding in ("percentile", "inverse", "log"):
        values = build(DepthOptions(encoding=encoding)).encode(x).flatten()
        assert (values.diff() <= 1e-6).all()
        assert values[0] > 0.7 > values[-1]


def test_normals_of_a_plane() -> None:
    """A wall that recedes by atan(slope): depth z = 1 / (1 - slope·X) in a pinhole camera of focal length 1."""
    size, slope = 101, 0.5
    column = (torch.arange(size) - size // 2) / size
    x = (1 / (1 - slope * column)).expand(1, 1, size, size)
    out = build(DepthOptions(encoding="normals", validity=True)).encode(x)[0, :3, size // 2, size // 2]
    nx, ny, nz = (2 * out[0] - 1).item(), (2 * out[1] - 1).item(), out[2].item()
    length = (1 + slope**2) ** 0.5
    assert (nx, ny, nz) == pytest.approx((slope / length, 0, 1 / length), abs=2e-3)


def test_normals_do_not_see_the_edge_of_a_hole() -> None:
    x = torch.full((1, 1, 16, 16), 2.0)
    x[..., 4:9, 4:9] = 0
    out = build(DepthOptions(encoding="normals", validity=True)).encode(x)
    assert (out[0, 2][x[0, 0] > 0] == 1).all(), "a flat wall faces the viewer up to the hole"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_picture(encoding: str) -> None:
    depth = build(DepthOptions(encoding=encoding))
    x = scenes(1, 30)[0]
    shown = depth.picture(x)
    assert (shown.shape, shown.dtype) == ((30, 30, 3), np.uint8)
    assert (shown[x[0].numpy() == 0] == 0).all()
    assert (shown[x[0].numpy() > 0].sum(axis=1) > 0).all()
    assert depth.picture(torch.zeros(1, 5, 5)).max() == 0


def test_fast_enough() -> None:
    """A wide margin over the 8 ms measured on one core, for busy machines."""
    depth, x = build(DepthOptions()), scenes(128, 64)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        depth.encode(x)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1
