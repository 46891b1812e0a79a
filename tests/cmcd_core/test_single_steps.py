"""``cmcd pretrain``, ``distill`` and ``evaluate`` on the same folders, and data of its own for each step."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from cmcd_core import load_encoder, load_run
from cmcd_core.cli import main

Cmcd = Callable[..., tuple[int, str, str]]
ONE = ["-o", "pretrain.batch_size=16", "-o", "run.size=24", "--device", "cpu", "--epochs"]
TWO = ["-o", "distill.batch_size=16", "-o", "distill.views=2", "--epochs"]
THREE = [
    "--labels",
    "2",
    "--label-draws",
    "2",
    "-o",
    "evaluate.train_steps=2",
    "-o",
    "evaluate.train_epochs=1",
    "-o",
    "evaluate.scratch_lrs=[0.01]",
]


@pytest.fixture(scope="module", autouse=True)
def few_bootstraps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 20)
        yield


@pytest.fixture
def cmcd(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cmcd:
    """``code, out, err = cmcd(*words)`` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, words)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(caught.value.code or 0), said.out, said.err

    return call


@pytest.fixture(scope="module")
def stepwise(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the three steps were done by three commands."""
    folder = tmp_path_factory.mktemp("steps") / "a"
    for words in (
        ["pretrain", "--data", tiny_folder, "--out", folder, *ONE, "1"],
        ["distill", folder, "--target", "depth", *TWO, "3"],
        ["evaluate", folder, *THREE],
    ):
        with pytest.raises(SystemExit) as caught:
            main([*map(str, words), "--quiet"])
        assert not caught.value.code
    return folder


@pytest.fixture
def mine(stepwise: Path, tmp_path: Path) -> Path:
    """A copy to go on in."""
    return Path(shutil.copytree(stepwise, tmp_path / "mine"))


def losses(folder: Path, stage: str) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["stage"] == stage]


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def scores(folder: Path) -> dict[tuple[str, str], float]:
    return {(e["encoder"], e["labels"]): e["metrics"]["top1"] for e in result(folder)["evaluations"]}


def test_three_commands_find_what_one_run_finds(stepwise: Path, tiny_folder: Path, cmcd: Cmcd) -> None:
    words = ["-o", "pretrain.epochs=1", "--target", "depth", "--data", tiny_folder, "--out", "whole"]
    code, _, err = cmcd("run", *words, *ONE[:-1], *TWO, "3", *THREE)
    assert code == 0, err
    whole, single = load_run("whole").values, load_run(stepwise).values
    for key in ("steps", "source", "target", "objective", "data", "pretrain", "distill", "comparisons"):
        assert whole[key] == single[key], key
    assert scores(Path("whole")) == scores(stepwise)


def test_its_configuration_repeats_the_run(stepwise: Path, cmcd: Cmcd) -> None:
    code, _, err = cmcd("run", "-c", stepwise / "config.toml", "--out", "again")
    assert code == 0, err
    assert scores(Path("again")) == scores(stepwise)


def test_what_is_done_is_not_done_again(mine: Path, cmcd: Cmcd) -> None:
    before = {file: file.stat().st_mtime_ns for file in mine.rglob("*.safetensors")}
    for words in (["pretrain", mine], ["distill", mine], ["evaluate", mine]):
        code, _, err = cmcd(*words)
        assert code == 0, err
    assert {file: file.stat().st_mtime_ns for file in mine.rglob("*.safetensors")} == before
    _, _, err = cmcd("distill", mine)
    assert "step 1 is done already" in err
    assert "step 2 is done already" in err


def test_more_budgets_are_added(mine: Path, cmcd: Cmcd) -> None:
    before = scores(mine)
    code, out, err = cmcd("evaluate", mine, "--labels", "50%", "--baseline", "none")
    assert code == 0, err
    after = scores(mine)
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {(name, "50%") for name in ("distilled", "untrained", "source")}
    assert "50%" in out
    assert tomllib.loads((mine / "config.toml").read_text())["evaluate"]["labels"] == ["2", "50%"]
    assert len(list((mine / "evaluations").iterdir())) == 7


@pytest.mark.parametrize("labels", ["", 'labels = "10%"', "labels = 5"])
def test_budgets_are_added_whatever_a_file_says_of_them(labels: str, mine: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    """What the folder holds counts, not what a file of settings names or leaves out."""
    settings = tomllib.loads((mine / "config.toml").read_text())
    del settings["evaluate"]["labels"]
    (tmp_path / "my.toml").write_text(
        tomli_w.dumps(settings).replace("[evaluate]\n", f"[evaluate]\n{labels}\n")  # as a user writes it
    )
    code, out, err = cmcd("evaluate", mine, "-c", "my.toml", "--labels", "50%", "--dry-run")
    assert code == 0, err
    assert tomllib.loads(out)["evaluate"]["labels"] == ["2", "50%"]


@pytest.mark.parametrize("content", ["{", "[]"])
def test_an_encoder_whose_description_is_spoilt_is_told(content: str, mine: Path, cmcd: Cmcd) -> None:
    (mine / "source" / "config.json").write_text(content)
    code, _, err = cmcd("distill", mine / "source", "--target", "depth", "--out", "b")
    assert code == 2
    assert f"{mine / 'source' / 'config.json'}: not readable" in err


def test_a_finished_step_is_not_overwritten(mine: Path, cmcd: Cmcd) -> None:
    files = {file: file.read_bytes() for file in mine.rglob("*") if file.is_file() and file.name != ".lock"}
    for words in (["--objective", "cmc"], ["--epochs", "7"], ["-o", "distill.lr=0.1"], ["--seed", "1"]):
        code, _, err = cmcd("distill", mine, *words)
        assert code == 2
        assert "is finished" in err
        assert "--out" in err
    assert {file: file.read_bytes() for file in files} == files


def test_step_three_changes_nothing_that_it_builds_on(mine: Path, cmcd: Cmcd) -> None:
    code, _, err = cmcd("evaluate", mine, "-o", "distill.lr=0.1")
    assert code == 2
    assert "differs in distill.lr" in err


def test_another_objective_from_the_same_source(mine: Path, cmcd: Cmcd) -> None:
    code, _, err = cmcd("distill", mine, "--objective", "cmc", "--out", "b")
    assert code == 0, err
    assert result(Path("b"))["objective"] == "cmc"
    x = torch.rand(2, 3, 24, 24)
    assert torch.equal(load_encoder("b/source")(x).pooled, load_encoder(mine / "source")(x).pooled)
    assert "evaluate" not in result(Path("b"))["steps"]


def test_extending_goes_on_where_step_two_ended(mine: Path, cmcd: Cmcd) -> None:
    source, three = (mine / "source" / "model.safetensors").read_bytes(), losses(mine, "distill")
    code, _, err = cmcd("run", "--out", mine, "--extend", "--epochs", "5")
    assert code == 0, err
    assert "going on after epoch 3 of 5" in err
    assert (mine / "source" / "model.safetensors").read_bytes() == source
    assert losses(mine, "distill")[:3] == three
    assert len(losses(mine, "distill")) == 5
    found = result(mine)
    assert found["distill"]["epochs"] == 5
    assert [entry["encoder"] for entry in found["evaluations"]].count("distilled") == 1
    code, _, err = cmcd("run", "--out", mine, "--resume")
    assert "finished already" in err


def test_extending_step_two_alone_forgets_what_its_target_scored(mine: Path, cmcd: Cmcd) -> None:
    code, _, err = cmcd("distill", mine, "--extend", "--epochs", "4")
    assert code == 0, err
    assert "evaluate" not in result(mine)["steps"]
    assert "distilled" not in {entry["encoder"] for entry in result(mine)["evaluations"]}
    cmcd("evaluate", mine)
    assert {name for name, _ in scores(mine)} == {"distilled", "untrained", "source", "scratch"}


def test_baselines_that_were_trained_are_extended_with_step_two(mine: Path, cmcd: Cmcd) -> None:
    extend = ["run", "--out", mine, "--extend", "--baseline", "l2", "--baseline", "ssl-target", "--epochs"]
    for epochs in ("4", "5"):
        code, _, err = cmcd(*extend, epochs)
        assert code == 0, err
    assert {name: values["epochs"] for name, values in result(mine)["baselines"].items()} == {"l2": 5, "ssl-target": 5}
    assert {"l2", "ssl-target"} <= {name for name, _ in scores(mine)}


def test_an_encoder_from_elsewhere_does_not_replace_the_runs_own(mine: Path, stepwise: Path, cmcd: Cmcd) -> None:
    before = (mine / "target" / "model.safetensors").read_bytes()
    code, _, err = cmcd("evaluate", mine, "-o", f"evaluate.encoder={stepwise / 'source'}")
    assert (code, "has a target encoder of its own" in err) == (2, True)
    assert (mine / "target" / "model.safetensors").read_bytes() == before


def test_several_teachers_in_step_one_alone(mine: Path, tiny_folder: Path, cmcd: Cmcd) -> None:
    teachers = f"pretrain.teacher=['{mine / 'source'}', '{mine / 'source'}']"
    code, _, err = cmcd("pretrain", "--data", tiny_folder, "--out", "both", "-o", teachers, *ONE[:-1])
    assert code == 0, err
    one, both = load_encoder(mine / "source"), load_encoder("both/source")
    assert both.dim == 2 * one.dim


def test_extending_refuses_fewer_epochs_and_what_is_not_there(mine: Path, cmcd: Cmcd) -> None:
    code, _, err = cmcd("distill", mine, "--extend", "--epochs", "2")
    assert (code, "3 epochs already" in err) == (2, True)
    code, _, err = cmcd("run", "--target", "depth", "--extend", "--out", "nothing")
    assert (code, "no finished step 2" in err) == (2, True)


def test_an_encoder_alone_is_evaluated(mine: Path, tiny_folder: Path, cmcd: Cmcd) -> None:
    code, out, err = cmcd("evaluate", mine / "target", "--data", tiny_folder, *THREE, "--out", "c")
    assert code == 0, err
    assert {name for name, _ in scores(Path("c"))} == {"distilled", "untrained", "scratch"}
    assert scores(Path("c"))["distilled", "2"] == scores(mine)["distilled", "2"]
    assert "depth: recognition" in out


def test_steps_that_lack_their_encoder(cmcd: Cmcd, tiny_folder: Path) -> None:
    code, _, err = cmcd("distill", "--target", "depth", "--data", tiny_folder)
    assert (code, "step 2 needs a source encoder" in err) == (2, True)
    code, _, err = cmcd("evaluate", "--target", "depth", "--data", tiny_folder)
    assert (code, "step 3 needs a target encoder" in err) == (2, True)
    code, _, err = cmcd("evaluate", tiny_folder)
    assert (code, "neither a run's folder" in err) == (2, True)


def test_labels_elsewhere_with_other_classes(mine: Path, tiny_folder: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    other = Path(shutil.copytree(tiny_folder, tmp_path / "other"))
    table = (other / "metadata.csv").read_text().replace("ring", "hoop").replace("dark", "dim")
    (other / "metadata.csv").write_text(table)
    code, out, err = cmcd("evaluate", mine, "--data", other, "--baseline", "none")
    assert code == 0, err
    found = result(mine)
    assert found["data_of"] == {
        "pretrain": f"folder:{tiny_folder}", "distill": f"folder:{tiny_folder}", "evaluate": f"folder:{other}",
    }  # fmt: skip
    assert f"step 3 used folder:{other}" in out
    assert {entry["data"] for entry in found["evaluations"]} == {f"folder:{tiny_folder}", f"folder:{other}"}
    new = next(
        folder for folder in sorted((mine / "evaluations").iterdir()) if "hoop" in (folder / "classes.json").read_text()
    )
    assert json.loads((new / "classes.json").read_text()) == ["bright", "dim", "hoop"]


def test_step_one_from_other_data_brings_further_candidates(tiny_folder: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(tiny_folder, photos)
    shutil.rmtree(photos / "depth")
    (photos / "dataset.toml").unlink()
    rows = [line.split(",") for line in (photos / "metadata.csv").read_text().splitlines()]
    (photos / "metadata.csv").write_text("".join(",".join(row[:4]) + "\n" for row in rows if row[3]))
    words = ["--target", "depth", "--data", tiny_folder, "-o", f"pretrain.data={photos}", "--objective", "cmc"]
    code, out, err = cmcd(
        "run", *words, "-o", "objective.cmc.queue=bank", *ONE[:-1], *TWO, "1", *THREE, "--baseline", "none",
        "--out", "d",
    )  # fmt: skip
    assert code == 0, err
    assert f"47 source samples of folder:{photos} join step 2's candidates" in err
    assert result(Path("d"))["pretrain"]["samples"] == 47
    assert f"step 1 used folder:{photos}" in out


def test_no_step_falls_back_on_the_demo_unasked(tiny_folder: Path, cmcd: Cmcd) -> None:
    code, _, err = cmcd("run", "--target", "depth", "-o", f"distill.data={tiny_folder}")
    assert (code, "pretrain.data is missing" in err, "--data" in err) == (2, True, True)


def test_several_teachers_stand_side_by_side(mine: Path, tiny_folder: Path, cmcd: Cmcd) -> None:
    teachers = ["--teacher", mine / "source", "--teacher", mine / "source"]
    words = ["--target", "depth", "--data", tiny_folder, *teachers, *TWO, "1", *THREE, "--baseline", "none"]
    code, _, err = cmcd("run", *words, "-o", "run.size=24", "--out", "e")
    assert code == 0, err
    both, one = load_encoder("e/source"), load_encoder(mine / "source")
    assert both.dim == 2 * one.dim
    x = torch.rand(5, 3, 24, 24)
    joint, single = both(x).pooled, one(x).pooled
    assert torch.equal(joint[:, : one.dim], joint[:, one.dim :])
    mean, std = both.get_buffer("mean")[: one.dim], both.get_buffer("std")[: one.dim]
    assert torch.allclose(joint[:, : one.dim] * std + mean, single, atol=1e-5)
    assert "side by side" in (Path("e/source/config.json")).read_text()
    code, _, err = cmcd("evaluate", "e", "--labels", "1", "--baseline", "none")  # the source is loaded again
    assert code == 0, err


def without_labels(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    rows = [line.split(",") for line in (to / "metadata.csv").read_text().splitlines()]
    (to / "metadata.csv").write_text("".join(",".join([*row[:2], *row[3:]]) + "\n" for row in rows))
    return to


def test_a_task_that_the_data_do_not_serve_is_refused_before_training(
    tiny_folder: Path, tmp_path: Path, cmcd: Cmcd
) -> None:
    bare = without_labels(tiny_folder, tmp_path / "bare")
    words = ["run", "--target", "depth", "--data", bare, *ONE[:-1], *TWO, "1", "--out", "f"]
    code, _, err = cmcd(*words, "--task", "recognition")
    assert (code, "--task recognition: no sample of the train split has a 'label'" in err) == (2, True)
    assert "pretrain source" not in err
    code, out, err = cmcd(*words)  # the refused command has left nothing in the way
    assert code == 0, err
    assert "step 3 skipped for recognition" in err
    assert "--data LABELLED_FOLDER" in out
    code, _, err = cmcd("evaluate", "f", "--data", tiny_folder, *THREE)
    assert code == 0, err
    assert ("distilled", "2") in scores(Path("f"))


def test_files_that_were_left_out_are_listed_in_the_result(tiny_folder: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    broken = Path(shutil.copytree(tiny_folder, tmp_path / "broken"))
    for name in ("train000", "train001"):
        (broken / "depth" / f"{name}.png").write_bytes(b"no picture")
    words = ["run", "--target", "depth", "--data", broken, *ONE[:-1], *TWO, "1", *THREE, "--baseline", "none", "--out"]
    code, _, err = cmcd(*words, "g")
    assert (code, "train000.png" in err) == (2, True)
    code, _, err = cmcd(*words, "g", "-o", "data.on_error=skip")
    assert code == 0, err
    notes = "\n".join(result(Path("g"))["notes"])
    assert "train000.png" in notes
    assert "train001.png" in notes
    assert result(Path("g"))["distill"]["pairs"] == 44
