"""PACS as it is unpacked: pairs of one class."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmcd_core import DataError


@pytest.fixture
def tree(tmp_path: Path, picture) -> Path:
    for domain, count in (("photo", 20), ("sketch", 30), ("art_painting", 5), ("cartoon", 5)):
        for label in ("dog", "house"):
            for number in range(count):
                suffix = "png" if domain == "sketch" else "jpg"
                picture(tmp_path / domain / label / f"pic_{number:03}.{suffix}", number)
    return tmp_path


def test_pairs_are_of_one_class_and_one_split(tree: Path, recognised, everything) -> None:
    name, loader = recognised(tree)
    assert (name, loader.pairs, loader.modalities) == ("pacs", "label", {"image", "sketch"})
    assert loader.classes == {"label": ["dog", "house"]}
    samples = everything(loader)
    assert len({sample.key for sample in samples}) == len(samples)
    assert {s.views["sketch"] for s in samples if "sketch" in s.views} == set((tree / "sketch").glob("*/*"))
    assert {s.views["image"] for s in samples if "image" in s.views} == set((tree / "photo").glob("*/*"))
    for sample in samples:
        assert {view.parent.name for view in sample.views.values()} == {
            loader.classes["label"][sample.targets["label"]]
        }
    photos = {
        split: {s.views["image"] for s in loader.split(split) if "image" in s.views} for split in ("train", "test")
    }
    assert photos["train"]
    assert not photos["train"] & photos["test"]
    assert "dealt here" in loader.notes[0]


def test_the_deal_is_drawn_from_the_seed(tree: Path, recognised, everything) -> None:
    def pairs(**options: int) -> list[tuple]:
        return [(s.key, s.views.get("image")) for s in everything(recognised(tree, **options)[1])]

    assert pairs() == pairs()
    assert pairs() != pairs(split_seed=1)


def test_another_domain(tree: Path, recognised) -> None:
    _, loader = recognised(tree, image="cartoon")
    assert all("cartoon" in sample.views["image"].parts for sample in loader.split("train"))
    with pytest.raises(DataError, match="watercolour is not there"):
        recognised(tree, image="watercolour")


def test_sketches_without_a_photo_of_their_class_are_told_of(tree: Path, recognised, everything, picture) -> None:
    for number in range(3):
        picture(tree / "sketch" / "horse" / f"{number}.png", number)
    _, loader = recognised(tree)
    assert not any("horse" in view.parts for sample in everything(loader) for view in sample.views.values())
    assert "Left out: 3 drawings whose class has no photo in their split." in loader.notes


def test_domains_without_pictures_or_pairs(tree: Path, recognised) -> None:
    for place in (tree / "photo").glob("*/*"):
        place.unlink()
    with pytest.raises(DataError, match="photo holds no pictures"):
        recognised(tree)
    (tree / "cartoon" / "dog").rename(tree / "cartoon" / "cat")
    (tree / "cartoon" / "house").rename(tree / "cartoon" / "barn")
    with pytest.raises(DataError, match="have no class in common"):
        recognised(tree, image="cartoon")
