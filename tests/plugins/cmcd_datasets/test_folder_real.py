"""The real data sets that lie beside the repository, where they do."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest
from cmcd_datasets import FolderOptions, cmcd_loaders

from cmcd_core import PairedLoader

FOLDER = next(plugin for plugin in cmcd_loaders() if plugin.name == "folder")
DATA = Path(os.environ.get("CMCD_DATA") or Path(__file__).parents[4] / "shared" / "data")


def load(name: str, **options) -> PairedLoader:
    root = DATA / name
    if not (root / "metadata.csv").is_file():
        pytest.skip(f"{root} is not here: put the data sets' folder at ../shared/data, or name it in CMCD_DATA")
    assert FOLDER.recognises(root)
    return FOLDER.build(FolderOptions(root=root, **options))


@pytest.mark.parametrize(
    ("name", "rows", "modalities", "aligned", "classes"),
    [
        ("asl_fingerspelling", (864, 216, 360), {"image", "depth"}, True, {"label": 24}),
        ("bsds500", (600, 150, 250), {"image", "sketch"}, True, {"mask": 2}),
        ("camvid_contour", (367, 101, 233), {"image", "sketch"}, True, {"mask": 11}),
        ("digits_audio", (2000, 500, 500), {"image", "audio"}, False, {"label": 10}),
        ("indoor_unlabelled", (180, 45, 75), {"image", "depth"}, True, {}),
        ("sketchy", (1775, 581, 769), {"image", "sketch"}, False, {"label": 125}),
        ("sketchy_photos", (2172, 375, 0), {"image"}, False, {"label": 125}),
        ("tools_objects", (627, 159, 165), {"image", "depth"}, True, {"label": 5, "mask": 6}),
        ("tools_seg", (147, 34, 55), {"image", "depth"}, True, {"mask": 6}),
    ],
)
def test_counts(name: str, rows: tuple, modalities: set, aligned: bool, classes: dict) -> None:
    loader = load(name)
    assert tuple(len(loader.split(split)) for split in ("train", "val", "test")) == rows
    assert loader.modalities == modalities
    assert loader.aligned == (modalities if aligned else set())
    assert {target: len(names) for target, names in loader.classes.items()} == classes
    assert loader.pairs == ("label" if name == "digits_audio" else "instance")
    assert loader.modality_options("depth") == ({"unit": "mm"} if "depth" in modalities else {})
    for split in ("train", "val", "test"):
        for sample in loader.split(split):
            assert set(sample.views) == modalities
            assert set(sample.targets) == set(classes)


def test_superclasses_of_sketchy() -> None:
    loader = load("sketchy", label_column="superclass")
    assert len(loader.classes["label"]) == 10
    assert loader.classes["label"] == sorted(loader.classes["label"])
    assert {s.targets["label"] for s in loader.split("test")} == set(range(10))


def test_photos_without_sketches_are_said() -> None:
    said = "\n".join(load("sketchy_photos").notes)
    assert "no test rows" in said
    assert "no pairs here" in said


@pytest.mark.parametrize("name", ["sketchy", "bsds500"])
def test_own_splits_keep_the_sketches_of_a_photo_together(name: str, tmp_path: Path) -> None:
    load(name)
    (tmp_path / "metadata.csv").write_text((DATA / name / "metadata.csv").read_text().replace("split,", "part,", 1))
    for folder in ("image", "sketch", "mask"):
        (tmp_path / folder).symlink_to(DATA / name / folder)
    loader = FOLDER.build(FolderOptions(root=tmp_path, label_column="label"))
    splits = defaultdict(set)
    for split in ("train", "val", "test"):
        for sample in loader.split(split):
            splits[sample.views["image"]].add(split)
    assert all(len(found) == 1 for found in splits.values())
    total = sum(len(loader.split(split)) for split in ("train", "val", "test"))
    assert abs(len(loader.split("test")) / total - 0.2) < 0.02
    assert abs(len(loader.split("val")) / total - 0.15) < 0.02
