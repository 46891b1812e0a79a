"""Runs on two processes: the same as on one, stopped and gone on, and ended by what fails on one of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).parent))  # pytest's importlib mode leaves test folders out
from launching import by_srun, cmcd, ended, run_cmcd, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

PLAIN = "{depths=[1, 1, 1, 1], dims=[8, 16, 24, 32]}"
"""A ConvNeXt: LayerNorm, no BatchNorm."""
STEP_ONE = [
    "pretrain", "--device", "cpu", "--precision", "32-true", "--epochs", "2", "--batch-size", "15",
    "-o", "run.size=32", "-o", "pretrain.crop_size=32",
    "-o", "pretrain.architecture=convnext_atto", "-o", f"pretrain.model_args={PLAIN}",
]  # fmt: skip
STEP_TWO = [
    "distill", "--target", "depth", "--device", "cpu", "--precision", "32-true", "--epochs", "3", "--batch-size", "15",
    "-o", "run.size=32", "-o", "distill.views=2", "--student", "convnext_atto", "-o", f"distill.model_args={PLAIN}",
    "-o", "objective.cmd.anchors=target", "-o", "objective.cmd.queue=32",  # a queue, and a momentum encoder
]  # fmt: skip
CLOSE = 1e-3


@pytest.fixture(scope="module")
def source(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Step 1, on one process."""
    out = tmp_path_factory.mktemp("one") / "source"
    run_cmcd(1, *STEP_ONE, "--data", tiny_folder, "--out", out)
    return out


