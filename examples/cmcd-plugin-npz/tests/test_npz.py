import numpy as np
import pytest
from cmcd_npz import NpzOptions, build, recognises

from cmcd_core import ConfigError, DataError
from cmcd_core.testing import check_plugin

COUNTS = {"train": 6, "val": 4, "test": 4}


@pytest.fixture
def folder(tmp_path):
    for split, count in COUNTS.items():
        np.savez(tmp_path / f"{split}.npz", **arrays(count))
    return tmp_path


def arrays(count):
    rng = np.random.default_rng(count)
    return {
        "image": rng.integers(255, size=(count, 20, 24, 3), dtype=np.uint8),
        "depth": rng.integers(500, 4000, size=(count, 20, 24), dtype=np.uint16),
        "label": np.arange(count) % 2,
        "mask": rng.integers(3, size=(count, 20, 24), dtype=np.uint8),
        "width": rng.uniform(size=count),
    }


def test_contract(folder):
    findings = check_plugin("npz", options={"npz": {"root": folder}})
    assert {finding.outcome for finding in findings} == {"ok"}


def test_rows_are_samples(folder):
    loader = build(NpzOptions(root=folder))
    assert recognises(folder)
    assert {split: len(loader.split(split)) for split in COUNTS} == COUNTS
    assert loader.classes == {"label": ["class 0", "class 1"]}
    sample, expected = loader.split("train")[3], arrays(6)
    assert sample.key == "train-3"
    assert sample.views.keys() == loader.modalities == {"image", "depth"}
    assert sample.targets.keys() == {"label", "mask", "width"}
    for name, value in {**sample.views, **sample.targets}.items():
        np.testing.assert_array_equal(value, expected[name][3])


def test_on_one_grid_if_said(folder):
    assert build(NpzOptions(root=folder)).aligned == frozenset()
    assert build(NpzOptions(root=folder, aligned=True)).aligned == {"image", "depth"}


def test_train_alone_without_labels(tmp_path):
    np.savez(tmp_path / "train.npz", image=arrays(3)["image"], depth=arrays(3)["depth"])
    loader = build(NpzOptions(root=tmp_path))
    assert loader.classes == {}
    assert [len(loader.split(split)) for split in COUNTS] == [3, 0, 0]


def test_what_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs a folder"):
        build(NpzOptions())
    with pytest.raises(DataError, match=r"train.npz: cannot be read"):
        build(NpzOptions(root=tmp_path))
    np.savez(tmp_path / "train.npz", image=np.zeros((3, 4, 4)), depth=np.zeros((2, 4, 4)))
    with pytest.raises(DataError, match="differ in length"):
        build(NpzOptions(root=tmp_path))
