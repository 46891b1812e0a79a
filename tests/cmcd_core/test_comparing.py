"""``cmcd compare``: cells, statistics, going on after a kill, tuning."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cmcd_core import ConfigError, RunConfig, run
from cmcd_core.cells import Spread
from cmcd_core.cli import main
from cmcd_core.cli.compare import comparison_table
from cmcd_core.comparing import Comparison, Variant, variants
from cmcd_core.summary import interval, summarise

BASE: dict[str, Any] = {
    "target": {"name": "depth"},
    "pretrain": {"epochs": 1, "batch_size": 16},
    "distill": {"epochs": 1, "batch_size": 16, "views": 2},
    "evaluate": {"labels": ["1", "2"], "label_draws": 2, "train_steps": 2, "train_epochs": 1, "scratch_lrs": [0.01]},
    "run": {"device": "cpu", "size": 24, "seed": 3},
}


@pytest.fixture(scope="module", autouse=True)
def few_bootstraps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 20)
        yield


def comparison(folder: Path, out: Path, objectives: Any = ("cmd", "cmc"), **options: Any) -> Comparison:
    base = {**BASE, "data": {"root": str(folder)}, "objective": {"cmc": {"temperature": 0.1}}}
    wanted = variants(objectives, options.pop("grid", ()))
    return Comparison(base, wanted, options.pop("reference", wanted[0].name), options.pop("seeds", 2), out, **options)


@pytest.fixture(scope="module")
def done(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("compare") / "c"
    return out, comparison(tiny_folder, out).go(resume=False)


def means(values: dict[str, Any]) -> dict[tuple[str, str], list[float]]:
    return {(row["encoder"], row["labels"]): row["per_seed"] for row in values["rows"]}


def test_its_rows_are_the_runs(done: tuple[Path, dict[str, Any]], tiny_folder: Path, tmp_path: Path) -> None:
    """A cell finds what a single run of that objective and seed finds; options reach the objective they belong to."""
    _, values = done
    single = BASE | {"data": str(tiny_folder), "objective": {"expression": "cmc", "cmc": {"temperature": 0.1}}}
    result = run(RunConfig.from_mapping(single | {"run": {**BASE["run"], "seed": 4, "out": str(tmp_path / "r")}}))
    for entry in result.evaluations:
        name = "cmc" if entry["encoder"] == "distilled" else entry["encoder"]
        assert means(values)[name, entry["labels"]][1] == entry["metrics"]["top1"]
    assert {name for name, _ in means(values)} == {"cmd", "cmc", "scratch", "untrained", "source"}


def test_differences_are_paired_and_to_the_reference(done: tuple[Path, dict[str, Any]]) -> None:
    _, values = done
    rows = {(row["encoder"], row["labels"]): row for row in values["rows"]}
    for (name, labels), row in rows.items():
        assert row["mean"] == pytest.approx(np.mean(row["per_seed"]))
        assert row["interval"][0] <= row["interval"][1]
        if name in ("cmd", "source"):
            assert "difference" not in row
        else:
            assert row["difference"]["value"] == pytest.approx(row["mean"] - rows["cmd", labels]["mean"])
            assert row["difference"]["over"] == "cmd"


def test_what_can_be_shared_is_made_once(done: tuple[Path, dict[str, Any]]) -> None:
    out, _ = done
    assert len(list(out.glob("sources/*/source/model.safetensors"))) == 2
    sources = [out / "cells" / f"{name}-s0" / "source" / "model.safetensors" for name in ("cmd", "cmc")]
    assert sources[0].read_bytes() == sources[1].read_bytes()
    logs = [(out / "cells" / f"{name}-s0" / "metrics.jsonl").read_text() for name in ("cmd", "cmc")]
    assert not any('"pretrain"' in log for log in logs)
    scratch = [
        file.parent / "head.safetensors"
        for file in sorted(out.glob("cells/*-s0/evaluations/*/evaluation.json"))
        if json.loads(file.read_text())["encoder"] == "scratch"
    ]
    assert len(scratch) == 4  # two budgets in two cells, trained in one of them
    assert len({file.read_bytes() for file in scratch}) == 2


def test_going_on_runs_nothing_again(done: tuple[Path, dict[str, Any]], tiny_folder: Path) -> None:
    out, values = done
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")}
    assert means(comparison(tiny_folder, out).go(resume=True)) == means(values)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")} == before
    with pytest.raises(ConfigError, match="a comparison is there already"):
        comparison(tiny_folder, out).go(resume=False)
    with pytest.raises(ConfigError, match="holds another comparison"):
        comparison(tiny_folder, out, trials=3).go(resume=True)


def test_objectives_and_seeds_may_join(tiny_folder: Path, tmp_path: Path) -> None:
    """A comparison grows under --resume; what was there stays as it was, and stays known."""
    first = comparison(tiny_folder, tmp_path / "c", ("cmd",), seeds=1).go(resume=False)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "c").rglob("*.safetensors")}
    grown = comparison(tiny_folder, tmp_path / "c", ("cmd", "l2"), seeds=2).go(resume=True)
    assert means(grown)["cmd", "1"][0] == means(first)["cmd", "1"][0]
    assert len(means(grown)["l2", "1"]) == 2
    assert {file: file.stat().st_mtime_ns for file in before} == before
    other = comparison(tiny_folder, tmp_path / "c", ("l2",), seeds=1, reference="l2")
    other.variants, other.reference = [Variant("l2", {"objective": {"expression": "hint"}})], "cmd"
    with pytest.raises(ConfigError, match="holds another comparison"):
        other.go(resume=True)


def test_a_cell_that_fails_does_not_take_the_others_along(tiny_folder: Path, tmp_path: Path) -> None:
    asked = comparison(tiny_folder, tmp_path / "c", seeds=1)
    asked.base = {**asked.base, "evaluate": {**BASE["evaluate"], "baselines": ["scratch", "ssl-target"]}}
    asked.variants = [*asked.variants, Variant("hot", {"objective": {"expression": "cmc"}, "distill": {"lr": 1e30}})]
    values = asked.go(resume=False)
    assert {row["encoder"] for row in values["rows"]} >= {"cmd", "cmc", "scratch", "ssl-target"}
    trained = [folder.parts[-3] for folder in (tmp_path / "c").glob("cells/*/baselines/ssl-target")]
    assert trained == ["cmd-s0"]  # once: the others take it over
    assert list(values["failed"]) == ["hot, seed 3"]
    assert "not finite" in values["failed"]["hot, seed 3"]


def test_seeds_that_two_have_not_in_common(done: tuple[Path, dict[str, Any]]) -> None:
    """Each failed where the other did not: no difference, and all else is told."""
    cells = done[0] / "cells"
    found = summarise([("cmd", 0, cells / "cmd-s0"), ("cmc", 1, cells / "cmc-s1")], "cmd")
    (row,) = (row for row in found["rows"] if (row["encoder"], row["labels"]) == ("cmc", "1"))
    assert row["seeds"] == [1]
    assert "difference" not in row


def test_the_source_on_the_target_and_on_its_own_are_two(tiny_folder: Path, tmp_path: Path) -> None:
    evaluate = {**BASE["evaluate"], "labels": ["1"], "baselines": ["source"]}
    single = BASE | {"data": str(tiny_folder), "evaluate": evaluate}
    result = run(RunConfig.from_mapping(single | {"run": {**BASE["run"], "out": str(tmp_path / "r")}}))
    scores = {e["modality"]: e["metrics"]["top1"] for e in result.evaluations if e["encoder"] == "source"}
    found = summarise([("cmd", 3, tmp_path / "r")], "untrained")["rows"]
    rows = {row["modality"]: row for row in found if row["encoder"] == "source"}
    assert {name: row["mean"] for name, row in rows.items()} == scores
    assert len(scores) == 2
    assert {name for name, row in rows.items() if "difference" in row} == {BASE["target"]["name"]}


def test_variants_of_a_grid() -> None:
    found = variants(["cmd", "cmc + 0.5*cmd"], ["distill.lr=0.01,0.02", "distill.views=1"])
    assert [variant.name for variant in found] == [
        "cmd, distill.lr=0.01, distill.views=1",
        "cmd, distill.lr=0.02, distill.views=1",
        "cmc + 0.5*cmd, distill.lr=0.01, distill.views=1",
        "cmc + 0.5*cmd, distill.lr=0.02, distill.views=1",
    ]
    assert found[1].values["distill"] == {"lr": 0.02, "views": 1}
    assert len({variant.slug for variant in found}) == 4
    for wrong in ([], ["cmd", "cmd"]):
        with pytest.raises(ConfigError, match="--objectives"):
            variants(wrong, [])
    with pytest.raises(ConfigError, match=r"--grid 'distill\.lr'"):
        variants(["cmd"], ["distill.lr"])


def test_intervals() -> None:
    rng = np.random.default_rng(0)
    within = {seed: 0.5 + 0.02 * rng.standard_normal(500) for seed in range(4)}
    low, high = interval(within)
    assert 0.5 - 0.035 < low < 0.5 - 0.01 < 0.5 + 0.01 < high < 0.5 + 0.035  # 0.02 · 1.96 / √4, about
    between = {seed: np.full(50, value) for seed, value in enumerate([0.3, 0.5, 0.7])}
    low, high = interval(between)
    assert low == pytest.approx(0.3, abs=0.07)
    assert high == pytest.approx(0.7, abs=0.07)
    assert interval({0: np.full(50, 0.4)}) == [pytest.approx(0.4)] * 2


@pytest.mark.slow
def test_tuning_searches_the_same_kinds_of_keys_and_keeps_its_trials(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    asked = comparison(tiny_folder, tmp_path / "c", ("cmc", "cmc + 0.5*nt_xent"), seeds=1, trials=2)
    values = asked.go(resume=False)
    tuned = values["tuned"]
    assert tuned["cmc"].keys() == {"val", "trials", "distill.lr", "objective.cmc.temperature"}
    assert "weight.nt_xent" in tuned["cmc + 0.5*nt_xent"]
    assert {found["trials"] for found in tuned.values()} == {2}
    for found, folder in ((tuned["cmc"], "cmc-s0"), (tuned["cmc + 0.5*nt_xent"], "cmc-0.5-nt-xent-s0")):
        config = RunConfig.from_mapping(
            __import__("tomllib").loads((tmp_path / "c" / "cells" / folder / "config.toml").read_text())
        )
        assert config.distill.lr == pytest.approx(found["distill.lr"])
    assert not list((tmp_path / "c" / "tuning").rglob("trial-*"))


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(done: tuple[Path, dict[str, Any]], tiny_folder: Path, tmp_path: Path) -> None:
    words = [
        sys.executable, "-c", "from cmcd_core.cli import main; main()", "compare", "--target", "depth",
        "--data", str(tiny_folder), "--objectives", "cmd,cmc", "--seeds", "2", "--labels", "1", "--labels", "2",
        "--label-draws", "2", "--epochs", "1", "--seed", "3", "--device", "cpu", "--out", str(tmp_path / "k"),
        "-o", "pretrain.batch_size=16", "-o", "distill.batch_size=16", "-o", "distill.views=2", "-o", "run.size=24",
        "-o", "evaluate.train_steps=2", "-o", "evaluate.train_epochs=1", "-o", "evaluate.scratch_lrs=[0.01]",
        "-o", "objective.cmc.temperature=0.1",
    ]  # fmt: skip
    extra: list[str] = []
    for seconds in (4, 6, 7, 9):
        process = subprocess.Popen([*words, *extra], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        extra = ["--resume"] if (tmp_path / "k" / "compare.toml").exists() else []
    last = subprocess.run([*words, *extra], capture_output=True, text=True, timeout=300, check=False)
    assert last.returncode == 0, last.stderr
    values = json.loads((tmp_path / "k" / "compare.json").read_text())
    assert means(values) == means(done[1])
    rows = list(csv.DictReader((tmp_path / "k" / "compare.csv").open()))
    assert len(rows) == len(values["rows"])
    with Image.open(tmp_path / "k" / "compare.png") as picture:
        assert min(picture.size) > 300
    assert "differences are paired, to cmd" in last.stdout


def weights_and_times(out: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")}


@pytest.mark.slow
def test_parts_of_an_array_are_summarised_together(
    done: tuple[Path, dict[str, Any]], tiny_folder: Path, tmp_path: Path
) -> None:
    """Three tasks, one after the other; the one that summarises finds all done."""
    out = tmp_path / "c"
    titles = [comparison(tiny_folder, out).go_part(part, 3)["cells"] for part in (1, 2, 3)]
    assert titles == [["cmd, seed 3"], ["cmc, seed 3"], ["cmd, seed 4", "cmc, seed 4"]]
    before = weights_and_times(out)
    assert len(list(out.glob("sources/*/source/model.safetensors"))) == 2
    assert means(comparison(tiny_folder, out).go(resume=True)) == means(done[1])
    assert weights_and_times(out) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cell", "3/2", "--out", "c"], "--cell 3/2: expected I/N"),
        (["--cell", "two"], "--cell two: expected I/N"),
        (["--cell", "1/2"], "where do all parts write to"),
        (["-o", "run.devices=2"], "run.devices: each run of a comparison has one process"),
    ],
)
def test_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["compare", "--target", "depth", "--objectives", "cmd", *words])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_lists_what_would_be_compared(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--data", str(tiny_folder), "--objectives", "cmd,l2", "--grid", "distill.lr=0.01,0.1", "--dry-run"]
    with pytest.raises(SystemExit) as caught:
        main(["compare", "--target", "depth", *words, "--quiet"])
    assert not caught.value.code
    listed = capsys.readouterr().out.splitlines()
    assert listed == [f"{name}, distill.lr={lr}" for name in ("cmd", "l2") for lr in ("0.01", "0.1")]
    assert not list(tmp_path.iterdir())


def test_names_in_brackets_are_shown() -> None:
    row = {"encoder": "l2", "task": "kind[v2]", "protocol": "linear", "labels": "5", "n_train": 15, "metric": "top1",
           "mean": 0.5, "interval": [0.4, 0.6], "modality": "depth"}  # fmt: skip
    table = comparison_table({"rows": [row], "seeds": 1, "reference": "l2"})
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    assert "kind[v2] top1 on test" in console.file.getvalue()


def test_data_that_serve_no_task_are_refused_before_training(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, out = tmp_path / "data", tmp_path / "c"
    shutil.copytree(tiny_folder, data)
    rows = list(csv.reader((data / "metadata.csv").read_text().splitlines()))
    label = rows[0].index("label")
    with (data / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(row[:label] + row[label + 1 :] for row in rows)
    with pytest.raises(SystemExit) as caught:
        main(["compare", "--target", "depth", "--data", str(data), "--objectives", "cmd,l2", "--out", str(out)])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "the data serve no task: nothing to compare" in error
    assert "no sample of the train split has a 'label'" in error
    assert not out.exists()


def kill_a_worker(out: Path, killed: list[int]) -> None:
    """Once a run is under way, kill one of the processes that this one has started and that torch has come into."""
    while not list(out.glob("cells/*/metrics.jsonl")):
        time.sleep(0.01)
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            about = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if int(about["PPid"]) == os.getpid() and int(about.get("VmRSS", "0 kB").split()[0]) > 200_000:
                killed.append(int(status.parent.name))
    os.kill(killed[-1], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_side_by_side_it_finds_the_same_though_a_worker_is_killed(
    backend: Any, done: tuple[Path, dict[str, Any]], tiny_folder: Path, tmp_path: Path
) -> None:
    if backend == "dask":
        pytest.importorskip("distributed")
    killed: list[int] = []
    killer = Thread(target=kill_a_worker, args=(tmp_path / "c", killed), daemon=True)
    if sys.platform == "linux":
        killer.start()
    values = comparison(tiny_folder, tmp_path / "c", spread=Spread(backend, 2)).go(resume=False)
    assert killed or sys.platform != "linux"
    assert values["failed"] == {}
    for key, found in means(values).items():
        assert found == pytest.approx(means(done[1])[key], abs=0.1)  # threads may change the order of sums


@pytest.mark.slow
def test_parts_wait_for_what_they_share(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    base = ["--target", "depth", "--data", str(tiny_folder), "--objectives", "cmd,cmc", "--seeds", "1", "--epochs", "1"]
    base += ["--labels", "1", "--label-draws", "2", "--baseline", "none", "--device", "cpu", "--out", str(out)]
    base += ["-o", "run.size=24", "-o", "pretrain.batch_size=16", "-o", "distill.batch_size=16"]
    command = [sys.executable, "-m", "cmcd_core.cli", "compare", *base]
    parts = [subprocess.Popen([*command, "--cell", f"{part}/2", "--json"], stdout=subprocess.PIPE) for part in (1, 2)]
    said = [json.loads(part.communicate(timeout=300)[0]) for part in parts]
    assert [part.returncode for part in parts] == [0, 0]
    assert [part["cells"] for part in said] == [["cmd, seed 0"], ["cmc, seed 0"]]
    log = (out / "sources" / "s0" / "metrics.jsonl").read_text().splitlines()
    assert len(log) == len(set(log)) == 1
