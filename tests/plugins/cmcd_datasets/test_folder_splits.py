"""Splits made by the folder loader: whole groups, every row once, the same for any order."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from cmcd_datasets import FolderOptions, cmcd_loaders
from cmcd_datasets.folder.row import Row
from cmcd_datasets.folder.splits import Shares, complete_splits
from hypothesis import given
from hypothesis import strategies as st

from cmcd_core import PairedLoader

FOLDER = next(plugin for plugin in cmcd_loaders() if plugin.name == "folder")
SHARES = Shares(val=0.15, test=0.2)


def row(number: int, image: int | None, label: str | None, group: str | None = None, split: str | None = None) -> Row:
    files = {"depth": f"depth/{number}"} if image is None else {"depth": f"depth/{number}", "image": f"image/{image}"}
    return Row(f"r{number}", files, label=label, group=group, split=split)


drawn = st.lists(
    st.tuples(
        st.none() | st.integers(0, 12),
        st.none() | st.sampled_from("abc"),
        st.none() | st.sampled_from(["g1", "g2", "g3", "g4"]),
    ),
    min_size=1,
    max_size=60,
)
given_splits = st.sampled_from([(None,), ("train",), ("train", "test"), ("train", "val"), ("test",)])


def split_of(rows: list[Row], seed: int = 0, shares: Shares = SHARES) -> dict[str, str | None]:
    complete_splits(rows, shares, seed, "metadata.csv", None)
    return {r.key: r.split for r in rows}


@given(drawn, st.integers(0, 5))
def test_no_group_is_separated_and_every_row_has_one_split(drawn: list, seed: int) -> None:
    rows = [row(i, *one) for i, one in enumerate(drawn)]
    splits = split_of(rows, seed)
    assert set(splits.values()) <= {"train", "val", "test"}
    assert "train" in splits.values()
    shared = defaultdict(set)
    for r in rows:
        names = [("group", r.group)] if r.group else list(r.files.values())
        for name in names:
            shared[name].add(r.split)
    assert all(len(found) == 1 for found in shared.values())


@given(drawn, given_splits, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(drawn: list, given: tuple, shuffler: random.Random) -> None:
    rows = [row(i, *one, split=given[i % len(given)]) for i, one in enumerate(drawn)]
    again = [Row(r.key, r.files, label=r.label, group=r.group, split=r.split) for r in rows]
    shuffler.shuffle(again)
    assert split_of(rows) == split_of(again)


@given(drawn)
def test_given_test_rows_stay_and_val_comes_out_of_train(drawn: list) -> None:
    rows = [row(i, *one, split="test" if i % 3 else "train") for i, one in enumerate(drawn)]
    before = {r.key: r.split for r in rows}
    for key, split in split_of(rows).items():
        assert split == before[key] or (before[key], split) == ("train", "val")


@pytest.mark.parametrize("rows_per_class", [2, 3, 10, 37])
@pytest.mark.parametrize("classes", [1, 5, 40])
def test_shares_hold_over_all_and_in_each_class(rows_per_class: int, classes: int) -> None:
    rows = [row(i, None, f"c{i % classes}") for i in range(rows_per_class * classes)]
    split_of(rows)
    total = len(rows)
    sizes = Counter(r.split for r in rows)
    per_class = Counter((r.label, r.split) for r in rows)
    assert abs(sizes["test"] - 0.2 * total) <= 1.5
    assert abs(sizes["val"] - 0.15 * total) <= 1.5
    for c in range(classes):
        assert per_class[f"c{c}", "train"] >= 1
        assert abs(per_class[f"c{c}", "test"] - 0.2 * rows_per_class) <= 2
        assert abs(per_class[f"c{c}", "val"] - 0.15 * rows_per_class) <= 2


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (10, (6, 2, 2))],
)
@pytest.mark.parametrize("labelled", [False, True])
def test_tiny_data(count: int, expected: tuple[int, int, int], labelled: bool) -> None:
    rows = [row(i, None, f"only{i}" if labelled else None) for i in range(count)]
    sizes = Counter(split_of(rows).values())
    assert (sizes["train"], sizes["val"], sizes["test"]) == expected


def test_no_share_no_split() -> None:
    rows = [row(i, None, None) for i in range(20)]
    assert set(split_of(rows, shares=Shares(0.0, 0.0)).values()) == {"train"}


def test_seeds_differ() -> None:
    assert split_of([row(i, None, None) for i in range(50)]) != split_of(
        [row(i, None, None) for i in range(50)], seed=1
    )


def load(root: Path, splits: list[str], speakers: list[str], **options) -> PairedLoader:
    """Five rows a speaker, each with files of its own."""
    (root / "image").mkdir()
    lines = ["split,speaker,image_file_name"]
    for i, (split, speaker) in enumerate(zip(splits, speakers, strict=True)):
        (root / "image" / f"{i}.png").write_bytes(b"x")
        lines.append(f"{split},{speaker},image/{i}.png")
    (root / "metadata.csv").write_text("\n".join(lines))
    return FOLDER.build(FolderOptions(root=root, **options))


def test_group_column(tmp_path: Path) -> None:
    speakers = [f"s{i % 10}" for i in range(50)]
    loader = load(tmp_path, [""] * 50, speakers, group_column="speaker")
    lengths = [len(loader.split(name)) for name in ("train", "val", "test")]
    assert lengths[0] + lengths[1] + lengths[2] == 50
    assert all(length and length % 5 == 0 for length in lengths)
    seen = [{speakers[int(s.views["image"].stem)] for s in loader.split(name)} for name in ("train", "val", "test")]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 10
    said = next(note for note in loader.notes if "made here" in note)
    for part in ("equal speaker", "seed 0", f"{lengths[0]} train, {lengths[1]} val, {lengths[2]} test"):
        assert part in said


@pytest.mark.parametrize(
    ("given", "expected", "said"),
    [
        (["train"] * 80 + ["test"] * 20, (68, 12, 20), "12 of its 80 train rows serve as val"),
        (["train"] * 100, (65, 15, 20), "no val and test split"),
        (["train"] * 60 + ["val"] * 40, (60, 40, 0), "no test rows"),
        (["test"] * 100, (0, 0, 100), "no train and no val rows"),
        (["train", "val"] * 40 + ["test"] * 20, (40, 40, 20), None),
    ],
)
def test_incomplete_split_columns(tmp_path: Path, given: list[str], expected: tuple, said: str | None) -> None:
    loader = load(tmp_path, given, ["s"] * 100)
    assert tuple(len(loader.split(name)) for name in ("train", "val", "test")) == expected
    notes = [note for note in loader.notes if "no pairs here" not in note]
    assert notes == [] if said is None else any(said in note for note in notes)


def test_one_file_in_two_given_splits_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "metadata.csv").write_text("id,split,image_file_name\n1,train,a.png\n2,val,a.png\n3,test,a.png\n")
    notes = FOLDER.build(FolderOptions(root=tmp_path)).notes
    assert any("1 file is in more than one split, such as a.png" in note for note in notes)


def test_one_huge_group_is_said() -> None:
    notes = complete_splits([row(i, 1, None) for i in range(9)], SHARES, 0, "metadata.csv", None)
    assert any("One group holds 9 of 9 rows" in note for note in notes)
