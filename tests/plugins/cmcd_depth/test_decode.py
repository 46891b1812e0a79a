"""Every unit and format becomes (1, H, W) with 0 = missing, or a reason why not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cmcd_depth import DepthOptions, build
from PIL import Image

from cmcd_core import DataError

METRES = np.array([[0.0, 0.5, 1.0], [2.0, 3.25, 0.0]])
MM = (METRES * 1000).astype(np.uint16)


def picture(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def decode(raw: Path | bytes | np.ndarray, **options: object) -> np.ndarray:
    x = build(DepthOptions(**options)).decode(raw)
    assert x.dtype == torch.float32
    assert x.shape[0] == 1
    return x[0].numpy()


SAME = {
    "PNG, 16 bits": picture(MM),
    "TIFF, 16 bits": picture(MM, "TIFF"),
    "TIFF, 32 bits": picture(MM.astype(np.int32), "TIFF"),
    "TIFF, floats": picture(METRES.astype(np.float32), "TIFF"),
    "npy, uint16": npy(MM),
    "npy, big endian": npy(MM.astype(">u2")),
    "npy, floats": npy(METRES),
    "npy, half": npy(METRES.astype(np.float16)),
    "npy, one channel": npy(MM[..., None]),
    "array": MM,
    "array, int64": MM.astype(np.int64),
    "array, (1, H, W)": METRES[None].astype(np.float32),
    "array, Fortran order": np.asfortranarray(METRES),
}


@pytest.mark.parametrize("name", SAME)
def test_formats_agree(name: str, tmp_path: Path) -> None:
    raw = SAME[name]
    assert decode(raw) == pytest.approx(METRES, abs=1e-6)
    assert np.array_equal(decode(raw), decode(raw))
    if isinstance(raw, bytes):
        (tmp_path / "file").write_bytes(raw)
        assert np.array_equal(decode(tmp_path / "file"), decode(raw))
    else:
        before = raw.copy()
        decode(raw, far=1.0)
        assert np.array_equal(raw, before), "the caller's array is left alone"


@pytest.mark.parametrize(
    ("unit", "array", "expected"),
    [
        ("auto", np.array([[0, 51, 255]], np.uint8), [0, 0.2, 1]),
        ("mm", np.array([[0, 51, 255]], np.uint8), [0, 0.051, 0.255]),
        ("mm", np.array([[0.0, 1500.0]]), [0, 1.5]),
        ("m", np.array([[0, 2]], np.uint16), [0, 2]),
        ("relative", np.array([[0, 13107, 65535]], np.uint16), [0, 0.2, 1]),
        ("relative", np.array([[0, 4.0, 8.0]]), [0, 4, 8]),
        ("disparity", np.array([[0, 2.0, 4.0]]), [0, 0.5, 0.25]),
        ("disparity", np.array([[0, 1, 100]], np.uint8), [0, 1, 0.01]),
    ],
)
def test_units(unit: str, array: np.ndarray, expected: list[float]) -> None:
    assert decode(array, unit=unit)[0] == pytest.approx(expected, rel=1e-6)


def test_what_is_not_a_depth_is_missing() -> None:
    odd = np.array([[np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300, 2.0]])
    out = decode(odd)[0]
    assert out[:5].tolist() == [0] * 5
    assert np.isfinite(out).all()
    assert out[6] == 2
    assert decode(np.array([[65535, 1000]], np.uint16))[0].tolist() == [0, 1], "saturated"
    for kind in (">u2", np.int32, np.int64):
        saturated = np.array([[65535, 1000]], kind)
        for raw in (saturated, npy(saturated)):
            assert decode(raw)[0].tolist() == [0, 1], kind
    assert decode(np.array([[-5, 1000]], np.int16))[0].tolist() == [0, 1]


def test_window_makes_the_rest_missing() -> None:
    assert decode(MM, near=0.6, far=2.5).tolist() == [[0, 0, 1], [2, 0, 0]]
    with pytest.raises(DataError, match="no pixel lies within 5 to inf metres"):
        decode(MM, near=5.0)


def test_log_keeps_what_its_default_scale_clips_but_not_a_wrong_unit() -> None:
    assert decode(np.array([[0.1, 1.0, 50.0]]), encoding="log")[0] == pytest.approx([0.1, 1, 50])
    with pytest.raises(DataError, match=r"within 0.25 to 10 metres"):
        decode(METRES * 1000, encoding="log")  # millimetres as floats


def test_grey_saved_as_rgb_is_accepted() -> None:
    grey = np.array([[0, 51, 255]], np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    for raw in (rgb, picture(rgb)):
        assert decode(raw) == pytest.approx(grey / 255)


def colour() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)


def palette() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(colour()).convert("P").save(buffer, "PNG")
    return buffer.getvalue()


BAD: dict[str, tuple[Callable[[], bytes | np.ndarray], str]] = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"depth, in words", "not a depth map"),
    "truncated PNG": (lambda: picture(colour()[..., 0].astype(np.uint16) * 99)[:300], "truncated"),
    "truncated npy": (lambda: npy(METRES)[:-8], "truncated"),
    "npy header only": (lambda: npy(METRES)[:10], "truncated"),
    "pickle": (lambda: npy(np.array([{"a": 1}], dtype=object)), "(?i)pickle|object"),
    "colour picture": (lambda: picture(colour()), "colour picture"),
    "palette": (palette, "mode P"),
    "3-D npy": (lambda: npy(np.ones((4, 5, 6))), "shape"),
    "1-D": (lambda: np.ones(4), "shape"),
    "no pixels": (lambda: np.ones((0, 4)), "shape"),
    "bool": (lambda: np.ones((4, 4), bool), "bool"),
    "complex": (lambda: np.ones((4, 4), complex), "complex"),
    "all missing": (lambda: np.zeros((4, 4), np.uint16), "no pixel"),
    "all NaN": (lambda: np.full((4, 4), np.nan), "no pixel"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_maps_are_refused_with_a_reason(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(DataError, match=reason) as caught:
        decode(make())
    assert caught.value.hint


@pytest.mark.parametrize("options", [{"far": 2.0}, {"near": 0.1}, {"encoding": "log"}])
def test_metres_are_needed(options: dict[str, object]) -> None:
    with pytest.raises(DataError, match="metres"):
        decode(np.full((4, 4), 9, np.uint8), **options)
    for unit in ("relative", "disparity"):
        with pytest.raises(ValueError, match="metres"):
            DepthOptions(unit=unit, **options)


@pytest.mark.parametrize(
    "bad",
    [
        {"near": 2.0, "far": 1.0},
        {"encoding": "log", "far": 0.2},
        {"encoding": "log", "near": 12.0},
        {"near": -1.0},
        {"percentiles": (60, 40)},
        {"percentiles": (-1, 50)},
        {"unit": "feet"},
        {"hole_size": 2},
        {"nearest": 1},
    ],
)
def test_options_are_checked(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        DepthOptions(**bad)


@pytest.mark.parametrize("name", ["asl_fingerspelling", "tools_objects", "tools_seg", "indoor_unlabelled"])
def test_real_maps(name: str, data: Callable[[str], Path]) -> None:
    depth = build(DepthOptions())
    for path in sorted((data(name) / "depth").glob("*.png"))[::15][:20]:
        x = depth.decode(path)
        assert 0.2 < x[x > 0].median() < 10, "metres"
        encoded = depth.encode(depth.resize(x, 48)[None])
        assert encoded.shape == (1, 1, 48, 48)
        assert encoded.max() > 0.9
        assert encoded[encoded > 0].std() > 0.05, "the relief is seen"


def test_a_window_brings_out_a_real_hand(data: Callable[[str], Path]) -> None:
    paths = sorted((data("asl_fingerspelling") / "depth").glob("*.png"))[::60]
    whole, window = build(DepthOptions()), build(DepthOptions(near=0.5, far=1.2))

    def relief(depth: object) -> float:
        spreads = []
        for path in paths:
            raw = np.asarray(Image.open(path)).astype(float)
            x = depth.decode(path)
            hand = (raw > 500) & (raw < raw[raw > 0].min() + 120)
            spreads.append(depth.encode(x[None])[0, 0].numpy()[hand].std())
        return float(np.median(spreads))

    assert relief(window) > 2 * relief(whole)
