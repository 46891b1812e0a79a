"""Whole runs from Python on a folder of pictures: repeated, interrupted, resumed, and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmcd_core import ConfigError, DataError, Result, RunConfig, load_run, run
from cmcd_core.progress import Advance, Progress


class Notes(Progress):
    """Keeps what is said, and can interrupt a step."""

    def __init__(self, stop_in: str = "", after: int = 0) -> None:
        self.said: list[str] = []
        self.titles: list[str] = []
        self.stop_in, self.left = stop_in, after

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Advance]:
        self.titles.append(title)

        def advance(steps: int, detail: str) -> None:
            if self.stop_in and self.stop_in in title:
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt

        yield advance

    def note(self, text: str) -> None:
        self.said.append(text)


def config(folder: Path, out: Path, **changed: Any) -> RunConfig:
    values: dict[str, Any] = {
        "source": "image",
        "target": "depth",
        "data": str(folder),
        "pretrain": {"epochs": 1, "batch_size": 16},
        "distill": {"epochs": 3, "batch_size": 16, "views": 2},
        "evaluate": {"labels": ["2"], "label_draws": 2, "train_steps": 2, "train_epochs": 1, "scratch_lrs": [0.01]},
        "run": {"out": str(out), "device": "cpu", "size": 24},
    }
    for key, section in changed.items():
        both = isinstance(section, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **section} if both else section
    return RunConfig.from_mapping(values)


def numbers(result: Result) -> Any:
    """What must be the same in a repeated run."""
    values = result.values
    return values["evaluations"], values["comparisons"], values["pretrain"], values["distill"]


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module", autouse=True)
def few_bootstraps() -> Iterator[None]:
    """Intervals from fewer resamples: most of a tiny run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 20)
        yield


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """An uninterrupted run."""
    return run(config(tiny_folder, tmp_path_factory.mktemp("whole") / "run"))


def test_what_a_run_finds(whole: Result) -> None:
    assert [(e["encoder"], e["modality"], e["protocol"]) for e in whole.evaluations] == [
        ("distilled", "depth", "linear"),
        ("untrained", "depth", "linear"),
        ("source", "image", "linear"),
        ("scratch", "depth", "supervised"),
    ]
    for entry in whole.evaluations:
        low, high = entry["intervals"]["top1"]
        assert 0 <= low <= entry["metrics"]["top1"] <= high <= 1
        assert entry["n_test"] == 12
        assert entry["n_train"] == 6
    assert whole.values["distill"]["pairs"] == 46
    assert whole.values["pretrain"]["samples"] == 47  # one row of train lacks its image
    assert load_run(whole.folder).values == whole.values


def test_its_log_has_one_line_an_epoch(whole: Result) -> None:
    lines = logged(whole.folder)
    assert [(line["stage"], line["epoch"]) for line in lines] == [("pretrain", 0), *(("distill", i) for i in range(3))]
    assert lines[-1]["loss"] == pytest.approx(whole.values["distill"]["loss"])


def test_its_encoders_come_back(whole: Result) -> None:
    target, source = whole.encoder(), whole.encoder("source")
    assert (target.channels, source.channels) == (1, 3)
    assert target.card["modality"] == "depth:depth"
    assert target.card["options"]["unit"] == "mm"
    with torch.no_grad():
        assert target(torch.rand(2, 1, 24, 24)).pooled.shape == (2, target.dim)


def test_the_same_seed_gives_the_same_numbers(whole: Result, tiny_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    again = run(config(tiny_folder, tmp_path / "run"))
    assert numbers(again) == numbers(whole)
    for name in ("source", "target"):
        one, other = (result.encoder(name).state_dict() for result in (again, whole))
        assert all(torch.equal(one[key], other[key]) for key in one)
    other = run(config(tiny_folder, tmp_path / "other", run={"seed": 1}))
    assert other.values["distill"]["loss"] != whole.values["distill"]["loss"]


@pytest.mark.parametrize(
    ("stop_in", "after"),
    [("1 pretrain", 1), ("2 source features", 0), ("2 distil", 5), ("3 linear", 0)],
)
def test_an_interrupted_run_resumes_to_the_same_numbers(
    whole: Result, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_in: str, after: int
) -> None:
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "cache"))  # else the features are there already
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(config(tiny_folder, out), progress=Notes(stop_in, after))
    assert not (out / "result.json").exists()
    progress = Notes()
    resumed = run(config(tiny_folder, out), resume=True, progress=progress)
    assert numbers(resumed) == numbers(whole)
    assert logged(out) == logged(whole.folder)
    if stop_in.startswith("3"):
        assert not any(title.startswith(("1", "2")) for title in progress.titles), "steps 1 and 2 are not repeated"


