"""SUN RGB-D as it is unpacked: rotated depth, scenes, the official splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cmcd_datasets.sunrgbd import SCENES, unrotated
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from cmcd_core import DataError
from cmcd_core.catalog import load
from cmcd_core.data.decoded import decode_one
from cmcd_core.data.digest import raw_digest
from cmcd_core.inspection.opened import open_set

FOLDERS = {
    "kv1/NYUdata/NYU0001": "bedroom",
    "kv1/NYUdata/NYU0002": "basement",
    "kv2/kinect2data/000002_2014-05-26_14-23-37_260595134347_rgbf000103-resize": "office",
    "realsense/lg/2014_10_21-18_16_30-1311000073": "office",
    "xtion/sun3ddata/brown_bm_1/brown_bm_1/0000103-000003428996": "classroom",
    "xtion/sun3ddata/brown_bm_1/brown_bm_1/0000149-000004963543": "classroom",
}


def rotated(millimetres: np.ndarray) -> np.ndarray:
    """As the files have them: 16 bits rotated left by three."""
    wide = millimetres.astype(np.uint32)
    return ((wide << 3) | (wide >> 13)).astype(np.uint16)


@given(st.integers(0, 0xFFFF))
def test_the_rotation(value: int) -> None:
    assert unrotated(rotated(np.array([value], np.uint16)))[0] == value


def test_the_rotation_by_hand() -> None:
    assert list(unrotated(np.array([8 * 1234, 1, 0b101, 0], np.uint16))) == [1234, 8192, 5 * 8192 & 0xFFFF, 0]


@pytest.fixture
def tree(tmp_path: Path, picture) -> Path:
    for number, (folder, scene) in enumerate(FOLDERS.items()):
        place = tmp_path / "SUNRGBD" / folder
        depth = np.full((4, 6), 1000 + number, np.uint16)
        picture(place / "image" / "one.jpg", number)
        picture(place / "depth" / "two.png", rotated(depth))
        picture(place / "depth_bfx" / "two.png", rotated(depth + 500))
        (place / "scene.txt").write_text(scene)
    return tmp_path


@pytest.mark.parametrize("below", [".", "SUNRGBD"])
def test_every_folder_is_a_pair(below: str, tree: Path, recognised, everything) -> None:
    name, loader = recognised((tree / below).resolve())
    assert (name, loader.modalities, loader.aligned) == ("sunrgbd", {"image", "depth"}, {"image", "depth"})
    samples = {sample.key: sample for sample in everything(loader)}
    assert samples.keys() == FOLDERS.keys()
    assert loader.classes["label"] == ["bedroom", "classroom", "office"]
    assert samples["kv1/NYUdata/NYU0002"].targets == {}  # basement is none of the 19
    every = recognised((tree / below).resolve(), scenes="all")[1]
    assert every.classes["label"] == ["basement", "bedroom", "classroom", "office"]
    assert len(SCENES) == 19


def test_depth_is_in_metres_once_decoded(tree: Path) -> None:
    for options, more in (({}, 0.0), ({"depth": "depth_bfx"}, 0.5)):
        opened = open_set(str(tree), options, load())
        for split in ("train", "val", "test"):
            for sample in opened.loader.split(split):
                depth = decode_one(sample.key, sample.views["depth"], opened.modalities["depth"])
                number = list(FOLDERS).index(sample.key)
                assert depth.unique().tolist() == pytest.approx([1 + number / 1000 + more])


def test_the_digest_follows_the_file(tree: Path, recognised, picture) -> None:
    view = recognised(tree)[1].split("train")[0].views["depth"]
    again = recognised(tree)[1].split("train")[0].views["depth"]
    assert raw_digest(view) == raw_digest(again) == view.known_by
    (file,) = (tree / "SUNRGBD" / recognised(tree)[1].split("train")[0].key / "depth").iterdir()
    picture(file, rotated(np.full((5, 7), 900, np.uint16)))
    assert raw_digest(recognised(tree)[1].split("train")[0].views["depth"]) != view.known_by


def test_frames_of_one_recording_stay_together(tree: Path, recognised) -> None:
    _, loader = recognised(tree, val_share=0.3, test_share=0.3)
    for split in ("train", "val", "test"):
        frames = [sample.key for sample in loader.split(split) if "sun3ddata" in sample.key]
        assert len(frames) in (0, 2)


def test_the_official_split(tree: Path, recognised) -> None:
    keys = list(FOLDERS)
    cells = {}
    for name, some in (("alltrain", keys[:3]), ("alltest", keys[3:5])):
        cells[name] = np.array([[f"/n/fs/sun3d/data/SUNRGBD/{key}" for key in some]], dtype=object)
    toolbox = tree / "SUNRGBDtoolbox" / "traintestSUNRGBD"
    toolbox.mkdir(parents=True)
    savemat(toolbox / "allsplit.mat", cells)
    _, loader = recognised(tree, val_share=0.34)
    assert {sample.key for sample in loader.split("test")} == set(keys[3:5])
    assert {s.key for split in ("train", "val") for s in loader.split(split)} == set(keys[:3])
    assert "Left out: 1 folder that allsplit.mat does not name." in loader.notes
    (toolbox / "allsplit.mat").write_bytes(b"no matlab")
    with pytest.raises(DataError, match=r"allsplit\.mat cannot be read"):
        recognised(tree)


def test_an_empty_scene_is_no_label(tree: Path, recognised, everything) -> None:
    key = next(iter(FOLDERS))
    (tree / "SUNRGBD" / key / "scene.txt").write_text("\n")
    for options in ({}, {"scenes": "all"}):
        (sample,) = (sample for sample in everything(recognised(tree, **options)[1]) if sample.key == key)
        assert sample.targets == {}


def test_depth_of_8_bits_is_refused(tree: Path, picture, recognised, everything) -> None:
    key = next(iter(FOLDERS))
    picture(tree / "SUNRGBD" / key / "depth" / "two.png", 7)
    (sample,) = (sample for sample in everything(recognised(tree)[1]) if sample.key == key)
    with pytest.raises(DataError, match="uint8 of shape"):
        sample.views["depth"]()
