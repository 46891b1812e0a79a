"""The folder layout without metadata: folders paired by file name."""

from __future__ import annotations

from pathlib import Path

import pytest
from cmcd_datasets import FolderOptions, cmcd_loaders

from cmcd_core import ConfigError, DataError, PairedLoader

case = pytest.param
SPLITS = ("train", "val", "test")
FOLDER = next(plugin for plugin in cmcd_loaders() if plugin.name == "folder")


def build(root: Path, files: str, **options) -> PairedLoader:
    """Build from tiny files at the given paths."""
    for name in files.split():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return FOLDER.build(FolderOptions(root=root, **options))


def described(loader: PairedLoader, root: Path) -> dict[str, tuple[str, set[str], str | None]]:
    """Key -> its files, its label, and its split ("" where the splits were made here)."""
    made = any("made here" in note for note in loader.notes)
    found = {}
    for split in SPLITS:
        for sample in loader.split(split):
            paths = {path.relative_to(root).as_posix() for path in sample.views.values()}
            paths |= {sample.targets["mask"].relative_to(root).as_posix()} if "mask" in sample.targets else set()
            label = loader.classes["label"][sample.targets["label"]] if "label" in sample.targets else None
            found[sample.key] = ("" if made else split, paths, label)
    return found


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        case(
            "image/1.jpg image/2.jpg depth/1.png depth/2.png",
            {"1": ("", {"image/1.jpg", "depth/1.png"}, None), "2": ("", {"image/2.jpg", "depth/2.png"}, None)},
            id="flat",
        ),
        case(
            "image/cup/1.jpg image/hat/1.jpg depth/cup/1.png depth/hat/1.png mask/cup/1.png",
            {
                "cup/1": ("", {"image/cup/1.jpg", "depth/cup/1.png", "mask/cup/1.png"}, "cup"),
                "hat/1": ("", {"image/hat/1.jpg", "depth/hat/1.png"}, "hat"),
            },
            id="classes",
        ),
        case(
            "train/image/cup/1.jpg train/depth/cup/1.png val/image/cup/1.jpg val/depth/cup/1.png "
            "test/image/cup/1.jpg test/depth/cup/1.png",
            {f"{s}/cup/1": (s, {f"{s}/image/cup/1.jpg", f"{s}/depth/cup/1.png"}, "cup") for s in SPLITS},
            id="splits above",
        ),
        case(
            "image/train/cup/1.jpg depth/train/cup/1.png image/val/1.jpg depth/val/1.png",
            {
                "train/cup/1": ("train", {"image/train/cup/1.jpg", "depth/train/cup/1.png"}, "cup"),
                "val/1": ("val", {"image/val/1.jpg", "depth/val/1.png"}, None),
            },
            id="splits below",
        ),
        case(
            "image/train/1.jpg depth/train/1.png image/bus/2.jpg depth/bus/2.png",
            {
                "train/1": ("", {"image/train/1.jpg", "depth/train/1.png"}, "train"),
                "bus/2": ("", {"image/bus/2.jpg", "depth/bus/2.png"}, "bus"),
            },
            id="a train is a vehicle",
        ),
        case(
            "image/cup/1.jpg depth/1.png image/hat/a/2.jpg depth/2.png",
            {
                "cup/1": ("", {"image/cup/1.jpg", "depth/1.png"}, "cup"),
                "hat/a/2": ("", {"image/hat/a/2.jpg", "depth/2.png"}, "hat"),
            },
            id="by stem where one side has no folders",
        ),
        case(
            "image/cup/1.jpg depth/hat/1.png image/2.jpg depth/2.png",
            {
                "cup/1": ("", {"image/cup/1.jpg"}, "cup"),
                "hat/1": ("", {"depth/hat/1.png"}, "hat"),
                "2": ("", {"image/2.jpg", "depth/2.png"}, None),
            },
            id="two classes never pair",
        ),
        case(
            "image/1.jpg depth/1.png thermal/1.tif image/2.jpg thermal/3.tif mask/4.png "
            "image/.DS_Store image/README.md depth/Thumbs.db Raw-data/1.bin .git/config",
            {
                "1": ("", {"image/1.jpg", "depth/1.png", "thermal/1.tif"}, None),
                "2": ("", {"image/2.jpg"}, None),
                "3": ("", {"thermal/3.tif"}, None),
            },
            id="extra modality, unpaired rows, files that are no data",
        ),
        case("image/1.jpg image/readme_page.jpg", {
            "1": ("", {"image/1.jpg"}, None), "readme_page": ("", {"image/readme_page.jpg"}, None),
        }, id="photos alone"),
    ],
)  # fmt: skip
def test_layouts(tmp_path: Path, files: str, expected: dict) -> None:
    assert described(build(tmp_path, files), tmp_path) == expected


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    loader = build(tmp_path, "image/1.jpg depth/1.png image/2.jpg thermal/3.tif mask/4.png Raw-data/1.bin")
    said = "\n".join(loader.notes)
    for part in ("1 row with image alone, 1 row with thermal alone", "1 mask without", "passed over: Raw-data"):
        assert part in said
    assert loader.modalities == {"image", "depth", "thermal"}


