"""Tars behave as the folder they were packed from; what is wrong with a tar is said in one line."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from cmcd_datasets import ShardsOptions, cmcd_loaders
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cmcd_core import ConfigError, DataError, PairedLoader, Sample, cache_folder
from cmcd_core.catalog import load
from cmcd_core.cli import cli
from cmcd_core.data.decoded import decode_one
from cmcd_core.data.digest import raw_digest
from cmcd_core.inspection.opened import open_set
from cmcd_core.packing.pack import pack
from cmcd_core.progress import Progress

SHARDS = next(plugin for plugin in cmcd_loaders() if plugin.name == "shards")
SPLITS = ("train", "val", "test")


def shards(root: Path, **options: Any) -> PairedLoader:
    return SHARDS.build(ShardsOptions(root=root, **options))


def packing(*words: str) -> Result:
    return CliRunner().invoke(cli, ["data", "pack", *words], standalone_mode=False)


def png(value: int, side: int = 4) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(out, "png")
    return out.getvalue()


def write_tar(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in others:
            tar.addfile(info)
    return path


class Given(PairedLoader):
    """A data set made of these samples, all of them train."""

    def __init__(self, samples: Sequence[Sample], classes: dict[str, Sequence[str]] | None = None) -> None:
        self.samples = samples
        self.classes = classes or {}
        self.modalities = frozenset(name for sample in samples for name in sample.views)

    def split(self, name: str) -> Sequence[Sample]:
        return self.samples if name == "train" else []


def packed(loader: PairedLoader, out: Path, shard_size: int = 10**9) -> PairedLoader:
    pack(loader, "given", out, shard_size=shard_size, progress=Progress())
    return shards(out)


def test_a_packed_folder_is_the_folder(tiny_folder: Path, tmp_path: Path) -> None:
    assert packing(str(tiny_folder), str(tmp_path / "out"), "--shard-size", "0.02").exit_code == 0
    assert len(list((tmp_path / "out").glob("train-*.tar"))) > 2
    catalog = load()
    before, after = (open_set(str(path), {}, catalog) for path in (tiny_folder, tmp_path / "out"))
    assert after.part.name == "shards"
    assert before.name == after.name
    for attribute in ("modalities", "aligned", "pairs", "classes", "licence"):
        assert getattr(before.loader, attribute) == getattr(after.loader, attribute)
    assert after.loader.modality_options("depth") == {"unit": "mm"}
    for split in SPLITS:
        one, other = before.loader.split(split), after.loader.split(split)
        assert [sample.key for sample in one] == [sample.key for sample in other]
        for a, b in zip(one, other, strict=True):
            assert (a.targets, a.weight, set(a.views)) == (b.targets, b.weight, set(b.views))
            for name in a.views:
                first = decode_one(a.key, a.views[name], before.modalities[name])
                assert first.equal(decode_one(b.key, b.views[name], after.modalities[name]))


def test_masks_weights_and_groups_come_along(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("image", "sketch", "mask"):
        (folder / name).mkdir(parents=True)
    (folder / "image" / "a.png").write_bytes(png(10))
    (folder / "mask" / "a.png").write_bytes(png(2))
    (folder / "metadata.csv").write_text(
        "id,split,weight,image_file_name,sketch_file_name,mask_file_name\n"
        "s.1,train,0.5,image/a.png,sketch/1.png,mask/a.png\n"
        "s.2,train,,image/a.png,sketch/2.png,\n"
    )
    for number in (1, 2):
        (folder / "sketch" / f"{number}.png").write_bytes(png(100 + number))
    (folder / "mask_classes.txt").write_text("floor\nwall\ncup\n")
    assert packing(str(folder), str(tmp_path / "out")).exit_code == 0
    loader = shards(tmp_path / "out")
    first, second = loader.split("train")
    assert (first.key, first.weight, second.weight) == ("s.1", 0.5, 1.0)
    assert first.targets["mask"]() == png(2)
    assert second.targets == {}
    assert loader.classes == {"mask": ["floor", "wall", "cup"]}
    assert raw_digest(first.views["image"]) == raw_digest(second.views["image"])
    assert raw_digest(first.views["sketch"]) != raw_digest(second.views["sketch"])


def test_a_known_digest_saves_the_reading_and_is_that_of_the_bytes(tmp_path: Path) -> None:
    view = packed(Given([Sample("a", {"image": png(1)})]), tmp_path / "out").split("train")[0].views["image"]
    assert view.known_by == raw_digest(png(1))
    (tmp_path / "out" / "train-000000.tar").unlink()
    assert raw_digest(view) == raw_digest(png(1))
    with pytest.raises(DataError, match="cannot be read"):
        view()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, bool])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_stay_arrays_and_lie_in_the_file(dtype: type, order: str, tmp_path: Path) -> None:
    array = np.asarray(np.arange(24).reshape(4, 6) % 7, dtype=dtype, order=order)
    loader = packed(Given([Sample("a", {"depth": array}, {"mask": array, "flow": array[:0]})]), tmp_path / "out")
    (sample,) = loader.split("train")
    for got, wanted in ((sample.views["depth"], array), (sample.targets["mask"], array)):
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, wanted)
        assert not got.flags.writeable
    assert sample.targets["flow"].shape == (0, 6)


def test_a_damaged_array_is_left_to_the_modality(tmp_path: Path) -> None:
    for number, content in enumerate((b"no array", np.lib.format.MAGIC_PREFIX + b"\x01\x00", b"")):
        root = tmp_path / str(number)
        root.mkdir()
        write_tar(root / "train-0.tar", {"a.depth.npy": content})
        assert shards(root).split("train")[0].views["depth"]() == content


def test_functions_bytes_and_other_targets(tmp_path: Path) -> None:
    targets = {"box": [1, 2.5], "caption": "a cup", "count": np.int64(3), "note": partial(bytes, 3)}
    loader = packed(Given([Sample("a", {"image": partial(png, 7)}, targets)]), tmp_path / "out")
    (sample,) = loader.split("train")
    assert sample.views["image"]() == png(7)
    assert sample.targets.pop("note")() == bytes(3)
    assert sample.targets == {"box": [1, 2.5], "caption": "a cup", "count": 3}


def test_what_cannot_be_packed_is_named(tmp_path: Path) -> None:
    for targets, said in (({"box": (1, 2)}, "tuple"), ({"Box": b""}, "Box"), ({"f": np.array([{}], object)}, "object")):
        with pytest.raises(DataError, match=said):
            pack(Given([Sample("a", {}, targets)]), "x", tmp_path / "out", shard_size=1, progress=Progress())
        assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"gone\.png"):
        packed(Given([Sample("a", {"image": tmp_path / "gone.png"})]), tmp_path / "out")


keys = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=6, unique=True)
names = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12).filter(
        lambda text: text == text.strip() and text.splitlines() == [text]
    ),
    min_size=1, max_size=5, unique=True,
)  # fmt: skip


@given(keys=keys, names=names, data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_key_and_any_class_name(
    keys: list[str], names: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("any") / "out"
    labels = [data.draw(st.none() | st.integers(0, len(names) + 1)) for _ in keys]
    samples = [
        Sample(
            key, {"image": png(number)}, {} if label is None else {"label": label}, weight=data.draw(st.floats(0, 9))
        )
        for number, (key, label) in enumerate(zip(keys, labels, strict=True))
    ]
    loader = packed(Given(samples, {"label": names}), out, shard_size=200)
    assert loader.classes == {"label": names}
    found = list(loader.split("train"))
    assert [(s.key, s.targets, s.weight) for s in found] == [(s.key, s.targets, s.weight) for s in samples]
    assert [s.views["image"]() for s in found] == [png(number) for number in range(len(keys))]


def test_packing_again_gives_the_same_bytes(tiny_folder: Path, tmp_path: Path) -> None:
    for source, out in ((tiny_folder, "one"), (tiny_folder, "two"), (tmp_path / "one", "three")):
        assert packing(str(source), str(tmp_path / out)).exit_code == 0
    written = [{f.name: f.read_bytes() for f in (tmp_path / out).iterdir()} for out in ("one", "two", "three")]
    assert written[0] == written[1] == written[2]


def test_what_is_there_is_not_overwritten(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ConfigError, match="there already"):
        pack(Given([Sample("a", {})]), "x", tmp_path / "out", shard_size=1, progress=Progress())
    assert isinstance(packing(str(tiny_folder), str(tmp_path / "out")).exception, ConfigError)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_tars_of_other_programs(tmp_path: Path) -> None:
    """With folders, ./ before names, hidden files, members of one sample apart, foreign .json."""
    folder = tarfile.TarInfo("./a")
    folder.type = tarfile.DIRTYPE
    files = {
        "./a/1.image.PNG": png(1),
        "./a/2.image.png": png(2),
        "./a/._1.image.png": b"mac",
        "./a/1.label.txt": b"cup\n",
        "./a/1.json": b'{"url": "x", "key": "other"}',
        "./a/2.json": json.dumps({"cmcd": {"weight": 0.25}}).encode(),
    }
    write_tar(tmp_path / "train-000.tar", files, folder)
    write_tar(tmp_path / "test.tar", {"b.image.png": png(3), "b.label.txt": b"mug"})
    assert SHARDS.recognises(tmp_path)
    loader = shards(tmp_path)
    one, two = loader.split("train")
    assert (one.key, one.targets, one.weight) == ("a/1", {"label": 0}, 1.0)
    assert (two.key, two.targets, two.weight) == ("a/2", {}, 0.25)
    assert loader.classes == {"label": ["cup", "mug"]}
    assert loader.notes == ["There are no val shards."]
    assert loader.split("train")[-1].key == "a/2"
    assert [sample.key for sample in loader.split("train")[::-1]] == ["a/2", "a/1"]


def link(name: str, kind: bytes, to: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (tarfile.TarInfo("/a.image.png"), "an absolute name"),
        (tarfile.TarInfo("C:/a.image.png"), "an absolute name"),
        (tarfile.TarInfo("../a.image.png"), r"leaves the tar by '\.\.'"),
        (tarfile.TarInfo("x/../../a.image.png"), r"leaves the tar by '\.\.'"),
        (tarfile.TarInfo("x\\..\\a.image.png"), r"leaves the tar by '\.\.'"),
        (link("a.image.png", tarfile.SYMTYPE), "is a link"),
        (link("a.image.png", tarfile.LNKTYPE, "b"), "is a link"),
        (link("a.image.png", tarfile.CHRTYPE), "is a device or pipe"),
        (link("a.image.png", tarfile.FIFOTYPE), "is a device or pipe"),
        (link("a.image.png", tarfile.GNUTYPE_SPARSE), "tar"),
        (tarfile.TarInfo("a.png"), "names no modality; expected KEY.MODALITY.TYPE"),
        (tarfile.TarInfo("a"), "names no modality"),
        (tarfile.TarInfo("a.Image.png"), "names no modality"),
        (tarfile.TarInfo("a\udcff.image.png"), "not UTF-8"),
    ],
)
def test_members_that_are_refused(info: tarfile.TarInfo, said: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", {"b.image.png": png(1)}, info)
    with pytest.raises(DataError, match=said) as caught:
        shards(tmp_path)
    assert str(tmp_path / "train-0.tar") in caught.value.message


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.image.png": b"", "a.image.jpg": b""}, "both the image of sample 'a'"),
        ({"a.image.png": b"", "./a.image.png": b""}, "both the image of sample 'a'"),
        ({"a.label.cls": b"1"}, "a label is a text file"),
        ({"a.label.txt": b"\xff"}, "not UTF-8 text"),
        ({"a.json": b"{"}, "not valid JSON"),
        ({"a.json": b'{"cmcd": 3}'}, "cannot read cmcd = 3"),
        ({"a.json": b'{"cmcd": {"weight": -1}}'}, "at least 0"),
        ({"a.json": b'{"cmcd": {"weight": NaN}}'}, "at least 0"),
        ({"a.json": b'{"cmcd": {"wieght": 1}}'}, "cannot read wieght"),
        ({"a.json": b'{"cmcd": {"key": "b"}}', "b.json": b"{}"}, "in train-0.tar already"),
    ],
)
def test_samples_that_are_refused(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", files)
    with pytest.raises(DataError, match=said) as caught:
        shards(tmp_path)
    assert str(tmp_path / "train-0.tar") in caught.value.message


def test_every_cut_is_noticed_and_names_the_file(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole", {f"{n}.image.png": bytes([n + 1]) * 700 for n in range(3)}).read_bytes()
    content = whole.rstrip(b"\0")
    end = -(-len(content) // 512) * 512  # where the end mark begins
    for length in [0, 1, 100, 511, *range(512, end + 1024, 256)]:
        (tmp_path / "train-0.tar").write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            shards(tmp_path)
        assert str(tmp_path / "train-0.tar") in caught.value.message
        assert "\n" not in caught.value.message
    (tmp_path / "train-0.tar").write_bytes(whole[: end + 1024])
    assert len(shards(tmp_path).split("train")) == 3


def test_damage_in_the_middle_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "train-0.tar", {f"{n}.image.png": bytes(700) for n in range(3)})
    whole = bytearray(path.read_bytes())
    whole[1536 + 10] ^= 0xFF  # in the second header
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match=r"damaged: no tar header at byte 1536"):
        shards(tmp_path)


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_tars_are_refused(mode: Any, name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train-0.tar", mode) as tar:
        tar.addfile(tarfile.TarInfo("a.image.png"))
    with pytest.raises(DataError, match=f"compressed \\({name}\\)"):
        shards(tmp_path)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tar files"):
        shards(tmp_path)
    write_tar(tmp_path / "training-0.tar", {})
    with pytest.raises(DataError, match="of no split") as caught:
        shards(tmp_path)
    assert "Did you mean 'train'?" in caught.value.hint
    with pytest.raises(DataError, match="does not exist"):
        shards(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file"):
        shards(tmp_path / "training-0.tar")


def test_labels_that_are_not_listed(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", {"a.image.png": b"", "a.label.txt": b"mugg"})
    (tmp_path / "classes.txt").write_text("cup\nmug\n")
    with pytest.raises(DataError, match=r"train-0\.tar, label: 'mugg' is not in classes\.txt") as caught:
        shards(tmp_path)
    assert "Did you mean 'mug'?" in caught.value.hint


def test_options_win_over_dataset_toml(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", {"a.image.png": b"", "a.depth.png": b""})
    (tmp_path / "dataset.toml").write_text('pairs = "label"\naligned = ["image"]\n')
    assert shards(tmp_path).pairs == "label"
    assert shards(tmp_path, pairs="instance", aligned=("image", "depth")).aligned == {"image", "depth"}
    (tmp_path / "dataset.toml").write_text('label_column = "kind"\n')
    with pytest.raises(DataError, match="no columns"):
        shards(tmp_path)


def test_the_index_is_kept_until_the_tar_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    root.mkdir()
    write_tar(root / "train-0.tar", {"a.image.png": png(1)})
    before = shards(root).split("train")[0]
    (kept,) = cache_folder("shards").glob("*.npz")
    monkeypatch.setattr("cmcd_datasets.shards.index.scan", lambda path: pytest.fail("read again"))
    assert shards(root).split("train")[0] == before
    monkeypatch.undo()
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "cache"))
    kept.write_bytes(b"damaged")
    assert shards(root).split("train")[0] == before
    write_tar(root / "train-0.tar", {"b.image.png": png(1), "c.image.png": png(2)})
    assert [sample.key for sample in shards(root).split("train")] == ["b", "c"]
