"""Runs that are killed or stopped, and go on: their weights end bit for bit where they would have."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cmcd_core.cli import main
from cmcd_core.run_folder import RunFolder
from cmcd_core.stages.watch import Watch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

Cmcd = Callable[..., tuple[int, str]]
WORDS = [
    "run", "--target", "depth", "--device", "cpu", "--epochs", "4", "--labels", "2", "--label-draws", "2",
    "--baseline", "none", "-o", "run.size=24", "-o", "pretrain.epochs=2", "-o", "pretrain.batch_size=16",
    "-o", "distill.batch_size=16", "-o", "distill.views=2",
    "-o", "objective.cmd.anchors=target", "-o", "objective.cmd.queue=32",  # a queue, and a momentum encoder
]  # fmt: skip
ALWAYS_THE_SAME = ("evaluations", "comparisons", "pretrain", "distill")


@pytest.fixture
def cmcd(capsys: pytest.CaptureFixture[str]) -> Cmcd:
    """``code, err = cmcd(*words)``."""

    def call(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, words)])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "bug in cmcd" not in said
        return int(caught.value.code or 0), said

    return call


@pytest.fixture(scope="module", autouse=True)
def few_bootstraps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 20)
        yield


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.raises(SystemExit) as caught:
        main([*WORDS, "--data", str(tiny_folder), "--out", str(out), "--quiet"])
    assert not caught.value.code
    return out


def weights(folder: Path) -> dict[str, bytes]:
    """Every tensor that a finished run keeps."""
    files = [file for file in sorted(folder.rglob("*.safetensors")) if file.parent.name != "checkpoints"]
    return {
        f"{file.relative_to(folder)}:{name}": tensor.numpy().tobytes()
        for file in files
        for name, tensor in load_file(file).items()
    }


def logged(folder: Path) -> list[Any]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["stage"], line["epoch"], line["loss"]) for line in lines]


def require_equal(folder: Path, whole: Path, *, scores: bool = True) -> None:
    """The loss is exact; diagnostics are means since they were last read, so after a stop of the rest of the epoch.

    ``scores=False``: the other process drew other bootstrap samples, or its data lie elsewhere.
    """
    one, other = weights(folder), weights(whole)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []  # names alone: a diff of bytes takes minutes
    assert logged(folder) == logged(whole)
    assert not list(folder.rglob("*.partial")), "what a killed process left half-written is swept"
    if scores:
        found, expected = (json.loads((path / "result.json").read_text()) for path in (folder, whole))
        assert {key: found[key] for key in ALWAYS_THE_SAME} == {key: expected[key] for key in ALWAYS_THE_SAME}


# --- SIGKILL

FORKS = multiprocessing.get_context("forkserver")


def started(*words: object) -> ForkServerProcess:
    """``cmcd`` in a process of its own; it need not import torch again, as its server has done that."""
    FORKS.set_forkserver_preload(["cmcd_core.steps"])
    process = FORKS.Process(target=main, args=([*map(str, words), "--quiet"],))
    process.start()
    return process


def killed(data: Path, out: Path, after: Callable[[], bool]) -> bool:
    """Start or resume a run and kill it once ``after()``; False: it was done before."""
    words = ["run", "--out", out, "--resume"] if (out / "config.toml").exists() else [*WORDS, "--data", data]
    process = started(*words, "--out", out)
    while process.is_alive() and not after():
        time.sleep(0.01)
    process.kill()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def lines(out: Path) -> int:
    file = out / "metrics.jsonl"
    return file.read_text().count("\n") if file.is_file() else 0


def test_a_run_killed_twice_ends_with_the_same_weights(whole: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed(tiny_folder, out, lambda: lines(out) >= 1)
    killed(tiny_folder, out, lambda: lines(out) >= 4)
    while killed(tiny_folder, out, lambda: False):
        pass
    require_equal(out, whole, scores=False)


@pytest.mark.slow
def test_twenty_kills_at_random_moments(
    whole: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding, both trainings, checkpoints and the evaluation are all struck; a run that got through begins anew."""
    draws = random.Random(int(os.environ.get("CMCD_KILL_SEED", "0")))
    kills, rounds = 0, 0
    while kills < 20:
        out, rounds = tmp_path / f"run{rounds}", rounds + 1
        for _ in range(7):
            until = time.monotonic() + draws.uniform(0.02, 3.0)
            if not killed(tiny_folder, out, lambda until=until: time.monotonic() > until):
                break
            kills += 1
        while killed(tiny_folder, out, lambda: False):
            pass
        require_equal(out, whole, scores=False)