@pytest.fixture(scope="module")
def two(source: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Step 2, on two processes."""
    out = tmp_path_factory.mktemp("two") / "run"
    said = run_cmcd(2, *STEP_TWO, "--teacher", source / "source", "--data", tiny_folder, "--out", out)
    assert said.count("2 distil by cmd") == 1, said
    return out


def logged(folder: Path) -> list[tuple[str, int, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["stage"], line["epoch"], line["loss"]) for line in lines]


def require_close(one: Path, other: Path, within: float, *, weights: bool = True) -> None:
    """``weights=False``: some have no gradient but noise, which AdamW brings to a length (a bias before BatchNorm)."""
    first, second = logged(one), logged(other)
    assert [line[:2] for line in first] == [line[:2] for line in second]
    assert [line[2] for line in first] == pytest.approx([line[2] for line in second], abs=within)
    for file in sorted(one.glob("*/*.safetensors")):
        if file.parent.name == "checkpoints" or not weights:
            continue
        mine, theirs = load_file(file), load_file(other / file.relative_to(one))
        for name, tensor in mine.items():
            torch.testing.assert_close(theirs[name], tensor, rtol=within, atol=within, msg=f"{file}: {name}")


def test_step_one_is_the_same_on_two_processes(source: Path, tiny_folder: Path, tmp_path: Path) -> None:
    run_cmcd(2, *STEP_ONE, "--data", tiny_folder, "--out", tmp_path / "two")
    require_close(source, tmp_path / "two", CLOSE, weights=False)


def test_step_two_is_the_same_on_two_processes(source: Path, two: Path, tiny_folder: Path, tmp_path: Path) -> None:
    run_cmcd(1, *STEP_TWO, "--teacher", source / "source", "--data", tiny_folder, "--out", tmp_path / "one")
    require_close(tmp_path / "one", two, CLOSE)
    values = [json.loads((out / "result.json").read_text()) for out in (tmp_path / "one", two)]
    assert [value["environment"]["processes"] for value in values] == [1, 2]


def lines(out: Path) -> int:
    file = out / "metrics.jsonl"
    return file.read_text().count("\n") if file.is_file() else 0


def wait_for(condition: Callable[[], Any], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_signal_to_one_stops_both_and_they_go_on(source: Path, two: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """After the same step; the end is bit for bit where it would have been."""
    out, errors = tmp_path / "run", tmp_path / "errors"
    words = [*STEP_TWO, "--teacher", str(source / "source"), "--data", str(tiny_folder), "--out", str(out)]
    processes = start(2, cmcd, str(errors), *words)
    wait_for(lambda: lines(out) >= 1)
    os.kill(processes[1].pid or 0, signal.SIGTERM)
    assert ended(processes) == [143, 143]
    assert "go on with: cmcd distill" in errors.read_text()
    assert errors.read_text().count("interrupted") == 1
    assert lines(out) < 3
    run_cmcd(2, "distill", out, "--resume")
    require_close(out, two, 0)


def test_one_that_is_killed_ends_the_other(source: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    words = [*STEP_TWO, "--epochs", "500", "--teacher", str(source / "source"), "--data", str(tiny_folder)]
    processes = start(2, cmcd, str(errors), *words, "--out", str(out))
    wait_for(lambda: lines(out) >= 1)
    processes[1].kill()
    assert ended(processes, 60) == [1, -signal.SIGKILL]
    assert "Error: another process of this run is gone" in errors.read_text()
    assert "Traceback" not in errors.read_text()
    run_cmcd(1, "distill", out, "--resume", "--epochs", "500", "--dry-run")


@pytest.mark.slow
def test_what_fails_on_all_is_said_once(source: Path, tiny_folder: Path, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    words = [*STEP_TWO, "--batch-size", "3", "--teacher", str(source / "source"), "--data", str(tiny_folder)]
    assert ended(start(2, cmcd, str(errors), *words, "--out", str(tmp_path / "r")), 120) == [2, 2]
    assert errors.read_text().count("Error:") == 1
    assert "--batch-size is over all processes" in errors.read_text()


@pytest.mark.slow
def test_fewer_shards_than_processes(tiny_folder: Path, tmp_path: Path) -> None:
    """Shards are read by an index of offsets, sample by sample: three processes share the one there is."""
    run_cmcd(1, "data", "pack", tiny_folder, tmp_path / "packed")
    assert len(list((tmp_path / "packed").rglob("*train*.tar"))) == 1
    run_cmcd(3, *STEP_ONE, "--data", tmp_path / "packed", "--out", tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["pretrain"]["samples"] == 47


@pytest.mark.slow
def test_srun_starts_them_too(source: Path, two: Path, tiny_folder: Path, tmp_path: Path) -> None:
    words = [*STEP_TWO, "--teacher", source / "source", "--data", tiny_folder, "--out", tmp_path / "run"]
    run_cmcd(2, *words, "--devices", "2", by=by_srun)
    require_close(tmp_path / "run", two, 0)


@pytest.mark.slow
def test_three_evaluate_and_compare_with_an_objective(tiny_folder: Path, tmp_path: Path) -> None:
    """Step 3 on the first process, a baseline objective and ssl-target on all; BatchNorm's networks."""
    words = [
        "run", "--target", "depth", "--device", "cpu", "--epochs", "1", "--batch-size", "16", "--labels", "2",
        "--label-draws", "2", "--baseline", "scratch", "--baseline", "l2", "--baseline", "ssl-target",
        "-o", "run.size=24", "-o", "distill.views=2", "-o", "evaluate.train_steps=2", "-o", "evaluate.train_epochs=1",
        "-o", "evaluate.scratch_lrs=[0.01]", "-o", "pretrain.batch_size=16",
    ]  # fmt: skip
    run_cmcd(3, *words, "--data", tiny_folder, "--out", tmp_path / "run")
    values = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {entry["encoder"] for entry in values["evaluations"]} >= {"distilled", "scratch", "l2", "ssl-target"}


@pytest.mark.slow
def test_cmcd_starts_the_others(source: Path, two: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """By Fabric's launcher, from the command line."""
    words = [*STEP_TWO, "--teacher", source / "source", "--data", tiny_folder, "--out", tmp_path / "run", "--json"]
    command = [sys.executable, "-m", "cmcd_core.cli", *map(str, words), "--devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["environment"]["processes"] == 2
    assert done.stderr.count("2 distil by cmd") == 1
    assert "Warning" not in done.stderr
    require_close(tmp_path / "run", two, 0)


@pytest.mark.slow
def test_torchrun_starts_them(source: Path, two: Path, tiny_folder: Path, tmp_path: Path) -> None:
    words = [*STEP_TWO, "--teacher", source / "source", "--data", tiny_folder, "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "cmcd_core.cli"]
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    require_close(tmp_path / "run", two, 0)
    missed = subprocess.run(
        [*command, *map(str, words), "--devices", "3"], capture_output=True, text=True, timeout=300, check=False
    )
    assert missed.returncode != 0
    assert "--devices 3: torchrun started 2 processes on this machine" in missed.stderr