def test_class_folders_can_be_scenes(tmp_path: Path) -> None:
    loader = build(tmp_path, "image/room1/1.jpg depth/kinect/1.png", label_column="")
    assert loader.classes == {}
    assert len(next(s for name in ("train", "val", "test") for s in loader.split(name)).views) == 2


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    build(tmp_path / "data", "image/1.jpg")
    elsewhere.mkdir()
    (elsewhere / "1.png").write_bytes(b"x")
    (elsewhere / "loop").symlink_to(elsewhere)
    (tmp_path / "data" / "depth").symlink_to(elsewhere)
    assert described(build(tmp_path / "data", ""), tmp_path / "data") == {
        "1": ("", {"image/1.jpg", "depth/1.png"}, None)
    }


@pytest.mark.parametrize(
    ("files", "said"),
    [
        case("image/1.jpg image/1.png depth/1.png", ["image/1.jpg and image/1.png"], id="ambiguous"),
        case("image/a.jpg depth/b.png", ["image/ has a", "depth/ has b", "metadata.csv"], id="no pair"),
        case("Image/1.jpg Depth/1.png", ["rename Depth, Image", "metadata.csv"], id="capitals"),
        case("notes.txt", ["no data", "metadata.csv", "image/"], id="nothing"),
        case("mask/1.png", ["masks only"], id="masks"),
        case("train/1.jpg test/1.jpg", ["no data", "train"], id="splits of nothing"),
        case("train/image/1.jpg train/depth/1.png valid/image/1.jpg", ["valid", "Did you mean 'val'"], id="alias"),
        case("image/train/1.jpg image/validation/2.jpg", ["validation", "Did you mean 'val'"], id="alias below"),
        case("image/train/1.jpg image/test/2.jpg depth/1.png", ["depth/1.png lies in no train"], id="half split"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(tmp_path: Path, files: str, said: list[str]) -> None:
    with pytest.raises(DataError) as error:
        build(tmp_path, files)
    for part in said:
        assert part in str(error.value)


def test_classes_txt_holds_for_class_folders(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("hat\ncup\n")
    loader = build(tmp_path, "image/cup/1.jpg depth/cup/1.png")
    assert loader.classes["label"] == ["hat", "cup"]
    (tmp_path / "classes.txt").write_text("hat\ncop\n")
    with pytest.raises(DataError, match=r"'cup' is not in classes.txt(.|\n)*mean 'cop'"):
        build(tmp_path, "")


@pytest.mark.parametrize("option", ["label_column", "group_column"])
def test_there_are_no_columns_without_metadata(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError, match=r"no metadata\.csv"):
        build(tmp_path, "image/1.jpg depth/1.png", **{option: "kind"})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("image/1.jpg depth/1.png", True),
        ("image/cup/1.jpg depth/cup/1.png", True),
        ("image/train/cup/1.jpg depth/train/cup/1.png", True),
        ("train/image/cup/1.jpg train/depth/cup/1.png", True),
        ("metadata.csv", True),
        ("metadata.jsonl", True),
        ("image/1.jpg", False),
        ("image/1.jpg mask/1.png", False),
        ("shard-0.tar shard-1.tar", False),
        ("train/1.jpg test/1.jpg", False),
        ("Image/1.jpg Depth/1.png", False),
        ("image/.keep depth/.keep", False),
    ],
)
def test_recognises(tmp_path: Path, files: str, expected: bool) -> None:
    for name in files.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert FOLDER.recognises(tmp_path) is expected
    assert FOLDER.recognises(tmp_path / "absent") is False
    assert not FOLDER.recognises(tmp_path / files.split()[0])
