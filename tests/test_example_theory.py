"""examples/theory: rungs that spoil what they say, and correlations that are right."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1] / "examples" / "theory"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ladders() -> ModuleType:
    return loaded("ladders")


@pytest.fixture(scope="module")
def correlate() -> ModuleType:
    return loaded("correlate")


@pytest.fixture
def pairs(tmp_path: Path, ladders: ModuleType) -> object:
    """Twenty pairs of a picture and a depth map, in the folder layout."""
    root = tmp_path / "ramps"
    root.mkdir()
    mm = np.tile(np.linspace(500, 1500, 24), (24, 1)).astype(np.uint16)
    mm[:4] = 0
    rows = []
    for number in range(20):
        Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(root / f"{number}.jpg")
        Image.fromarray(np.where(mm > 0, mm + number, 0).astype(np.uint16)).save(root / f"{number}.png")
        split = ("train", "train", "train", "val", "test")[number % 5]
        rows.append([f"r{number}", split, "ab"[number % 2], f"{number}.jpg", f"{number}.png"])
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "split", "label", "image_file_name", "depth_file_name"], *rows])
    (root / "classes.txt").write_text("a\nb\n")
    (root / "dataset.toml").write_text('name = "ramps"\n[depth]\nunit = "mm"\n')
    return ladders.Pairs(root, "depth")


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("ladder", "level"), [("blur", 0.2), ("quantise", 0.6), ("drop", 0.9)])
def test_a_rung_spoils_every_split_and_the_labels_see_it(
    ladders: ModuleType, pairs: object, tmp_path: Path, ladder: str, level: float
) -> None:
    folder = ladders.write_rung(pairs, ladder, level, tmp_path / "rung")
    assert len(read(folder)) == len(read(folder / "labels")) == 20
    clean = np.asarray(Image.open(pairs.root / "0.png")).astype(float)  # type: ignore[attr-defined]
    for row in read(folder / "labels"):
        assert "image_file_name" not in row
        spoilt = np.asarray(Image.open(row["depth_file_name"])).astype(float)
        if ladder == "drop":
            assert 0.8 < (spoilt == 0).mean() < 1
        else:
            assert np.abs(spoilt - clean)[8:].max() > 50
            assert (spoilt[0] == 0).all(), "holes stay holes"


def test_files_of_one_name_in_two_folders_stay_two(ladders: ModuleType, pairs: object, tmp_path: Path) -> None:
    root, elsewhere = pairs.root, tmp_path / "elsewhere"  # type: ignore[attr-defined]
    rows = read(root)
    for number, row in enumerate(rows):
        folder = root / row["label"] / row["split"] if number else elsewhere
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{number // 2}.png"
        (root / row["depth_file_name"]).rename(folder / name)
        row["depth_file_name"] = str((folder / name) if not number else (folder / name).relative_to(root))
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    clean = {row["id"]: np.asarray(Image.open(root / row["depth_file_name"])) for row in rows}
    for row in read(ladders.write_rung(pairs, "quantise", 0.01, tmp_path / "rung") / "labels"):
        wanted = ladders.spoilt_depth("quantise", 0.01, clean[row["id"]], np.random.default_rng(0))
        assert np.array_equal(np.asarray(Image.open(row["depth_file_name"])), wanted)
    assert np.array_equal(np.asarray(Image.open(elsewhere / "0.png")), clean["r0"])


def test_shuffling_breaks_its_share_of_the_training_pairs_alone(
    ladders: ModuleType, pairs: object, tmp_path: Path
) -> None:
    own = {row["id"]: row["depth_file_name"] for row in read(ladders.write_rung(pairs, "clean", 0, tmp_path / "c"))}
    rows = read(ladders.write_rung(pairs, "shuffle", 0.5, tmp_path / "s"))
    broken = [row for row in rows if row["depth_file_name"] != own[row["id"]]]
    assert {row["split"] for row in broken} == {"train"}
    assert len(broken) == 6
    assert sorted(row["depth_file_name"] for row in rows) == sorted(own.values())


def test_fewer_pairs_leave_val_and_test(ladders: ModuleType, pairs: object, tmp_path: Path) -> None:
    splits = [row["split"] for row in read(ladders.write_rung(pairs, "pairs", 5, tmp_path / "p"))]
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (5, 4, 4)


@pytest.mark.parametrize("ladder", ["blur", "quantise", "drop"])
def test_sounds_are_spoilt_and_never_silent(ladders: ModuleType, ladder: str) -> None:
    generator = np.random.default_rng(0)
    sound = np.sin(np.arange(800) / 3) * np.linspace(0, 0.5, 800)
    for level in ladders.LEVELS["audio"][ladder]:
        spoilt = ladders.spoilt_sound(ladder, level, sound, generator)
        assert spoilt.shape == sound.shape
        assert np.ptp(spoilt) > 0
        assert np.abs(spoilt - sound).max() > 0.01


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Two seeds of five rungs: alignment follows the error, CKA falls with it, one estimate is noise."""
    generator = np.random.default_rng(0)
    columns = ["error_distilled_5", "after_alignment", "after_linear_cka", "after_mmd2", "after_uniformity_source"]
    rows = [["data", "ladder", "level", "seed", *columns]]
    for seed in (0, 1):
        for level in range(5):
            error = 0.2 + 0.1 * level + 0.01 * seed
            rows.append(["d", "blur", level, seed, error, level + 1, -level, generator.random(), 1])
    with (tmp_path / "cells.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "cells.csv"


def test_correlations(correlate: ModuleType, cells: Path, tmp_path: Path) -> None:
    found = {one.name: one for one in correlate.correlations(correlate.read(cells, "d", "after", "5"))}
    assert set(found) == {"alignment", "linear_cka", "mmd2"}
    assert found["alignment"].within == pytest.approx(1)
    assert found["linear_cka"].value == pytest.approx(found["alignment"].value)
    assert found["alignment"].low > 0.8
    assert found["mmd2"].low < 0 < found["mmd2"].high
    said: list[str] = []
    correlate.main([str(cells), "--data", "d", "--picture", str(tmp_path / "p.png")], said.append)
    assert "| **`alignment`** |" in said[-1]
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_flags_that_do_not_fit_are_refused(
    ladders: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = loaded("sweep")
    for words, said in (
        (["--ladder", "fog"], "'fog' is not among"),
        (["--ladder", "blur"], "spoils files"),
        (["--ladder", "blur", "--data", str(tmp_path)], "no metadata.csv there"),
        (["--ladder", "noise", "--target-option", "near"], "'near' is not KEY=VALUE"),
    ):
        with pytest.raises(SystemExit) as stopped:
            sweep.main([*words, "--out", str(tmp_path / "out")])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err


def test_target_options_are_read_as_a_runs(ladders: ModuleType) -> None:
    words = ["--target-option", "near=0.5", "--target-option", "unit=mm", "--target-option", "validity=true"]
    parsed = loaded("sweep").parsed(["--ladder", "noise", "--out", "out", *words])
    assert parsed.target_options == {"near": 0.5, "unit": "mm", "validity": True}


def test_runs_of_other_tasks_have_no_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = loaded("record")
    shared = {"protocol": "linear", "labels": "5", "n_train": 20, "classes": 4, "metrics": {"miou": 0.3}}
    evaluations = [{"encoder": encoder, **shared} for encoder in ("distilled", "scratch")]

    class Run:
        values: ClassVar[dict[str, object]] = {"evaluations": evaluations, "seed": 0, "objective": "cmd"}

    monkeypatch.setattr(record, "load_run", lambda folder: Run)
    monkeypatch.setattr(record, "seen", lambda folder: None)
    assert list(record.rows(tmp_path / "d-clean-0-s0")) == []
