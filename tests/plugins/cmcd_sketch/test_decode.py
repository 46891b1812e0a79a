"""Ink is 1 on paper of 0, whatever the file; what holds no drawing is refused with a reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cmcd_sketch import SketchOptions, build
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from cmcd_core import DataError

SIDE = 64


def drawing(width: int = 2, side: int = SIDE) -> np.ndarray:
    """(side, side) bool: a house, off centre so that every rotation shows."""
    page = Image.new("1", (side, side), 0)
    pen, k = ImageDraw.Draw(page), side / 64
    pen.rectangle((10 * k, 24 * k, 40 * k, 54 * k), outline=1, width=width)
    pen.line([(10 * k, 24 * k), (25 * k, 8 * k), (40 * k, 24 * k)], fill=1, width=width)
    return np.asarray(page)


INK = drawing()
GREY = np.where(INK, 0, 255).astype(np.uint8)


def file(image: Image.Image | np.ndarray, kind: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **settings)
    return buffer.getvalue()


def decode(raw: Path | bytes | np.ndarray, **options: object) -> np.ndarray:
    x = build(SketchOptions(**options)).decode(raw)
    assert (x.dtype, x.shape[0]) == (torch.float32, 1)
    assert x.isfinite().all()
    assert 0 <= x.min() <= x.max() <= 1
    return x[0].numpy()


def rgba(colour: int, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([np.full((*alpha.shape, 3), colour, np.uint8), alpha])


def palette(**settings: object) -> bytes:
    image = Image.fromarray(INK.astype(np.uint8), "P")
    image.putpalette([250, 250, 250, 20, 40, 160])
    return file(image, **settings)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    return file(Image.fromarray(np.rot90(GREY).copy()), exif=exif)


def animated() -> bytes:
    empty = Image.new("L", (SIDE, SIDE), 255)
    return file(Image.fromarray(GREY), "GIF", save_all=True, append_images=[empty, empty])


def clip_art() -> np.ndarray:
    """Black outlines, white inside, nothing outside."""
    inside = np.zeros((SIDE, SIDE), bool)
    inside[4:58, 4:46] = True
    return np.dstack([GREY, GREY, GREY, np.where(inside, 255, 0).astype(np.uint8)])


SAME: dict[str, Callable[[], bytes | np.ndarray]] = {
    "grey PNG": lambda: file(GREY),
    "1 bit": lambda: file(Image.fromarray(GREY).convert("1")),
    "1 bit TIFF, fax": lambda: file(Image.fromarray(GREY).convert("1"), "TIFF", compression="group4"),
    "palette": palette,
    "palette with a transparent colour": lambda: palette(transparency=0),
    "RGB": lambda: file(np.repeat(GREY[..., None], 3, 2)),
    "16 bits": lambda: file(GREY.astype(np.uint16) * 257),
    "12 bits in 16": lambda: file(GREY.astype(np.uint16) * 16),
    "CMYK JPEG": lambda: file(Image.fromarray(GREY).convert("CMYK"), "JPEG", quality=100),
    "opaque RGBA": lambda: file(np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])),
    "black on transparent": lambda: file(rgba(0, 255 - GREY)),
    "white on transparent": lambda: file(rgba(255, 255 - GREY)),
    "grey and alpha": lambda: file(Image.fromarray(rgba(0, 255 - GREY)).convert("LA")),
    "clip art": lambda: file(clip_art()),
    "white page with a transparent corner": lambda: (
        rgba(0, np.pad(np.full((60, 64), 255, np.uint8), ((4, 0), (0, 0)))) | np.repeat(GREY[..., None], 4, 2)
    ),
    "yellow on white": lambda: np.dstack([np.full_like(GREY, 255), np.full_like(GREY, 255), GREY]),
    "white on a green board": lambda: np.dstack([255 - GREY, np.maximum(255 - GREY, 90), 255 - GREY]),
    "EXIF rotation": rotated,
    "animated, first frame": animated,
    "array, bool": lambda: ~INK,
    "array, floats": lambda: GREY / 255,
    "array, (H, W, 1)": lambda: GREY[..., None],
    "faint": lambda: np.where(INK, 160, 180).astype(np.uint8),
}


@pytest.mark.parametrize("name", SAME)
def test_every_kind_of_file(name: str, tmp_path: Path) -> None:
    raw = SAME[name]()
    out = decode(raw)
    assert np.abs(out - INK).mean() < 0.005
    assert np.array_equal(out > 0.5, INK)
    assert np.array_equal(decode(raw), out), "deterministic"
    if isinstance(raw, bytes):
        (tmp_path / "drawing").write_bytes(raw)
        assert np.array_equal(decode(tmp_path / "drawing"), out)
    elif raw.dtype == np.uint8 and raw.shape[-1] != 4:
        assert decode(255 - raw) == pytest.approx(out, abs=1e-4)


@settings(max_examples=40)
@given(
    points=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 59)), min_size=2, max_size=12, unique=True),
    width=st.integers(1, 4),
    ink=st.integers(0, 100),
    paper=st.integers(140, 255),
)
def test_polarity_is_found(points: list[tuple[int, int]], width: int, ink: int, paper: int) -> None:
    page = Image.new("L", (80, 60), paper)
    ImageDraw.Draw(page).line(points, fill=ink, width=width)
    dark = np.asarray(page)
    assert decode(dark) == pytest.approx((dark == ink).astype(float), abs=1e-4)
    assert decode(255 - dark) == pytest.approx(decode(dark), abs=1e-4)


def test_filled_shape_larger_than_its_ground() -> None:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    disc = np.hypot(x, y) < 0.9
    for page in (disc, ~disc):
        assert np.array_equal(decode(page) > 0.5, disc)


def test_polarity_can_be_said() -> None:
    assert decode(GREY, polarity="dark") == pytest.approx(INK.astype(float))
    assert decode(255 - GREY, polarity="light") == pytest.approx(INK.astype(float))
    assert decode(GREY, polarity="light") == pytest.approx((~INK).astype(float))
    for colour in (0, 255):
        for polarity in ("dark", "light"):
            assert np.array_equal(decode(rgba(colour, 255 - GREY), polarity=polarity) > 0.5, INK), "alpha decides"


def photographed(light: np.ndarray, contrast: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    ink = drawing(4, 256)
    grain = np.random.default_rng(0).normal(0, noise, ink.shape)
    page = light * (1 - contrast * ink) + grain
    return (page.clip(0, 1) * 255).astype(np.uint8), ink


Y, X = np.mgrid[-1:1:256j, -1:1:256j]
LIGHT = {
    "grey paper": np.full((256, 256), 0.7),
    "light from the side": 0.6 + 0.3 * X,
    "vignette": 0.85 - 0.2 * (X**2 + Y**2),
}


@pytest.mark.parametrize("light", LIGHT)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_photographed_pencil(light: str, kind: str) -> None:
    page, ink = photographed(LIGHT[light], contrast=0.3, noise=0.01)
    for raw in (file(page, kind), file(255 - page, kind)):
        out = decode(raw)
        assert np.median(out[~ink]) == 0
        assert (out[~ink] > 0.3).mean() < 0.01, "no grain on the paper"
        assert np.median(out[ink]) > 0.5


@pytest.mark.parametrize("light", LIGHT)
@pytest.mark.parametrize("noise", [0, 0.01, 0.03])
def test_an_empty_page_is_refused(light: str, noise: float) -> None:
    page, _ = photographed(LIGHT[light], contrast=0, noise=noise)
    for raw in (page, 255 - page):
        with pytest.raises(DataError, match="nothing is drawn"):
            decode(raw)


def test_a_small_drawing_is_no_empty_page() -> None:
    page = np.full((300, 300), 230, np.uint8)
    page[100, 100:120] = 60
    assert np.array_equal(decode(page) == 1, page == 60)


BAD: dict[str, tuple[Callable[[], bytes | np.ndarray], str]] = {
    "no bytes": (lambda: b"", "empty"),
    "text": (lambda: b"a drawing, in words", "not a picture"),
    "truncated PNG": (lambda: file(GREY)[:-40], "truncated"),
    "truncated JPEG": (lambda: file(GREY, "JPEG")[:-200], "truncated"),
    "white": (lambda: file(np.full((9, 9), 255, np.uint8)), "nothing is drawn"),
    "black": (lambda: np.zeros((9, 9), np.uint8), "nothing is drawn"),
    "one pixel": (lambda: np.zeros((1, 1)), "nothing is drawn"),
    "transparent": (lambda: file(rgba(0, np.zeros_like(GREY))), "nothing is drawn"),
    "floats to 255": (lambda: GREY.astype(float), r"lie in \[0, 1\]"),
    "NaN": (lambda: np.full((4, 4), np.nan), r"lie in \[0, 1\]"),
    "int64": (lambda: GREY.astype(np.int64), "int64"),
    "stack": (lambda: np.ones((4, 5, 6)), "shape"),
    "1-D": (lambda: np.ones(4), "shape"),
    "no pixels": (lambda: np.ones((0, 4)), "shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_a_reason(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(DataError, match=reason) as caught:
        decode(make())
    assert caught.value.hint


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="too large"):
        decode(file(GREY))


@pytest.mark.parametrize("bad", [{"polarity": "grey"}, {"thickness": -1}, {"gaps": 0.9}, {"gap_size": 0}, {"ink": 1}])
def test_options_are_checked(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SketchOptions(**bad)


def test_picture_is_dark_on_white() -> None:
    sketch = build(SketchOptions())
    shown = sketch.picture(sketch.decode(255 - GREY))
    assert (shown.shape, shown.dtype) == ((SIDE, SIDE, 3), np.uint8)
    assert np.array_equal(shown, np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize("name", ["sketchy", "bsds500", "camvid_contour"])
def test_real_sketches(name: str, data: Callable[[str], Path]) -> None:
    for path in sorted((data(name) / "sketch").glob("*.png"))[::40][:20]:
        original = np.asarray(Image.open(path))
        out = decode(path)
        assert out == pytest.approx(1 - original / 255.0, abs=0.1), "clean files change little"
        assert np.abs(decode(255 - original) - out).max() < 1e-4
        assert np.corrcoef(decode(rgba(200, 255 - original)).ravel(), out.ravel())[0, 1] > 0.99
