"""NYU Depth V2: the labelled file, and single files."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cmcd_datasets.nyuv2 import NAMES_40
from scipy.io import savemat

from cmcd_core import ConfigError, DataError
from cmcd_core.catalog import load
from cmcd_core.data.decoded import decode_one
from cmcd_core.data.targets import read_target
from cmcd_core.inspection.opened import open_set
from cmcd_core.packing.pack import pack
from cmcd_core.progress import Progress

COUNT, HEIGHT, WIDTH = 12, 4, 6


def arrays() -> dict[str, np.ndarray]:
    """As MATLAB shows them: height, width, (channels,) number."""
    rng = np.random.default_rng(0)
    depths = rng.uniform(1, 5, (HEIGHT, WIDTH, COUNT)).astype(np.float32)
    return {
        "images": rng.integers(0, 256, (HEIGHT, WIDTH, 3, COUNT)).astype(np.uint8),
        "depths": depths,
        "rawDepths": np.where(rng.uniform(size=depths.shape) < 0.3, 0, depths).astype(np.float32),
        "labels": rng.integers(0, 895, (HEIGHT, WIDTH, COUNT)).astype(np.uint16),
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        for name, array in arrays().items():
            file[name] = array.transpose()  # MATLAB's last index is HDF5's first
        for name, texts in (
            ("scenes", [f"kitchen_{n // 2:04d}" if n < 6 else f"office_{n // 2:04d}a" for n in range(COUNT)]),
            ("sceneTypes", ["kitchen" if n < 6 else "office" for n in range(COUNT)]),
        ):
            references = []
            for number, text in enumerate(texts):
                file[f"#refs#/{name}{number}"] = np.array([[ord(c)] for c in text], np.uint16)
                references.append(file[f"#refs#/{name}{number}"].ref)
            file.create_dataset(name, data=np.array([references], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
    savemat(tmp_path / "splits.mat", {"trainNdxs": np.arange(1, 9)[:, None], "testNdxs": np.arange(9, 13)[:, None]})
    savemat(tmp_path / "classMapping40.mat", {"mapClass": (np.arange(894) % 40 + 1)[None].astype(np.uint8)})
    return tmp_path


def test_views_are_those_of_the_file(tree: Path) -> None:
    opened = open_set(str(tree), {}, load())
    assert (opened.part.name, opened.name) == ("nyuv2", "NYU Depth V2")
    wanted = arrays()
    samples = [sample for split in ("train", "val", "test") for sample in opened.loader.split(split)]
    assert len(samples) == COUNT
    for sample in samples:
        number = int(sample.key) - 1
        image = decode_one(sample.key, sample.views["image"], opened.modalities["image"])
        np.testing.assert_allclose(image.permute(1, 2, 0), wanted["images"][..., number] / 255, atol=1e-6)
        depth = decode_one(sample.key, sample.views["depth"], opened.modalities["depth"])
        np.testing.assert_array_equal(depth[0], wanted["depths"][..., number])
        labels = wanted["labels"][..., number].astype(int)
        mask = read_target(opened.tasks["mask"], sample.key, sample.targets["mask"], opened.loader.classes["mask"])
        np.testing.assert_array_equal(mask, np.where(labels == 0, 255, (labels - 1) % 40))


def test_packed_it_is_the_same(tree: Path) -> None:
    before = open_set(str(tree), {}, load())
    pack(before.loader, before.name, tree / "out", shard_size=10**9, progress=Progress())
    after = open_set(str(tree / "out"), {}, load())
    assert (after.name, after.loader.classes) == (before.name, before.loader.classes)
    for split in ("train", "val", "test"):
        for a, b in zip(before.loader.split(split), after.loader.split(split), strict=True):
            for name, bound in before.modalities.items():
                one = decode_one(a.key, a.views[name], bound)
                assert one.equal(decode_one(b.key, b.views[name], after.modalities[name]))
            one, other = (read_target(before.tasks["mask"], s.key, s.targets["mask"]) for s in (a, b))
            assert one.equal(other)


def test_raw_depth_keeps_its_holes(tree: Path) -> None:
    opened = open_set(str(tree), {"raw_depth": True}, load())
    sample = opened.loader.split("test")[0]
    depth = decode_one(sample.key, sample.views["depth"], opened.modalities["depth"])
    np.testing.assert_array_equal(depth[0], arrays()["rawDepths"][..., int(sample.key) - 1])
    filled = open_set(str(tree), {}, load()).loader.split("test")[0].views["depth"]
    assert sample.views["depth"].known_by != filled.known_by


def test_views_are_known_by_what_makes_them(tree: Path, recognised) -> None:
    def known(**options: bool) -> dict[str, str]:
        sample = recognised(tree, **options)[1].split("test")[0]
        return {name: view.known_by for name, view in {**sample.views, "mask": sample.targets["mask"]}.items()}

    before = known()
    assert {name for name, by in known(raw_depth=True).items() if by != before[name]} == {"depth"}
    savemat(tree / "classMapping40.mat", {"mapClass": (np.arange(894) % 7 + 1)[None].astype(np.uint8)})
    assert {name for name, by in known().items() if by != before[name]} == {"mask"}


def test_arrays_that_are_not_there_are_asked_for(tree: Path, recognised) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tree / "nyu_depth_v2_labeled.mat", "a") as file:
        del file["rawDepths"]
    assert recognised(tree)[0] == "nyuv2"
    with pytest.raises(DataError, match="has no rawDepths; expected images, rawDepths, labels"):
        recognised(tree, raw_depth=True)


def test_official_splits_scenes_and_classes(tree: Path, recognised) -> None:
    name, loader = recognised(tree)
    assert (name, loader.aligned, loader.modality_options("depth")) == ("nyuv2", {"image", "depth"}, {"unit": "m"})
    assert [sample.key for sample in loader.split("test")] == ["0009", "0010", "0011", "0012"]
    assert loader.classes == {"label": ["kitchen", "office"], "mask": list(NAMES_40)}
    assert len(NAMES_40) == len(set(NAMES_40)) == 40
    assert recognised(tree / "nyu_depth_v2_labeled.mat")[0] == "nyuv2"


def test_without_what_lies_beside_it(tree: Path, recognised, everything) -> None:
    (tree / "splits.mat").unlink()
    (tree / "classMapping40.mat").unlink()
    _, loader = recognised(tree, val_share=0.2, test_share=0.2)
    assert "No classMapping40.mat is here, so there are no masks." in loader.notes
    assert all(set(sample.targets) == {"label"} for sample in everything(loader))
    place = {int(sample.key): split for split in ("train", "val", "test") for sample in loader.split(split)}
    for first in range(1, COUNT, 2):  # two pictures of each scene
        assert place[first] == place[first + 1]


def test_damaged_files(tree: Path, recognised) -> None:
    (tree / "splits.mat").write_bytes(b"")
    with pytest.raises(DataError, match=r"splits\.mat cannot be read"):
        recognised(tree)
    savemat(tree / "splits.mat", {"trainNdxs": [[1, 99]], "testNdxs": [[2]]})
    with pytest.raises(DataError, match="holds 99, but there are 12"):
        recognised(tree)
    (tree / "nyu_depth_v2_labeled.mat").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        recognised(tree)


def test_h5py_is_asked_for(tree: Path, recognised, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="h5py is not installed") as caught:
        recognised(tree)
    assert caught.value.hint == "pip install 'cmcd[hdf5]'"


@pytest.fixture
def files(tmp_path: Path, picture) -> Path:
    for split, count in (("train", 8), ("test", 4)):
        for number in range(count):
            picture(tmp_path / split / "rgb" / f"{number:04d}.png", number)
            picture(tmp_path / split / "depth" / f"{number:04d}.png", np.full((4, 6), 1500 + number, np.uint16))
            picture(tmp_path / split / "labels_40" / f"{number:04d}.png", np.full((4, 6), 40 * (number % 2), np.uint8))
    return tmp_path


def test_single_files(files: Path) -> None:
    opened = open_set(str(files), {}, load())
    assert opened.part.name == "nyuv2"
    assert opened.loader.modality_options("depth") == {"unit": "mm"}
    assert len(opened.loader.split("test")) == 4
    for number, sample in enumerate(opened.loader.split("test")):
        assert decode_one(sample.key, sample.views["depth"], opened.modalities["depth"]).max() == pytest.approx(
            1.5 + number / 1000
        )
        mask = read_target(opened.tasks["mask"], sample.key, sample.targets["mask"], opened.loader.classes["mask"])
        assert mask.unique().tolist() == [39 if number % 2 else 255]


def test_single_files_with_other_ids(files: Path, picture, recognised) -> None:
    picture(files / "test" / "labels_40" / "0000.png", np.full((4, 6), 41, np.uint8))
    with pytest.raises(DataError, match="up to 41"):
        recognised(files)[1].split("test")[0].targets["mask"]()


def test_raw_depth_of_single_files(files: Path, picture, recognised, everything) -> None:
    with pytest.raises(DataError, match=r"train/depth_raw is not there, and data\.raw_depth asks for it"):
        recognised(files, raw_depth=True)
    for split, count in (("train", 8), ("test", 4)):
        for number in range(count):
            picture(files / split / "depth_raw" / f"{number:04d}.png", np.full((4, 6), 900, np.uint16))
    samples = everything(recognised(files, raw_depth=True)[1])
    assert {sample.views["depth"].parent.name for sample in samples} == {"depth_raw"}
