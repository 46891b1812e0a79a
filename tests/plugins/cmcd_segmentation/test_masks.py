"""Masks come back as the ids that were saved, whatever they were saved as; what is no mask is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from cmcd_segmentation import SegmentationOptions, build
from cmcd_segmentation.masks import read_mask
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from cmcd_core import DataError

IDS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def png(picture: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


def palette(ids: np.ndarray) -> Image.Image:
    """A palette in which the ids' order is not that of their colours, and two ids look alike."""
    picture = Image.fromarray(ids)
    picture.putpalette([value for n in range(256) for value in (255 - n, n // 2, 7)])
    assert picture.mode == "P"
    return picture


@given(IDS)
def test_every_way_to_save_them_gives_the_same_ids(ids: np.ndarray) -> None:
    ways = {
        "grey": png(Image.fromarray(ids)),
        "palette": png(palette(ids)),
        "sixteen bits": png(Image.fromarray(ids.astype(np.uint16))),
        "array": ids,
        "wide array": ids.astype(np.int64),
        "list": ids.tolist(),
    }
    for name, value in ways.items():
        mask = read_mask(value)
        assert mask.dtype == torch.uint8, name
        assert np.array_equal(mask.numpy(), ids), name


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_black_and_white_is_0_and_1(ids: np.ndarray) -> None:
    for value in (ids, png(Image.fromarray(ids).convert("1"))):
        assert np.array_equal(read_mask(value).numpy(), ids.astype(np.uint8))


@pytest.mark.parametrize("transparent", [0, 3])
def test_a_palette_with_a_transparent_colour(transparent: int) -> None:
    ids = np.array([[0, 3, 255], [7, 0, 3]], np.uint8)
    assert np.array_equal(read_mask(png(palette(ids), transparency=transparent)).numpy(), ids)


@pytest.mark.parametrize("name", ["mask.png", "mask.gif", "mask.tif", "mask.bmp"])
def test_files(tmp_path: Path, name: str) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(8, 32)
    Image.fromarray(ids).save(tmp_path / name)
    for value in (tmp_path / name, (tmp_path / name).read_bytes()):
        assert np.array_equal(read_mask(value).numpy(), ids)


def test_the_mask_is_a_copy() -> None:
    ids = np.zeros((3, 4), np.uint8)
    mask = build(SegmentationOptions()).target(ids)
    mask[0, 0] = 9
    assert ids.max() == 0


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(out, "JPEG")
    return out.getvalue()


def tiff() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.float32)).save(out, "TIFF")
    return out.getvalue()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (png(Image.new("RGB", (4, 4))), "this is a RGB picture"),
        (png(Image.new("RGBA", (4, 4))), "this is a RGBA picture"),
        (png(Image.new("LA", (4, 4))), "this is a LA picture"),
        (jpeg(), "JPEG changes class ids"),
        (tiff(), "this is a F picture"),
        (np.zeros((4, 4), np.float32), "this is float32 of shape (4, 4)"),
        (np.full((4, 4), 0.5), "this is float64"),
        (np.zeros((4, 4, 1), np.uint8), "of shape (4, 4, 1)"),
        (np.zeros(4, np.uint8), "of shape (4,)"),
        (np.zeros((0, 4), np.uint8), "of shape (0, 4)"),
        (np.array([[0, 256]]), "from 0 to 256"),
        (np.array([[-1, 3]]), "from -1 to 3"),
        (png(Image.fromarray(np.array([[0, 300]], np.uint16))), "from 0 to 300"),
    ],
)  # fmt: skip
def test_what_is_no_mask_is_refused(value: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        build(SegmentationOptions()).target(value)
    assert message in caught.value.message
