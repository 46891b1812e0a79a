"""Disks that are full, folders that cannot be written, files that were cut short: one clear error, and nothing lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cmcd_core import CmcdError
from cmcd_core.cache import cached_entry
from cmcd_core.cli import main
from cmcd_core.data.arrays import new_array
from cmcd_core.files import sweep, write_tensors
from cmcd_core.run_folder import RunFolder, new_run_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")

Cmcd = Callable[..., tuple[int, str]]
WORDS = [
    "run", "--target", "depth", "--device", "cpu", "--epochs", "2", "--labels", "2", "--labels", "4",
    "--label-draws", "1", "--baseline", "none", "-o", "run.size=24", "-o", "pretrain.epochs=1",
    "-o", "pretrain.batch_size=32", "-o", "distill.batch_size=32", "-o", "distill.views=1",
]  # fmt: skip


@pytest.fixture
def cmcd(capsys: pytest.CaptureFixture[str]) -> Cmcd:
    """``code, err = cmcd(*words)``; one error, in words."""

    def call(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, words), "--quiet"])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "bug in cmcd" not in said
        assert said.count("Error:") == bool(caught.value.code)
        return int(caught.value.code or 0), said

    return call


@pytest.fixture(scope="module", autouse=True)
def few_bootstraps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 5)
        yield


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.raises(SystemExit) as caught:
        main([*WORDS, "--data", str(tiny_folder), "--out", str(out), "--quiet"])
    assert not caught.value.code
    return out


def require_equal(out: Path, whole: Path) -> None:
    for name in ("source/model", "target/model", "objective/objective"):
        one, other = (load_file(folder / f"{name}.safetensors") for folder in (out, whole))
        assert all(torch.equal(one[key], other[key]) for key in one)
    one, other = (json.loads((folder / "result.json").read_text())["evaluations"] for folder in (out, whole))
    assert one == other


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """``refusing(name, number)``: the system refuses files whose path ends so, with this errno."""

    def prepare(name: str, number: int) -> None:
        def replace(partial: Path, path: Path) -> None:
            if str(path).endswith(name):
                raise OSError(number, os.strerror(number))
            original(partial, path)

        original = os.replace
        monkeypatch.setattr("cmcd_core.files.os.replace", replace)

    return prepare


# --- a full disk


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "config.toml",
        "distill-00002.safetensors",
        "1/evaluation.json",
        "result.json",
        *(
            pytest.param(name, marks=SLOW)
            for name in (
                "pretrain-00001.safetensors", "pretrain-00001.json", "source/model.safetensors", "pretrain.done.json",
                "target/config.json", "objective.safetensors", "distill.done.json", "0/head.safetensors",
                "0/predictions.npz", "label-efficiency.csv",
            )
        ),
    ],
)  # fmt: skip
def test_each_file_that_finds_the_disk_full(
    name: str, whole: Path, tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, refusing: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    refusing(name, errno.ENOSPC)
    code, said = cmcd(*WORDS, "--data", tiny_folder, "--out", out)
    assert code == 1
    assert name.partition(".")[0] in said
    assert "No space left on device" in said
    assert "free some room, then go on with --resume" in said
    monkeypatch.undo()
    again = ["run", "--resume"] if name != "config.toml" else [*WORDS, "--data", tiny_folder]
    code, said = cmcd(*again, "--out", out)
    assert code == 0, said
    require_equal(out, whole)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_turns_read_only(
    number: int, tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, refusing: Callable[[str, int], None]
) -> None:
    refusing("pretrain-00001.safetensors", number)
    code, said = cmcd(*WORDS, "--data", tiny_folder, "--out", tmp_path / "run")
    assert code == 1
    assert os.strerror(number) in said
    assert "go on with --resume once it can be written again" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_on_a_full_disk(tiny_folder: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").symlink_to("/dev/full")
    code, said = cmcd(*WORDS, "--data", tiny_folder, "--out", tmp_path / "run")
    assert code == 1
    assert "metrics.jsonl: No space left on device" in said


@pytest.fixture
def limited() -> Iterator[Callable[[int], None]]:
    """``limited(bytes)``: no file may grow beyond; what the system then says is as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [20_000, pytest.param(200_000, marks=SLOW)])
def test_writing_beyond_what_there_is(
    size: int, whole: Path, tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, limited: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Really: 20 kB do not hold the decoded views, 200 kB no checkpoint."""
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    limited(size)
    code, said = cmcd(*WORDS, "--data", tiny_folder, "--out", out)
    limited(resource.RLIM_INFINITY)
    assert code == 1
    assert "File too large" in said
    assert ("decoded" if size < 100_000 else "pretrain-00001.safetensors: cannot write a checkpoint") in said
    assert "room" in said
    assert not list(tmp_path.rglob(".partial*"))
    code, said = cmcd("run", "--out", out, "--resume")
    assert code == 0, said
    require_equal(out, whole)


def test_a_mapped_array_takes_its_room_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with holes would be mapped happily, and a full disk found by SIGBUS."""
    array = new_array(tmp_path / "a.npy", (1000, 1000), np.float32)
    array[:] = 1
    assert np.load(tmp_path / "a.npy").sum() == 1_000_000
    if hasattr(os, "posix_fallocate"):
        assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 4_000_000

        def full(*arguments: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match=r"No space left on device: .*b\.npy"):
            new_array(tmp_path / "b.npy", (10,), np.float32)
    with pytest.raises(OSError, match="No space left"):
        new_array(tmp_path / "c.npy", (10**15,), np.float32)


def test_what_safetensors_says_of_the_disk_is_an_os_error(tmp_path: Path, limited: Callable[[int], None]) -> None:
    write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(3)})
    limited(1000)
    with pytest.raises(OSError, match="File too large") as caught:
        write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(1000)})
    limited(resource.RLIM_INFINITY)
    assert caught.value.filename == str(tmp_path / "a.safetensors")
    assert torch.equal(load_file(tmp_path / "a.safetensors")["a"], torch.ones(3))


