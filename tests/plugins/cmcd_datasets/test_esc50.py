"""ESC-50 as it is unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmcd_core import ConfigError, DataError
from cmcd_core.catalog import load
from cmcd_core.data.decoded import decode_one
from cmcd_core.inspection.opened import open_set


@pytest.fixture
def tree(tmp_path: Path, sound) -> Path:
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, category in ((0, "dog"), (14, "chirping_birds"), (36, "vacuum_cleaner")):
            name = f"{fold}-{1000 + fold}-A-{target}.wav"
            sound(tmp_path / "audio" / name)
            lines.append(f"{name},{fold},{target},{category},{category == 'dog'},{1000 + fold},A")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join(lines))
    return tmp_path


def test_folds_are_splits(tree: Path, recognised) -> None:
    name, loader = recognised(tree)
    assert name == "esc50"
    assert [len(loader.split(split)) for split in ("train", "val", "test")] == [9, 3, 3]
    assert loader.classes == {"label": ["dog", "chirping_birds", "vacuum_cleaner"]}  # by target, not by name
    assert {sample.key[0] for sample in loader.split("test")} == {"5"}
    assert {sample.key[0] for sample in recognised(tree, test_fold=1)[1].split("test")} == {"1"}
    assert loader.modality_options("audio") == {"seconds": 5.0}
    with pytest.raises(ConfigError, match="val_fold"):
        recognised(tree, test_fold=4)


def test_esc10(tree: Path, recognised) -> None:
    assert recognised(tree, esc10=True)[1].classes == {"label": ["dog"]}


def test_the_whole_recording_is_heard(tree: Path) -> None:
    opened = open_set(str(tree), {}, load())
    sample = opened.loader.split("train")[0]
    assert decode_one(sample.key, sample.views["audio"], opened.modalities["audio"]).shape[-1] == 500


@pytest.mark.parametrize(
    ("old", "new", "said"), [("fold", "part", "no column fold"), ("1-1001-A-0.wav,1", "x.wav,one", "row 2")]
)
def test_bad_tables(old: str, new: str, said: str, tree: Path, recognised) -> None:
    file = tree / "meta" / "esc50.csv"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=said):
        recognised(tree)


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_a_row_that_ends_early_is_named(cells: int, tree: Path, recognised) -> None:
    file = tree / "meta" / "esc50.csv"
    header, first, *others = file.read_text().splitlines()
    file.write_text("\n".join([header, ",".join(first.split(",")[:cells]), *others]))
    missing = ("filename", "fold", "target", "category")[cells]
    for options in ({}, {"esc10": True}):
        with pytest.raises(DataError, match=f"row 2: it ends before {missing}"):
            recognised(tree, **options)
