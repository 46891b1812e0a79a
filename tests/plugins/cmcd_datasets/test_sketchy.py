"""Sketchy as it is unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmcd_core import ConfigError, DataError


@pytest.fixture
def tree(tmp_path: Path, picture) -> Path:
    root = tmp_path / "rendered_256x256" / "256x256"
    for label in ("ant", "cup"):
        for number in range(8):
            stem = f"n0{len(label)}_{label}{number}"
            picture(root / "photo" / "tx_000000000000" / label / f"{stem}.jpg", number)
            picture(root / "photo" / "tx_000100000000" / label / f"{stem}.jpg", number)
            for sketch in range(1, 4):
                picture(root / "sketch" / "tx_000000000000" / label / f"{stem}-{sketch}.png", 250)
    return tmp_path


@pytest.mark.parametrize("below", [".", "rendered_256x256/256x256"])
def test_every_sketch_with_its_photo(below: str, tree: Path, recognised, everything) -> None:
    name, loader = recognised((tree / below).resolve())
    assert (name, loader.name, loader.pairs, loader.aligned) == ("sketchy", "Sketchy", "instance", frozenset())
    assert loader.classes == {"label": ["ant", "cup"]}
    samples = everything(loader)
    assert len(samples) == 48
    for sample in samples:
        assert sample.views["sketch"].stem.startswith(sample.views["image"].stem + "-")
        assert loader.classes["label"][sample.targets["label"]] == sample.views["image"].parent.name
    assert "made here" in loader.notes[0]


def test_a_photo_is_in_one_split(tree: Path, recognised) -> None:
    _, loader = recognised(tree)
    photos = {split: {s.views["image"] for s in loader.split(split)} for split in ("train", "val", "test")}
    assert all(photos.values())
    assert not photos["train"] & photos["test"]
    assert not photos["train"] & photos["val"]


def test_the_official_test_set(tree: Path, recognised) -> None:
    (tree / "info").mkdir()
    (tree / "info" / "testset.txt").write_text("ant/n03_ant0.jpg\ncup/n03_cup7.jpg\n")
    _, loader = recognised(tree)
    assert {sample.views["image"].stem for sample in loader.split("test")} == {"n03_ant0", "n03_cup7"}
    assert len(loader.split("test")) == 6
    assert "no val split" in loader.notes[0]


def test_invalid_sketches_can_be_dropped(tree: Path, recognised, everything) -> None:
    with pytest.raises(ConfigError, match=r"invalid-error\.txt is not there"):
        recognised(tree, drop=("error",))
    (tree / "info").mkdir()
    (tree / "info" / "invalid-error.txt").write_text("ant/n03_ant0-2\nant/n03_ant1-1.png\n")
    keys = {sample.key for sample in everything(recognised(tree, drop=("error",))[1])}
    assert len(keys) == 46
    assert not keys & {"ant/n03_ant0-2", "ant/n03_ant1-1"}


def test_rows_without_a_partner(tree: Path, recognised, everything) -> None:
    root = tree / "rendered_256x256" / "256x256"
    (root / "photo" / "tx_000000000000" / "ant" / "n03_ant0.jpg").unlink()
    for sketch in (root / "sketch" / "tx_000000000000" / "cup").glob("n03_cup1-*"):
        sketch.unlink()
    _, loader = recognised(tree)
    views = [frozenset(sample.views) for sample in everything(loader)]
    assert (views.count(frozenset({"sketch"})), views.count(frozenset({"image"}))) == (3, 1)
    assert "No photo is here for 3 rows of sketches." in loader.notes


def test_another_rendering(tree: Path, recognised, everything) -> None:
    _, loader = recognised(tree, photo="tx_000100000000")
    assert all("tx_000100000000" in sample.views["image"].parts for sample in everything(loader))
    with pytest.raises(DataError, match="tx_9"):
        recognised(tree, photo="tx_9")


def test_renderings_without_a_picture_are_no_data(tree: Path, recognised) -> None:
    for kind in ("photo", "sketch"):
        for file in (tree / "rendered_256x256" / "256x256" / kind).glob("*/*/*"):
            file.unlink()
    with pytest.raises(DataError, match="holds no files of Sketchy"):
        recognised(tree)


def test_a_metadata_file_wins(tree: Path, recognised) -> None:
    root = tree / "rendered_256x256" / "256x256"
    (root / "metadata.csv").write_text("image_file_name\nphoto/tx_000000000000/ant/n03_ant0.jpg\n")
    assert recognised(root)[0] == "folder"