# --- folders that cannot be written


@pytest.mark.parametrize("where", ["a file", "below a file", "read-only", "below /proc"])
def test_an_out_that_cannot_be_written(where: str, tiny_folder: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "shut").mkdir(mode=0o500)
    if where == "read-only" and os.access(tmp_path / "shut", os.W_OK):
        pytest.skip("this user may write everywhere")
    if where == "below /proc" and not Path("/proc/self").exists():
        pytest.skip("no /proc")
    file, shut = tmp_path / "file", tmp_path / "shut" / "run"
    out = {"a file": file, "below a file": file / "run", "read-only": shut, "below /proc": Path("/proc/run")}[where]
    code, said = cmcd(*WORDS, "--data", tiny_folder, "--out", out)
    assert code == 2
    assert f"--out {out}: cannot write there: " in said
    assert (tmp_path / "file").read_text() == "mine"


def test_a_cache_that_cannot_be_written(
    tiny_folder: Path, tmp_path: Path, cmcd: Cmcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "file"))
    code, said = cmcd(*WORDS, "--data", tiny_folder, "--out", tmp_path / "run")
    assert code == 2
    assert "Set CMCD_CACHE to a folder that can be written." in said


def test_a_clock_that_goes_back_names_no_folder_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = new_run_folder("x")

    class Stuck:
        @staticmethod
        def now() -> object:
            from datetime import datetime

            return datetime.strptime(first.name[:15], "%Y%m%d-%H%M%S")

    monkeypatch.setattr("cmcd_core.run_folder.datetime", Stuck)
    assert new_run_folder("x").name == f"{first.name}-1"


# --- files that were damaged since


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.toml", "schema = ["), ("result.json", "{"), ("result.json", "[]"),
        ("checkpoints/distill.done.json", "{"), ("checkpoints/pretrain.done.json", "null"),
        ("evaluations/0/evaluation.json", '{"digest'), ("target/config.json", "{"), ("target/model.safetensors", "x"),
        ("source/model.safetensors", ""),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(name: str, content: str, whole: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    (out / name).write_text(content)
    if name != "result.json":
        (out / "result.json").unlink()
    code, said = cmcd("run", "--out", out, "--resume")
    assert code == 2
    assert name.partition("/")[0] in said


def test_a_cache_entry_that_was_cut_short_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path))
    made = []

    def write(partial: Path) -> None:
        made.append(1)
        (partial / "inner").mkdir()
        np.save(partial / "inner" / "a.npy", np.arange(1000))

    for _ in range(2):
        folder = cached_entry("decoded", "one", write)
    assert len(made) == 1
    with (folder / "inner" / "a.npy").open("r+b") as file:
        file.truncate(500)
    assert np.load(cached_entry("decoded", "one", write) / "inner" / "a.npy").sum() == 499_500
    assert len(made) == 2
    (folder / "inner" / "a.npy").unlink()
    cached_entry("decoded", "one", write)
    (folder / "complete").write_text("")  # as earlier versions left it
    cached_entry("decoded", "one", write)
    assert len(made) == 3


def test_what_a_killed_process_left_is_swept_but_not_another_run(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".distill-00001.safetensors.77.partial").touch()
    (tmp_path / "checkpoints" / "distill-00001.safetensors").touch()
    (tmp_path / "evaluations" / ".0.partial" / "deep").mkdir(parents=True)
    inner = tmp_path / "cells" / "a"
    inner.mkdir(parents=True)
    (inner / ".lock").touch()
    (inner / ".result.json.78.partial").touch()
    sweep(tmp_path)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".lock", ".result.json.78.partial", "distill-00001.safetensors"]
    assert list((tmp_path / "evaluations").iterdir()) == []


# --- checkpoints of more than one training


def test_stages_whose_names_begin_alike(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    one, other = folder.checkpoints("baseline-l2"), folder.checkpoints("baseline-l2-cmc")
    one.save(1, {"a": torch.ones(1)}, {"digest": "d"})
    other.save(7, {"a": torch.zeros(1)}, {"digest": "d"})
    folder.finish("baseline-l2-cmc", "d", {})
    found = one.latest("d")
    assert found is not None
    assert found[1]["epoch"] == 1
    one.save(2, {"a": torch.ones(1)}, {"digest": "d"})
    one.save(3, {"a": torch.ones(1)}, {"digest": "d"})
    assert (other.latest("d") or ({}, {}))[1]["epoch"] == 7


def test_what_a_training_that_was_given_up_left_does_not_crowd_out_the_new_one(tmp_path: Path) -> None:
    store = RunFolder(tmp_path).checkpoints("distill")
    for epoch in (8, 9):
        store.save(epoch, {"a": torch.ones(1)}, {"digest": "old"})
    assert store.others("old") is None
    assert store.others("new") == 9
    store.save(1, {"a": torch.zeros(1)}, {"digest": "new"})
    found = store.latest("new")
    assert found is not None
    assert found[1]["epoch"] == 1


def test_a_refusal_is_a_failed_run(tmp_path: Path) -> None:
    store = RunFolder(tmp_path / "file").checkpoints("distill")
    (tmp_path / "file").touch()
    with pytest.raises(CmcdError, match="cannot write a checkpoint") as caught:
        store.save(1, {"a": torch.ones(1)}, {"digest": "d"})
    assert caught.value.exit_code == 1
