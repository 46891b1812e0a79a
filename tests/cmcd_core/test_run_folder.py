"""What a run leaves on disk: whole files, one process, the last two checkpoints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cmcd_core import CmcdError, ConfigError, load_run
from cmcd_core import files as module
from cmcd_core.files import write_json, write_text
from cmcd_core.run_folder import RunFolder

HOLDER = """
import sys, time
from pathlib import Path
from cmcd_core.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.readline()
print("freed", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


# --- files appear whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "a.json"
    write_json(file, {"ü": 1})
    write_json(file, {"ü": 2})
    assert json.loads(file.read_text(encoding="utf-8")) == {"ü": 2}
    assert "ü" in file.read_text(encoding="utf-8")
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


def test_a_crash_before_the_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")

    def crash(*paths: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(module.os, "replace", crash)
    with pytest.raises(OSError, match="power cut"):
        write_text(file, "new")
    assert file.read_text() == "old"


def test_a_failed_write_leaves_no_partial(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()  # a file cannot take a folder's place
    with pytest.raises(OSError, match="a"):
        write_text(tmp_path / "a", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_json_that_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert json.loads((tmp_path / "a.json").read_text()) == 1


def test_the_configuration(folder: RunFolder) -> None:
    values = {"target": {"name": "depth"}, "distill": {"lr": 0.1, "epochs": 3}, "run": {"size": 32}}
    folder.write_config(values)
    assert folder.read_config() == values
    assert folder.config_file == folder.path / "config.toml"


# --- one process at a time


def holder(folder: RunFolder) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


@pytest.fixture
def other(folder: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process at work in the folder."""
    process = holder(folder)
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_kept_out(folder: RunFolder, other: subprocess.Popen[str]) -> None:
    with pytest.raises(ConfigError, match="another process is running in this folder") as caught, folder.locked():
        pass
    assert str(folder.path) in caught.value.message
    assert "--out" in caught.value.hint
    other.communicate("\n", timeout=20)
    with folder.locked():
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_dead_processs_lock_does_not_block(folder: RunFolder, other: subprocess.Popen[str]) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait(timeout=20)
    assert (folder.path / ".lock").exists()
    with folder.locked():
        pass


def test_the_lock_is_freed_when_the_work_fails(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="x"), folder.locked():
        raise ValueError("x")
    process = holder(folder)
    process.communicate("\n", timeout=20)
    assert process.returncode == 0


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*: cannot write there"), RunFolder(tmp_path / "file" / "x").locked():
        pass


# --- metrics.jsonl


def lines(folder: RunFolder) -> list[dict]:
    return [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]


def test_rewinding_drops_what_will_be_written_again(folder: RunFolder) -> None:
    folder.path.mkdir()
    for stage in ("pretrain", "distill"):
        for epoch in range(4):
            folder.log(stage, {"epoch": epoch, "loss": epoch / 2})
    folder.rewind_log("distill", 2)
    assert [(line["stage"], line["epoch"]) for line in lines(folder)] == [
        *(("pretrain", epoch) for epoch in range(4)),
        ("distill", 0),
        ("distill", 1),
    ]
    folder.log("distill", {"epoch": 2, "loss": 9})
    assert lines(folder)[-1] == {"stage": "distill", "epoch": 2, "loss": 9}


def test_rewinding_drops_the_half_line_of_a_crash(folder: RunFolder) -> None:
    folder.path.mkdir()
    folder.log("distill", {"epoch": 0})
    with folder.metrics_file.open("a") as file:
        file.write('{"stage": "distill", "epo')
    folder.rewind_log("distill", 1)
    folder.log("distill", {"epoch": 1})
    assert [line["epoch"] for line in lines(folder)] == [0, 1]


def test_rewinding_nothing(folder: RunFolder) -> None:
    folder.rewind_log("distill", 0)
    assert not folder.metrics_file.exists()


def test_a_stage_that_starts_afresh_leaves_no_old_lines(folder: RunFolder) -> None:
    """A run killed after its first epoch's line, before its first checkpoint, and resumed."""
    from lightning_fabric import Fabric
    from torch import nn

    from cmcd_core.stages.training import Plan, Session, fit

    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).square().mean()

    folder.path.mkdir()
    folder.log("distill", {"epoch": 0, "loss": 1.0})
    session = Session(
        log=lambda values: folder.log("distill", values),
        rewind=lambda epochs: folder.rewind_log("distill", epochs),
        store=folder.checkpoints("distill"),
        digest="d",
    )
    plan = Plan(epochs=1, steps_per_epoch=1, lr=0.1, weight_decay=0)
    fabric = Fabric(accelerator="cpu", devices=1)
    fit(fabric, Model(2, 1), plan, lambda epoch: [(1, (torch.ones(1, 2),))], seed=0, session=session, title="")
    assert [line["epoch"] for line in lines(folder)] == [0]


# --- checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3,), value), "n": torch.tensor(int(value)), "t": torch.arange(6.0).view(2, 3).t()}


def test_the_last_two_are_kept(folder: RunFolder) -> None:
    store = folder.checkpoints("distill")
    for epoch in range(1, 12):
        store.save(epoch, tensors(epoch), {"digest": "d", "losses": [1.0] * epoch})
    names = sorted(path.name for path in (folder.path / "checkpoints").iterdir())
    assert names == [f"distill-{n:05d}.{end}" for n in (10, 11) for end in ("json", "safetensors")]
    found, meta = store.latest("d") or ({}, {})
    assert meta == {"epoch": 11, "digest": "d", "losses": [1.0] * 11}
    for name, tensor in tensors(11).items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_stages_do_not_mix(folder: RunFolder) -> None:
    one, other = folder.checkpoints("pretrain"), folder.checkpoints("distill")
    one.save(1, tensors(1), {"digest": "d"})
    for epoch in (2, 3, 4):
        other.save(epoch, tensors(epoch), {"digest": "d"})
    found = one.latest("d")
    assert found is not None
    assert found[1]["epoch"] == 1
    assert len(list((folder.path / "checkpoints").glob("pretrain-*.safetensors"))) == 1


def test_another_digest_is_not_used(folder: RunFolder) -> None:
    store = folder.checkpoints("distill")
    assert store.latest("d") is None
    store.save(1, tensors(1), {"digest": "d"})
    store.save(2, tensors(2), {"digest": "other"})
    assert store.latest("nobody's") is None
    found = store.latest("d")
    assert found is not None
    assert found[1]["epoch"] == 1


def test_a_checkpoint_without_its_json_does_not_count(folder: RunFolder) -> None:
    store = folder.checkpoints("distill")
    store.save(1, tensors(1), {"digest": "d"})
    store.save(2, tensors(2), {"digest": "d"})
    (folder.path / "checkpoints" / "distill-00002.json").unlink()
    found = store.latest("d")
    assert found is not None
    assert found[1]["epoch"] == 1
    store.save(2, tensors(2), {"digest": "d"})
    assert (store.latest("d") or ({}, {}))[1]["epoch"] == 2


def test_a_disk_that_is_full_is_told(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    store = folder.checkpoints("distill")
    store.save(1, tensors(1), {"digest": "d"})

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CmcdError, match=r"distill-00002.safetensors: cannot write a checkpoint: No space left"):
        store.save(2, tensors(2), {"digest": "d"})
    assert (store.latest("d") or ({}, {}))[1]["epoch"] == 1


def test_nothing_is_pickled(folder: RunFolder) -> None:
    store = folder.checkpoints("distill")
    store.save(1, tensors(1), {"digest": "d"})
    for path in (folder.path / "checkpoints").iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert int.from_bytes(path.read_bytes()[:8], "little") < path.stat().st_size  # safetensors' header


def test_finished_stages(folder: RunFolder) -> None:
    assert folder.finished("distill") is None
    folder.finish("distill", "d", {"summary": {"loss": 1.5}})
    assert folder.finished("distill") == {"digest": "d", "summary": {"loss": 1.5}}
    assert folder.finished("pretrain") is None
    folder.reopen("distill")
    assert folder.finished("distill") is None
    assert folder.checkpoints("distill").latest("d") is None


# --- results


def test_load_run(folder: RunFolder) -> None:
    with pytest.raises(ConfigError, match="no finished run here"):
        load_run(folder.path)
    entries = [{"encoder": "scratch", "metrics": {"top1": 0.25}}, {"encoder": "distilled", "metrics": {"top1": 0.5}}]
    write_json(folder.result_file, {"schema": 1, "evaluations": entries})
    result = load_run(str(folder.path))
    assert (result.metric("distilled"), result.metric("scratch")) == (0.5, 0.25)
    with pytest.raises(KeyError):
        result.metric("untrained")
    write_json(folder.result_file, {"schema": 2, "evaluations": entries})
    with pytest.raises(ConfigError, match="written by a newer cmcd"):
        load_run(folder.path)
    folder.result_file.write_text('{"schema": 1')
    with pytest.raises(ConfigError, match=r"result\.json: not readable"):
        load_run(folder.path)