def test_an_existing_folder_is_refused_and_a_finished_run_is_left_alone(whole: Result, tiny_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*")}
    with pytest.raises(ConfigError, match="a run is there already"):
        run(config(tiny_folder, whole.folder))
    notes = Notes()
    assert run(config(tiny_folder, whole.folder), resume=True, progress=notes).values == whole.values
    assert notes.titles == []
    assert any("finished already" in said for said in notes.said)
    assert {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"distill": {"lr": 0.5}}, "distill.lr"),
        ({"run": {"seed": 3}}, "run.seed"),
        ({"target": {"name": "depth", "unit": "m"}}, "target.unit"),
        ({"objective": "cmc"}, "objective.cmc"),
    ],
)
def test_resuming_something_else_is_refused(whole: Result, tiny_folder: Path, changed: dict, key: str) -> None:
    with pytest.raises(ConfigError, match="its configuration differs") as caught:
        run(config(tiny_folder, whole.folder, **changed), resume=True)
    assert key in caught.value.message


def test_resuming_nothing_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        run(config(tiny_folder, tmp_path / "gone"), resume=True)
    assert not (tmp_path / "gone").exists()


# --- data as users have them


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_a_broken_file_is_found_before_any_training(copy: Path, tmp_path: Path) -> None:
    (copy / "depth" / "test003.png").write_bytes(b"nonsense")
    notes = Notes()
    with pytest.raises(DataError) as caught:
        run(config(copy, tmp_path / "run"), progress=notes)
    assert "depth/test003.png" in caught.value.message
    assert not any(title.startswith(("1", "2", "3")) for title in notes.titles)


def test_broken_files_may_be_left_out(copy: Path, tmp_path: Path) -> None:
    (copy / "depth" / "train003.png").write_bytes(b"nonsense")
    (copy / "image" / "train004.png").write_bytes(b"nonsense")
    notes = Notes()
    data = {"loader": "folder", "root": str(copy), "on_error": "skip"}
    result = run(config(copy, tmp_path / "run", data=data), progress=notes)
    assert result.values["distill"]["pairs"] == 44
    for name in ("depth/train003.png", "image/train004.png"):
        assert any(name in said for said in notes.said)


def test_data_without_labels(copy: Path, tmp_path: Path) -> None:
    table = copy / "metadata.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("\n".join(",".join(cells[:2] + cells[3:]) for cells in lines) + "\n")
    result = run(config(copy, tmp_path / "run"))
    assert result.evaluations == []
    assert any("step 3 skipped" in note for note in result.values["notes"])
    assert (result.folder / "target" / "model.safetensors").is_file()
    with pytest.raises(DataError, match="label"):
        run(config(copy, tmp_path / "named", task={"names": ["recognition"]}))


@pytest.mark.parametrize(("section", "size"), [("pretrain", 2), ("distill", 2)])
def test_a_batch_of_one_never_happens(copy: Path, tmp_path: Path, section: str, size: int) -> None:
    """47 pictures, and 45 pairs."""
    (copy / "depth" / "train003.png").write_bytes(b"nonsense")
    changed: dict[str, Any] = {"pretrain": {}, "distill": {"epochs": 1}, section: {"epochs": 1, "batch_size": size}}
    changed["data"] = {"loader": "folder", "root": str(copy), "on_error": "skip"}
    result = run(config(copy, tmp_path / "run", evaluate={"baselines": ["none"]}, **changed))
    assert np.isfinite(result.values["distill"]["loss"])


def test_a_smaller_student_of_the_same_modality(tiny_folder: Path, tmp_path: Path) -> None:
    changed = {
        "distill": {"epochs": 1, "model_args": {"channels": [8, 8, 16, 16]}},
        "evaluate": {"baselines": ["none"]},
    }
    result = run(config(tiny_folder, tmp_path / "run", target="image", **changed))
    assert result.encoder("target").dim < result.encoder("source").dim
    assert result.values["distill"]["pairs"] == 47
