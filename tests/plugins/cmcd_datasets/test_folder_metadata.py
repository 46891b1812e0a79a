"""The folder layout with metadata: what is read, and what is said about what cannot be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cmcd_datasets import FolderOptions, cmcd_loaders

from cmcd_core import CmcdError, ConfigError, DataError, PairedLoader

case = pytest.param
FOLDER = next(plugin for plugin in cmcd_loaders() if plugin.name == "folder")
Fill = Callable[..., PairedLoader]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Write the given files (text or bytes) and twelve tiny ones, then build the loader."""

    def build(
        metadata: str | bytes | None = None, files: dict[str, str | bytes] | None = None, **options
    ) -> PairedLoader:
        for modality, suffix in (("image", "jpg"), ("depth", "png"), ("mask", "png")):
            (tmp_path / modality).mkdir(exist_ok=True)
            for i in range(4):
                (tmp_path / modality / f"{i}.{suffix}").write_bytes(b"x")
        for name, content in {"metadata.csv": metadata, **(files or {})}.items():
            if content is not None:
                (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return FOLDER.build(FolderOptions(root=tmp_path, **options))

    return build


def message(error: pytest.ExceptionInfo[CmcdError]) -> str:
    return str(error.value)


def rows(loader: PairedLoader) -> dict[str, tuple[str, dict[str, str], dict]]:
    found = {}
    for split in ("train", "val", "test"):
        for sample in loader.split(split):
            assert sample.key not in found
            views = {name: path.name for name, path in sample.views.items()}
            found[sample.key] = (split, views, dict(sample.targets))
    return found


FULL = """id,split,label,image_file_name,depth_file_name,mask_file_name,weight
a,train,cup,image/0.jpg,depth/0.png,mask/0.png,0.5
b,val,hat,image/1.jpg,,,
c,test,,image/2.jpg,depth/2.png,,1
"""


def test_everything_a_row_can_hold(fill: Fill, tmp_path: Path) -> None:
    loader = fill(FULL, {"mask_classes.txt": "background\nobject\n"})
    sample = loader.split("train")[0]
    assert sample.key == "a"
    assert sample.weight == 0.5
    assert sample.views == {"image": tmp_path / "image/0.jpg", "depth": tmp_path / "depth/0.png"}
    assert sample.targets == {"label": 0, "mask": tmp_path / "mask/0.png"}
    second, third = loader.split("val")[0], loader.split("test")[0]
    assert set(second.views) == {"image"}
    assert second.weight == 1
    assert second.targets == {"label": 1}
    assert third.targets == {}
    assert loader.modalities == {"image", "depth"}
    assert loader.aligned == frozenset()
    assert loader.pairs == "instance"
    assert loader.classes == {"label": ["cup", "hat"], "mask": ["background", "object"]}
    assert any("1 row with image alone" in note for note in loader.notes)
    assert any("aligned" in note for note in loader.notes)


def jsonl(text: str) -> str:
    header, *lines = text.splitlines()
    pairs = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    return "\n".join(json.dumps({k: v or None for k, v in pair.items()}) for pair in pairs) + "\n"


@pytest.mark.parametrize(
    "written",
    [
        case(FULL.encode(), id="plain"),
        case(b"\xef\xbb\xbf" + FULL.encode(), id="byte-order mark"),
        case(FULL.replace("\n", "\r\n").encode(), id="CRLF"),
        case(FULL.replace("\n", "\r").encode(), id="CR"),
        case(FULL.replace("\n", "\n\n").encode(), id="blank lines"),
        case(FULL.replace(",", ", ").encode(), id="spaces"),
        case(FULL.rstrip().encode(), id="no last line end"),
        case(FULL.replace("\n", ",,\n").encode(), id="trailing commas"),
        case(FULL.replace("image/", "./image//").encode(), id="spelt-out paths"),
    ],
)
def test_ways_to_write_csv(fill: Fill, written: bytes) -> None:
    assert rows(fill(written)) == rows(fill(FULL))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_jsonl_reads_the_same(fill: Fill, tmp_path: Path, end: str) -> None:
    expected = rows(fill(FULL))
    (tmp_path / "metadata.csv").unlink()
    assert rows(fill(None, {"metadata.jsonl": "\ufeff" + jsonl(FULL).replace("\n", end)})) == expected


def test_jsonl_numbers_are_labels_and_other_columns_may_hold_anything(fill: Fill) -> None:
    lines = (
        '{"image_file_name": "image/0.jpg", "label": 7, "objects": {"bbox": [1]}}\n{"image_file_name": "image/1.jpg"}'
    )
    assert fill(None, {"metadata.jsonl": lines}).classes == {"label": ["7"]}


def test_classes_txt_gives_the_order_and_serves_label_only(fill: Fill) -> None:
    text = "split,label,kind,image_file_name\ntrain,b,z,image/0.jpg\nval,a,y,image/1.jpg\ntest,b,,image/2.jpg\n"
    lists: dict[str, str | bytes] = {"classes.txt": "b\nspare\na\n"}
    loader = fill(text, lists)
    assert loader.classes["label"] == ["b", "spare", "a"]
    assert [loader.split(s)[0].targets["label"] for s in ("train", "val", "test")] == [0, 2, 0]
    other = fill(text, lists, label_column="kind")
    assert other.classes["label"] == ["y", "z"]
    assert [dict(other.split(s)[0].targets) for s in ("train", "val", "test")] == [{"label": 1}, {"label": 0}, {}]
    assert fill(text, lists, label_column="").classes == {}
    assert fill(text, {"classes.txt": ""}).classes["label"] == ["a", "b"]


def test_without_ids_the_files_name_the_rows(fill: Fill) -> None:
    text = "image_file_name,depth_file_name\nimage/0.jpg,depth/0.png\nimage/1.jpg,depth/0.png\nimage/1.jpg,\n"
    text += "image/2.jpg,depth/2.png\nimage/2.jpg,depth/2.png\n"
    assert set(rows(fill(text))) == {
        "depth/0.png+image/0.jpg",
        "depth/0.png+image/1.jpg",
        "image/1.jpg",
        "depth/2.png+image/2.jpg",
        "depth/2.png+image/2.jpg#2",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        case("label,image_file_name\ncpu,image/0.jpg\n", ["row 2, label", "'cpu'", "cup, hat", "'cup'?"], id="label"),
        case("id,image_file_name\na,image/0.jpg\n\na,image/1.jpg\n", ["row 4, id", "'a'", "row 2"], id="twice"),
        case("id,image_file_name\n,image/0.jpg\n", ["row 2, id", "empty"], id="empty id"),
        case('id,image_file_name\n"a\nb",image/0.jpg\nc,image/9.jpg\n', ["row 4, image_file_name"], id="long cell"),
        case("split,image_file_name\ntrian,image/0.jpg\n", ["row 2, split", "'trian'", "mean 'train'"], id="split"),
        case("split,image_file_name\nvalidation,image/0.jpg\n", ["row 2, split", "mean 'val'"], id="validation"),
        case("split,image_file_name\ntrain,image/0.jpg\n,image/1.jpg\n", ["row 3, split", "empty"], id="no split"),
        case("weight,image_file_name\n-1,image/0.jpg\n", ["row 2, weight", "'-1'", "at least 0"], id="weight"),
        case("weight,image_file_name\nnan,image/0.jpg\n", ["row 2, weight", "'nan'"], id="weight nan"),
        case("weight,image_file_name\nmuch,image/0.jpg\n", ["row 2, weight", "'much'"], id="weight word"),
        case("image_file_name\nimage/0.jpg\nimage/8.jpg\nimage/9.jpg\n", ["row 3", "8.jpg", "2 files"], id="gone"),
        case("image_file_name,mask_file_name\nimage/0.jpg,mask/9.png\n", ["row 2, mask_file_name"], id="mask gone"),
        case("image_file_name\nimage\\0.jpg\n", ["does not exist", "/ instead of \\"], id="backslash"),
        case("image_file_name\nimage\n", ["row 2", "is a folder"], id="folder"),
        case("image_file_name\n/etc/hostname\n", ["row 2", "absolute", "allow_outside"], id="absolute"),
        case("image_file_name\nC:\\a.jpg\n", ["row 2", "absolute"], id="drive"),
        case("image_file_name\nimage/../../a.jpg\n", ["row 2", "leaves the folder"], id="parent"),
        case("image_file_name,label\nimage/0.jpg,cup\n,hat\n", ["row 3", "no file"], id="empty row"),
        case("image_file_name,label\nimage/0.jpg,cup\nimage/1.jpg\n", ["row 3", "1 cells; expected 2"], id="short"),
        case("image_file_name,label\nimage/0.jpg,cup,hat\n", ["row 2", "3 cells; expected 2"], id="long"),
        case('image_file_name,label\nimage/0.jpg,"cup\nimage/1.jpg,hat\n', ["row 2", "no end"], id="open quote"),
        case("image_file_name,label\nimage/0.jpg," + "c" * 200_000, ["row 2", "131072 characters"], id="huge"),
        case("image_file_name;label\nimage/0.jpg;cup\n", ["row 1", "semicolons", "commas"], id="semicolons"),
        case("image_file_name,image_file_name\na,b\n", ["row 1", "twice"], id="column twice"),
        case("file_name,label\nimage/0.jpg,cup\n", ["<modality>_file_name", "image_file_name"], id="file_name"),
        case("Image_file_name\nimage/0.jpg\n", ["header", "image_file_name"], id="capital modality"),
        case("image_file_name,Split\nimage/0.jpg,val\n", ["'Split'", "'split'"], id="capital split"),
        case("id,label\na,cup\n", ["no column <modality>_file_name", "id, label"], id="no files"),
        case("image_file_name\n", ["no rows"], id="no rows"),
        case("", ["no rows"], id="empty"),
        case(FULL.encode("utf-16"), ["UTF-16", "UTF-8"], id="UTF-16"),
        case(FULL.encode("utf-16-le"), ["UTF-16", "UTF-8"], id="UTF-16 without mark"),
        case("image_file_name,label\nimage/0.jpg,caf\xe9\n".encode("latin-1"), ["row 2", "0xe9", "UTF-8"], id="latin"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_row_and_field(fill: Fill, text: str | bytes, said: list[str]) -> None:
    with pytest.raises(DataError) as error:
        fill(text, {"classes.txt": "cup\nhat\n"})
    for part in ["metadata.csv", *said]:
        assert part in message(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"image_file_name": "image/0.jpg"}\n{"image_file_name": \n', ["row 2", "not valid JSON"]),
        ("[1]\n", ["row 1", "expected an object"]),
        ('{"image_file_name": ["image/0.jpg"]}\n', ["row 1, image_file_name", "a list"]),
        ('{"image_file_name": "image/\\u0000.jpg"}\n', ["row 1, image_file_name", "NUL"]),
        ('{"image_file_name": "image/0.jpg"}\n\n{"image_file_name": "image/9.jpg"}\n', ["row 3", "does not exist"]),
        ("[" * 100_000, ["row 1", "not valid JSON"]),
    ],
)
def test_wrong_jsonl(fill: Fill, text: str, said: list[str]) -> None:
    with pytest.raises(DataError) as error:
        fill(None, {"metadata.jsonl": text})
    for part in ["metadata.jsonl", *said]:
        assert part in message(error)


def test_two_metadata_files(fill: Fill) -> None:
    with pytest.raises(DataError, match="both"):
        fill(FULL, {"metadata.jsonl": jsonl(FULL)})


@pytest.mark.parametrize("option", ["label_column", "group_column"])
def test_a_column_asked_for_but_absent(fill: Fill, option: str) -> None:
    text = "superclass,image_file_name\na,image/0.jpg\n"
    with pytest.raises(ConfigError) as error:
        fill(text, **{option: "superclas"})
    for part in (f"data.{option}", "superclas", "Did you mean 'superclass'", "image_file_name"):
        assert part in message(error)


@pytest.mark.parametrize("names", ["a\n\nb\n", "a\nb\na\n"])
def test_wrong_class_list(fill: Fill, names: str) -> None:
    with pytest.raises(DataError, match=r"classes.txt, row [23]"):
        fill("label,image_file_name\na,image/0.jpg\n", {"classes.txt": names})


def test_skip_leaves_out_views_and_rows_and_lists_them(fill: Fill) -> None:
    text = (
        "id,split,image_file_name,depth_file_name,mask_file_name\na,train,image/0.jpg,depth/9.png,mask/9.png\n"
        "b,train,image/9.jpg,,\nc,val,image/1.jpg,depth/1.png,\nd,test,image/2.jpg,depth/2.png,\n"
    )
    loader = fill(text, on_error="skip")
    assert {key: set(views) for key, (_, views, _) in rows(loader).items()} == {
        "a": {"image"},
        "c": {"image", "depth"},
        "d": {"image", "depth"},
    }
    said = "\n".join(loader.notes)
    for part in (
        "row 2",
        "depth/9.png",
        "mask/9.png",
        "row 3",
        "image/9.jpg",
        "1 row of metadata.csv without any file",
    ):
        assert part in said
    with pytest.raises(DataError, match="does not exist"):
        fill("image_file_name\nimage/9.jpg\n", on_error="skip")


def test_links_are_followed_and_outside_is_allowed_on_request(fill: Fill, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}_elsewhere"
    outside.mkdir()
    (outside / "far.jpg").write_bytes(b"x")
    (tmp_path / "link").symlink_to(outside)
    assert len(fill("split,image_file_name\nval,link/far.jpg\n").split("val")) == 1
    for name in (outside / "far.jpg", f"../{outside.name}/far.jpg"):
        sample = fill(f"split,image_file_name\nval,{name}\n", allow_outside=True).split("val")[0]
        assert sample.views["image"].is_file()
    (tmp_path / "image" / "dead.jpg").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match="link to nowhere"):
        fill("image_file_name\nimage/dead.jpg\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_picture(fill: Fill, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    os.mkfifo(tmp_path / "image" / "pipe.jpg")
    with pytest.raises(DataError, match="not a regular file"):
        fill("image_file_name\nimage/pipe.jpg\n")


def test_a_nearly_right_column_is_mentioned(fill: Fill) -> None:
    notes = fill("image_file_name,depth_path\nimage/0.jpg,depth/0.png\n").notes
    assert any("'depth_path'" in note and "depth_file_name" in note for note in notes)
    assert any("no pairs here" in note for note in notes)


def test_no_picture_is_opened(fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(FULL)
    opened = []
    normal = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **k: (opened.append(path.name), normal(path, *a, **k))[1])
    list(FOLDER.build(FolderOptions(root=tmp_path)).split("train"))
    assert opened == ["metadata.csv"]


def test_splits_are_sequences(fill: Fill) -> None:
    split = fill("split,image_file_name\n" + "".join(f"val,image/{i}.jpg\n" for i in range(4))).split("val")
    assert [sample.key for sample in split] == [f"image/{i}.jpg" for i in range(4)]
    assert split[-1] == split[3]
    assert split[1:3] == [split[1], split[2]]
    with pytest.raises(IndexError):
        split[4]