@pytest.mark.slow
def test_two_processes_that_decode_the_same_data(whole: Path, tiny_folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_folder, tmp_path / "data"))  # not in the cache yet
    runs = [started(*WORDS, "--data", data, "--out", tmp_path / name) for name in ("one", "two")]
    for process in runs:
        process.join(120)
        assert process.exitcode == 0
    assert weights(tmp_path / "one") == weights(tmp_path / "two") == weights(whole)


# --- SIGINT and SIGTERM


@pytest.fixture
def at_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``at_batch(n, title, do)``: call ``do()`` in the n-th batch of a training whose title begins so."""

    def prepare(number: int, title: str, do: Callable[[], None]) -> None:
        seen = 0

        def see(self: Watch, loss: torch.Tensor, batch: int) -> None:
            nonlocal seen
            seen += self._title.startswith(title)
            if seen == number:
                seen += 1
                do()
            return original(self, loss, batch)

        original = Watch.see
        monkeypatch.setattr(Watch, "see", see)

    return prepare


@pytest.mark.parametrize(
    ("kind", "code", "title", "number"),
    [
        (signal.SIGTERM, 143, "2 distil", 4),  # the first batch of an epoch
        (signal.SIGINT, 130, "2 distil", 5),
        pytest.param(signal.SIGINT, 130, "2 distil", 6, marks=pytest.mark.slow),  # the last one
        pytest.param(signal.SIGTERM, 143, "1 pretrain", 2, marks=pytest.mark.slow),
    ],
)
def test_a_signal_within_an_epoch(
    kind: signal.Signals, code: int, title: str, number: int, whole: Path, tiny_folder: Path, tmp_path: Path,
    cmcd: Cmcd, at_batch: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "a run"
    at_batch(number, title, lambda: signal.raise_signal(kind))
    ended, said = cmcd(*WORDS, "--data", tiny_folder, "--out", out)
    assert ended == code
    assert f"go on with: cmcd run --out '{out}' --resume" in said
    newest = max((out / "checkpoints").glob(f"{title[2:]}*-0*.json"))
    assert json.loads(newest.read_text()).get("steps") == (number - 1) % 3 + 1, (
        "the step is done, and nothing of it is lost"
    )
    monkeypatch.undo()
    ended, said = cmcd("run", "--out", out, "--resume")
    assert ended == 0, said
    assert "going on after epoch" in said
    require_equal(out, whole)


def test_the_second_signal_does_not_wait(
    tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, at_batch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmcd_core.stages.waiting.ONE", 0.0)  # not the first one, heard twice

    def impatient() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_batch(2, "1 pretrain", impatient)
    code, _ = cmcd(*WORDS, "--data", tiny_folder, "--out", tmp_path / "run")
    assert code == 130
    assert not list((tmp_path / "run" / "checkpoints").glob("*.json"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_long_epochs_are_kept_now_and_then(
    whole: Path, tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, at_batch: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def crash() -> None:
        raise MemoryError

    monkeypatch.setattr("cmcd_core.stages.keeping.SECONDS", 0.0)
    at_batch(5, "2 distil", crash)
    with pytest.raises(AssertionError, match="bug in cmcd"):
        cmcd(*WORDS, "--data", tiny_folder, "--out", tmp_path / "run")
    monkeypatch.undo()
    code, said = cmcd("run", "--out", tmp_path / "run", "--resume")
    assert code == 0
    assert "going on after epoch 1 of 4 and 1 steps" in said
    require_equal(tmp_path / "run", whole)


# --- a loss that is not finite


def test_nan_names_the_samples_and_keeps_the_last_checkpoint(
    whole: Path, tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, original = tmp_path / "run", Watch.see

    def see(self: Watch, loss: torch.Tensor, number: int) -> None:
        struck = self._title.startswith("2 distil") and (self._epoch, number) == (2, 1)
        original(self, loss * float("nan") if struck else loss, number)

    monkeypatch.setattr(Watch, "see", see)
    code, said = cmcd(*WORDS, "--data", tiny_folder, "--out", out)
    assert code == 1
    assert "2 distil by cmd: the loss is not finite in epoch 3, batch 2; its samples: train0" in said
    named = said.split("its samples: ")[1].splitlines()[0].split(", ")
    assert len(set(named)) == 15  # 46 pairs in batches of 16, 15 and 15
    assert sorted(path.name for path in (out / "checkpoints").glob("distill-*.json")) == [
        "distill-00001.json", "distill-00002.json",
    ]  # fmt: skip
    monkeypatch.undo()
    assert cmcd("run", "--out", out, "--resume")[0] == 0
    require_equal(out, whole)


# --- one process, the same data


def test_a_second_process_in_the_folder(tiny_folder: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    with RunFolder(tmp_path / "run").locked():
        code, said = cmcd(*WORDS, "--data", tiny_folder, "--out", tmp_path / "run")
    assert code == 2
    assert "another process is running in this folder" in said
    assert not (tmp_path / "run" / "config.toml").exists()


def test_data_that_changed_since(tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, at_batch: Callable[..., None],
                                 monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:  # fmt: skip
    data, out = Path(shutil.copytree(tiny_folder, tmp_path / "data")), tmp_path / "run"
    at_batch(8, "2 distil", lambda: signal.raise_signal(signal.SIGTERM))
    assert cmcd(*WORDS, "--data", data, "--out", out)[0] == 143
    monkeypatch.undo()
    before = {file: file.read_bytes() for file in (out / "checkpoints").iterdir()}
    os.utime(data / "depth" / "train003.png")  # copied anew, say
    code, said = cmcd("run", "--out", out, "--resume")
    assert code == 2
    assert "its step 2 was interrupted in or after epoch 3, and its data, options, seed or plugins are others" in said
    assert {file: file.read_bytes() for file in (out / "checkpoints").iterdir()} == before
    shutil.copystat(tiny_folder / "depth" / "train003.png", data / "depth" / "train003.png")
    assert cmcd("run", "--out", out, "--resume")[0] == 0
    require_equal(out, whole, scores=False)


@pytest.mark.slow
def test_a_clock_that_jumps(
    whole: Path, tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, at_batch: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The newest checkpoint is the one of most epochs, whatever the files' times say."""
    now = time.time()
    at_batch(8, "2 distil", lambda: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(time, "time", lambda: now - 10 * 365 * 86400)
    assert cmcd(*WORDS, "--data", tiny_folder, "--out", tmp_path / "run")[0] == 143
    for age, file in enumerate(sorted((tmp_path / "run" / "checkpoints").iterdir())):
        os.utime(file, (now - age * 86400, now - age * 86400))
    monkeypatch.undo()
    monkeypatch.setattr(time, "time", lambda: now + 10 * 365 * 86400)
    code, said = cmcd("run", "--out", tmp_path / "run", "--resume")
    assert code == 0
    assert "going on after epoch 2 of 4 and 2 steps" in said
    require_equal(tmp_path / "run", whole)


@pytest.mark.parametrize("part", ["safetensors", pytest.param("json", marks=pytest.mark.slow)])
def test_a_truncated_checkpoint_is_told_and_the_one_before_it_serves(
    part: str, whole: Path, tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, at_batch: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    at_batch(8, "2 distil", lambda: signal.raise_signal(signal.SIGTERM))
    assert cmcd(*WORDS, "--data", tiny_folder, "--out", out)[0] == 143
    monkeypatch.undo()
    newest = max((out / "checkpoints").glob(f"distill-*.{part}"))
    newest.write_bytes(newest.read_bytes()[:-7])
    code, said = cmcd("run", "--out", out, "--resume")
    assert code == 0
    assert f"{newest.with_suffix('.safetensors')} cannot be read: passed over" in said
    assert "going on after epoch 2 of 4\n" in said
    require_equal(out, whole)
