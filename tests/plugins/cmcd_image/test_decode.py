"""Every kind of picture becomes (3, H, W) in [0, 1], or a reason why not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cmcd_image import ImageOptions, build
from PIL import Image

from cmcd_core import DataError

IMAGE = build(ImageOptions())
COLOURS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [128, 64, 32]]], dtype=np.uint8
)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def levels(x: torch.Tensor) -> np.ndarray:
    return (x * 255).round().byte().permute(1, 2, 0).numpy()


def test_path_bytes_and_array_agree(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(COLOURS))
    (tmp_path / "a.png").write_bytes(data)
    for raw in (data, tmp_path / "a.png", COLOURS):
        x = IMAGE.decode(raw)
        assert x.shape == (3, 2, 3)
        assert x.dtype == torch.float32
        assert np.array_equal(levels(x), COLOURS)
        assert torch.equal(x, IMAGE.decode(raw)), "decoding is deterministic"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, mode: str) -> None:
    upright = np.zeros((4, 6), dtype=np.uint8)
    upright[0, :] = upright[:, 0] = upright[1, 1] = 255
    stored = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    if mode == "I;16":
        image = Image.fromarray(np.ascontiguousarray(stored).astype(np.uint16) * 257)
    else:
        image = Image.fromarray(np.ascontiguousarray(stored)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    x = IMAGE.decode(encoded(image, exif=exif))
    assert np.array_equal(levels(x)[..., 0], upright)


def test_broken_exif_is_ignored() -> None:
    x = IMAGE.decode(encoded(Image.fromarray(COLOURS), "JPEG", exif=b"Exif\x00\x00MM\x00*garbage"))
    assert x.shape == (3, 2, 3)


def test_transparency_shows_a_white_background() -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0] = 255
    rgba[0, :, 3] = (255, 128, 0)
    expected = [[[255, 0, 0], [255, 127, 127], [255, 255, 255]]]
    for raw in (
        rgba,
        encoded(Image.fromarray(rgba)),
        encoded(Image.fromarray(rgba), "WEBP", lossless=True, exact=True),
    ):
        assert levels(IMAGE.decode(raw)).tolist() == expected
    la = Image.fromarray(np.array([[[0, 0], [0, 255]]], dtype=np.uint8), "LA")
    assert levels(IMAGE.decode(encoded(la)))[0, :, 0].tolist() == [255, 0]


def test_transparent_colours_of_palette_rgb_and_grey() -> None:
    grey = Image.fromarray(np.array([[7, 90]], dtype=np.uint8))
    assert levels(IMAGE.decode(encoded(grey, transparency=7)))[0, :, 0].tolist() == [255, 90]
    rgb = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], dtype=np.uint8))
    assert levels(IMAGE.decode(encoded(rgb, transparency=(1, 2, 3)))).tolist() == [[[255] * 3, [9] * 3]]
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30, 200, 100, 50])
    assert levels(IMAGE.decode(encoded(palette))).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert levels(IMAGE.decode(encoded(palette, "GIF", transparency=0))).tolist() == [[[255] * 3, [200, 100, 50]]]


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.array([[0, 1000, 32768, 65535]], dtype=np.uint16)
    for raw in (deep, encoded(Image.fromarray(deep)), encoded(Image.fromarray(deep), "TIFF")):
        assert IMAGE.decode(raw)[0, 0].numpy() == pytest.approx(deep[0] / 65535, abs=1e-6)
    clear = IMAGE.decode(encoded(Image.fromarray(deep), transparency=0))[0, 0].numpy()
    assert clear[1:] == pytest.approx(deep[0, 1:] / 65535, abs=1e-6)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    flat = Image.fromarray(np.full((8, 8, 3), (200, 30, 60), dtype=np.uint8)).convert("CMYK")
    assert levels(IMAGE.decode(encoded(flat, kind))).reshape(-1, 3) == pytest.approx(
        np.full((64, 3), (200, 30, 60)), abs=6
    )


def test_other_modes_and_float_tiff() -> None:
    for mode in ("YCbCr", "LAB"):
        flat = Image.new(mode, (3, 2), (128, 128, 128))
        assert IMAGE.decode(encoded(flat, "TIFF")).shape == (3, 2, 3)
    floats = Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32))
    assert IMAGE.decode(encoded(floats, "TIFF"))[0, 0].tolist() == [0.0, 0.25, 1.0]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        red, _, blue = IMAGE.decode(data)[:, 0, 0].tolist()
        assert red > 0.9
        assert blue < 0.1


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64, bool])
def test_arrays(shape: tuple[int, ...], dtype: type) -> None:
    array = np.ones(shape) * (1 if dtype is bool or np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max)
    x = IMAGE.decode(array.astype(dtype))
    assert x.shape == (3, 4, 5)
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.ones(3, 4, 5))
    x.zero_()  # writable: no view of read-only memory


def noisy(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), kind)


BAD: dict[str, tuple[Callable[[], bytes | np.ndarray], str]] = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"id,split\n1,train\n", "not a picture"),
    "html": (lambda: b"<html>404 not found</html>", "not a picture"),
    "truncated JPEG": (lambda: noisy("JPEG")[:1500], "truncated"),
    "truncated PNG": (lambda: noisy("PNG")[:900], "truncated"),
    "header only": (lambda: noisy("JPEG")[:12], "not a picture|truncated"),
    "damaged PNG": (lambda: encoded(Image.fromarray(COLOURS)).replace(b"IDAT", b"IDAX"), "damaged"),
    "vector": (lambda: np.zeros(5, np.uint8), "shape"),
    "channels first": (lambda: np.zeros((3, 8, 8), np.uint8), "shape"),
    "no pixels": (lambda: np.zeros((0, 8), np.uint8), "shape"),
    "0 to 255 as floats": (lambda: np.full((4, 4), 255.0), "255"),
    "negative": (lambda: np.full((4, 4), -0.5), "-0.5"),
    "NaN": (lambda: np.full((4, 4), np.nan), "nan"),
    "int64": (lambda: np.zeros((4, 4), np.int64), "int64"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_refused_with_a_reason(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(DataError, match=reason) as caught:
        IMAGE.decode(make())
    assert caught.value.hint


def test_decompression_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="too large"):
        IMAGE.decode(encoded(Image.new("L", (30, 30))))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        IMAGE.decode(tmp_path / "gone.png")


@pytest.mark.parametrize("name", ["asl_fingerspelling", "tools_objects", "sketchy"])
def test_real_photos(name: str, data: Callable[[str], Path]) -> None:
    for path in sorted((data(name) / "image").rglob("*.jpg"))[:20]:
        x = IMAGE.decode(path)
        with Image.open(path) as image:
            assert x.shape == (3, image.height, image.width)
        assert 0 <= x.min() < x.max() <= 1
        assert IMAGE.picture(IMAGE.resize(x, 32)).shape == (32, 32, 3)
