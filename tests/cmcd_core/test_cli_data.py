"""`cmcd data check` finds what was put there, `describe` says what is there."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cmcd_core import ConfigError, DataError
from cmcd_core.cli import cli
from cmcd_core.inspection.copies import candidates, difference_hash
from cmcd_core.inspection.pairing import together
from cmcd_core.inspection.sheet import shortened, tile


def data_command(*words: str) -> Result:
    return CliRunner().invoke(cli, ["data", *words], standalone_mode=False)


def checked(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of `cmcd data check`."""
    result = data_command("check", str(folder), "--json", "--quiet", "--no-sheet", *words)
    if result.exception:
        raise result.exception
    return result.return_value, json.loads(result.stdout)


def found(folder: Path, kind: str, *words: str) -> list[dict[str, Any]]:
    """The findings of one kind."""
    return [finding for finding in checked(folder, *words)[1]["findings"] if finding["kind"] == kind]


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set, to be spoilt."""
    shutil.copytree(tiny_folder, tmp_path / "data")
    return tmp_path / "data"


def rows(folder: Path, change: Callable[[dict[str, str]], None]) -> None:
    """Change every row of the metadata."""
    with (folder / "metadata.csv").open(newline="") as file:
        content = list(csv.DictReader(file))
    for row in content:
        change(row)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(content[0]))
        writer.writeheader()
        writer.writerows(row for row in content if not row.get("drop"))


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path)


def test_sound_data_have_no_problem(folder: Path) -> None:
    code, said = checked(folder)
    assert code == 0
    assert {finding["kind"] for finding in said["findings"]} <= {"split"}  # 46 pairs and 12 tests are few
    assert (said["samples"], said["problems"]) == ({"train": 48, "val": 12, "test": 12}, 0)
    (pairing,) = said["pairing"]
    assert pairing["p"] is None  # too few pairs to tell


def test_unreadable_and_truncated(folder: Path) -> None:
    (folder / "depth" / "train003.png").write_bytes(b"no picture")
    whole = (folder / "image" / "test001.png").read_bytes()
    (folder / "image" / "test001.png").write_bytes(whole[: len(whole) // 2])
    code, said = checked(folder)
    assert (code, said["problems"]) == (2, 2)
    first, second = (finding for finding in said["findings"] if finding["kind"] == "unreadable")
    assert "1 depth view of train (of 47)" in first["text"]
    assert "train003.png" in first["examples"][0]
    assert "test001.png" in second["examples"][0]
    code, said = checked(folder, "-o", "data.on_error=skip")
    assert (code, said["problems"]) == (0, 0)


def test_missing_files_are_all_listed(folder: Path) -> None:
    for number in (1, 2, 5):
        (folder / "image" / f"train00{number}.png").unlink()
    code, said = checked(folder)
    (finding,) = (finding for finding in said["findings"] if finding["kind"] == "missing")
    assert code == 2
    assert finding["count"] == 3
    assert "train001.png" in finding["text"]
    with pytest.raises(DataError, match="no such file"):
        checked(folder / "nowhere")


def test_constant_views(folder: Path) -> None:
    for number in range(2):
        save(folder / "image" / f"val{number:03}.png", np.full((24, 24, 3), 30 + number, np.uint8))
    (finding,) = found(folder, "constant")
    assert (finding["level"], finding["examples"]) == ("warning", ["val000", "val001"])
    for path in (folder / "depth").glob("train*"):
        save(path, np.full((24, 24), 900, np.uint16))
    levels = {finding["text"].split()[1]: finding["level"] for finding in found(folder, "constant")}
    assert levels == {"image": "warning", "depth": "problem"}


@pytest.mark.parametrize(
    ("unit", "factor", "said"),
    [("m", 1, "millimetres?"), ("mm", 0.004, "not millimetres?"), ("mm", "rotated", "bit-rotated")],
)
def test_wrong_units(unit: str, factor: Any, said: str, folder: Path) -> None:
    (folder / "dataset.toml").write_text(f'[depth]\nunit = "{unit}"\n')
    for path in (folder / "depth").iterdir():
        depth = np.asarray(Image.open(path)).astype(np.uint16)
        save(path, (depth << 3) | (depth >> 13) if factor == "rotated" else (depth * factor).astype(np.uint16))
    (finding,) = found(folder, "scale")
    assert said in finding["text"]
    assert finding["level"] == "warning"


def test_another_unit_in_some_files(folder: Path) -> None:
    for path in (folder / "depth").glob("val*"):
        save(path, (np.asarray(Image.open(path)) // 300).astype(np.uint16))
    assert any("a hundred times" in finding["text"] for finding in found(folder, "scale"))


def test_dark_pictures(folder: Path) -> None:
    for path in (folder / "image").iterdir():
        save(path, (np.asarray(Image.open(path)) // 64).astype(np.uint8))
    (finding,) = found(folder, "scale")
    assert "class ids" in finding["text"]


def test_copies_and_leaks(folder: Path) -> None:
    shutil.copy(folder / "image" / "train000.png", folder / "image" / "train001.png")
    shutil.copy(folder / "image" / "train004.png", folder / "image" / "test004.png")
    shutil.copy(folder / "depth" / "train004.png", folder / "depth" / "train007.png")
    shutil.copy(folder / "image" / "train004.png", folder / "image" / "train007.png")
    (leak,) = found(folder, "leak")
    assert leak["examples"] == ["train train004 = test test004"]
    kinds = {finding["text"].split(" have")[0] for finding in found(folder, "duplicate")}
    assert "1 image file" in kinds
    assert any(finding["examples"] == ["train007 = train004"] for finding in found(folder, "duplicate"))
    (torn,) = found(folder, "label")
    assert torn["examples"] == ["train train000 = train train001"]


def test_copies_in_a_data_set_whose_keys_and_arrays_repeat() -> None:
    """A loader of arrays, one of them in three places: comparing samples themselves would compare arrays."""
    from cmcd_core import Sample
    from cmcd_core.inspection.copies import Place, _exact
    from cmcd_core.inspection.look import Seen

    array = np.arange(12.0)
    view = Seen("a", "same", (1, 3, 4), 0.0, 0.5, 1.0, array, array, array, "")
    other = Seen("b", "same", (1, 3, 4), 0.0, 0.5, 1.0, array, array, array, "")
    sample = Sample("k", {"image": array})
    places = [Place("train", sample, view), Place("train", sample, other), Place("test", sample, view)]
    assert [finding.kind for finding in _exact("image", places)] == ["leak"]
    assert [finding.kind for finding in _exact("image", places[:2])] == ["duplicate"]


def test_near_copies_in_two_splits(folder: Path) -> None:
    for number, brightness in ((2, 0.97), (5, 1.02)):
        picture = np.asarray(Image.open(folder / "image" / f"train00{number}.png")) * brightness
        save(folder / "image" / f"test00{number}.png", picture.clip(0, 255).astype(np.uint8))
    (leak,) = found(folder, "leak")
    assert "2 pairs of image views" in leak["text"]
    assert set(leak["examples"]) == {"train train002 ~ test test002", "train train005 ~ test test005"}


def test_classes(folder: Path) -> None:
    def change(row: dict[str, str]) -> None:
        row["label"] = "dark" if row["split"] == "train" and row["label"] == "ring" else row["label"]
        if row["split"] == "train" and row["label"] == "bright" and row["id"] not in ("train000", "train003"):
            row["label"] = "dark"

    rows(folder, change)
    texts = {finding["text"] for finding in found(folder, "class")}
    assert texts == {"1 class of test have no training sample", "1 class of train (of 2) have fewer than 5 labels"}
    (balance,) = found(folder, "balance")
    assert "46 of dark, 2 of bright" in balance["text"]


def test_splits(folder: Path) -> None:
    def change(row: dict[str, str]) -> None:
        if row["split"] == "train" and row["id"] != "train000":
            row["split"] = "val"

    rows(folder, change)
    code, said = checked(folder)
    assert code == 2
    assert any("has 1 pair among 1 sample" in finding["text"] for finding in said["findings"])


def masks(folder: Path, value: Callable[[int], np.ndarray]) -> None:
    rows(folder, lambda row: row.update(mask_file_name=f"mask/{row['id']}.png"))
    for number, path in enumerate(sorted((folder / "image").iterdir())):
        save(folder / "mask" / path.name, value(number))
    for name in ("train046", "train047"):  # one of them has no image
        save(folder / "mask" / f"{name}.png", value(0))


def test_masks_with_unknown_ids(folder: Path) -> None:
    (folder / "mask_classes.txt").write_text("floor\nthing\n")
    masks(folder, lambda number: np.full((24, 24), 255 if number % 2 else number % 3, np.uint8))
    (finding, *_) = found(folder, "target")
    assert finding["level"] == "problem"
    assert "the mask holds class 2, and the data set names 2 classes" in finding["examples"][0]
    masks(folder, lambda number: np.full((24, 24), 255 if number % 2 else 1, np.uint8))
    assert not found(folder, "target")
    masks(folder, lambda number: np.zeros((24, 24, 3), np.uint8))
    assert checked(folder)[0] == 2


def test_aligned_views_of_other_proportions(folder: Path) -> None:
    save(folder / "depth" / "train000.png", np.arange(24 * 30, dtype=np.uint16).reshape(24, 30) + 500)
    (finding,) = found(folder, "aligned")
    assert finding["examples"] == ["train000"]


@pytest.mark.parametrize("shuffle", [False, True])
def test_shuffled_pairs(shuffle: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:24, :24]
    centres = rng.uniform(5, 19, (160, 2))
    other = rng.permutation(160) if shuffle else np.arange(160)
    for number in range(160):
        near, far = (np.hypot(y - c[0], x - c[1]) < 5 for c in (centres[number], centres[other[number]]))
        noise = rng.normal(0, 8, (24, 24))
        save(tmp_path / "image" / f"{number}.png", (np.where(near, 200, 90) + noise).astype(np.uint8))
        save(tmp_path / "depth" / f"{number}.png", (np.where(far, 900, 2000) + noise).astype(np.uint16))
    findings = found(tmp_path, "pairing")
    assert bool(findings) is shuffle
    assert all(finding["level"] == "warning" for finding in findings)
    said = data_command("describe", str(tmp_path), "--quiet").stdout
    assert "times as well as shuffled" in said


def test_together_is_a_fair_test() -> None:
    """Of unrelated pairs, 5 % are found related; related ones are found even where one feature drowns the others."""
    rng = np.random.default_rng(0)
    ps = [together(rng.normal(size=(80, 20)), rng.normal(size=(80, 30)), seed)[2] for seed in range(60)]
    assert 0 <= sum(p is not None and p <= 0.05 for p in ps) <= 8
    shared = rng.normal(size=(200, 2))
    a = np.hstack([shared, 50 * rng.normal(size=(200, 1))])
    b = np.hstack([shared[:, ::-1] + rng.normal(size=(200, 2)), 50 * rng.normal(size=(200, 1))])
    assert together(a, b)[2] == 0.005
    assert together(a[:59], b[:59])[2] is None
    assert together(np.ones((100, 3)), b[:100])[2] is None


def test_hashes_of_like_pictures_are_found() -> None:
    rng = np.random.default_rng(1)
    thumbs = rng.integers(0, 256, (50, 16, 16)).astype(np.uint8)
    hashes = [difference_hash(thumb) for thumb in thumbs]
    assert len(set(hashes)) == 50
    for bits in range(4):  # any three bits
        flips = sum(1 << int(bit) for bit in rng.choice(64, bits, replace=False))
        assert (0, 1) in candidates([hashes[0], hashes[0] ^ flips])
    assert candidates([0] * 300) == set()  # what all share tells nothing


def test_the_contact_sheet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "image" / "train001.png").write_bytes(b"")
    rows(folder, lambda row: row.update(label="$x^{" if row["label"] == "ring" else row["label"]))
    monkeypatch.chdir(folder.parent)
    said = data_command("check", str(folder), "--quiet")
    assert "contact sheet: data-sheet.png" in said.stdout
    assert said.return_value == 2
    with Image.open("data-sheet.png") as picture:
        assert min(picture.size) > 500
    assert data_command("check", str(folder), "--quiet", "--sheet", "other/here.png").return_value == 2
    assert Path("other/here.png").is_file()
    (folder.parent / "file").touch()
    with pytest.raises(Exception, match="cannot be written"):
        raise data_command("check", str(folder), "--quiet", "--sheet", "file/here.png").exception  # type: ignore[misc]


def test_tiles() -> None:
    wide = tile(np.zeros((10, 40, 3), np.uint8))
    assert wide.shape == (112, 112, 3)
    assert (wide == 0).all(-1).mean() == pytest.approx(0.25, abs=0.02)
    assert tile(None).min() == 0
    assert shortened("a" * 100).count("a") == 29


def test_words_are_one_line_each(folder: Path) -> None:
    (folder / "image" / "train001.png").write_bytes(b"")
    lines = data_command("check", str(folder), "--quiet", "--no-sheet").stdout.splitlines()
    assert lines[0] == "data (datasets:folder): 48 train, 12 val, 12 test; depth, image"
    assert lines[1].startswith("problem: 1 image view of train (of 47) cannot be read")
    assert "train001.png: " in lines[2]
    assert lines[-1].startswith("1 problem, ")


def test_some_samples_alone(folder: Path) -> None:
    said = checked(folder, "--samples", "5")[1]
    assert said["looked_at"] == {"train": 5, "val": 5, "test": 5}


def test_describe(folder: Path) -> None:
    said = json.loads(data_command("describe", str(folder), "--json", "--quiet").stdout)
    assert said["classes"] == {"label": ["bright", "dark", "ring"]}
    assert said["splits"]["train"]["views"] == {"depth": 47, "image": 47}
    assert said["splits"]["train"]["pairs"] == {"depth + image": 46}
    assert said["splits"]["test"]["labels"] == {"bright": 4, "dark": 4, "ring": 4}
    assert said["aligned"] == ["depth", "image"]
    depth = said["modalities"]["depth"]
    assert depth["sizes"] == {"distinct": 1, "smallest": [24, 24], "commonest": [24, 24], "largest": [24, 24]}
    assert depth["said"] == {"unit": "mm"}
    assert 0.5 < depth["range"][0] < depth["range"][1] < 3.5
    text = data_command("describe", str(folder), "--quiet").stdout
    assert "train       48 samples, 47 depth, 47 image, 48 with label" in text
    assert "3 classes: bright, dark, ring" in text


def test_a_modality_that_is_not_installed(folder: Path) -> None:
    shutil.copytree(folder / "image", folder / "radar")
    rows(folder, lambda row: row.update(radar_file_name=row["image_file_name"].replace("image", "radar")))
    (finding,) = found(folder, "modality")
    assert "there is no modality called 'radar'" in finding["text"]
    assert "radar" in data_command("describe", str(folder), "--quiet").stdout


def test_a_data_set_of_which_no_modality_is_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    text = (folder / "metadata.csv").read_text().replace("image", "radar").replace("depth", "lidar")
    (folder / "metadata.csv").write_text(text)
    for old, new in (("image", "radar"), ("depth", "lidar")):
        (folder / old).rename(folder / new)
    (folder / "dataset.toml").unlink(missing_ok=True)
    said = data_command("check", str(folder), "--quiet")
    assert "there is no modality called 'lidar'" in said.stdout
    assert "contact sheet: data-sheet.png" in said.stdout


def test_options_of_the_loader_alone(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"only data\.KEY"):
        checked(folder, "-o", "source.name=image")
    with pytest.raises(ConfigError, match="no_such"):
        checked(folder, "-o", "data.no_such=1")
    assert checked(folder, "-o", "data.label_column=")[1]["problems"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["asl_fingerspelling", "bsds500", "camvid_contour", "digits_audio", "indoor_unlabelled", "sketchy",
             "tools_objects", "tools_seg"],
)  # fmt: skip
def test_nothing_false_on_real_data(name: str, data: Callable[[str], Path]) -> None:
    code, said = checked(data(name))
    assert code == 0
    assert said["findings"] == []
    assert all(pairing["p"] <= 0.01 for pairing in said["pairing"])
