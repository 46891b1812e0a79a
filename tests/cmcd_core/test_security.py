"""What SECURITY.md promises: no code out of files, nothing written elsewhere, no network unless a hub name asks."""

from __future__ import annotations

import ast
import io
import json
import pickle
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import cmcd_core
from cmcd_core import ConfigError, load_encoder
from cmcd_core.cli import main
from cmcd_core.encoders import load_teacher
from cmcd_core.errors import printable
from cmcd_core.interfaces.timm_encoder import DEFAULT_ARCHITECTURE, DEFAULT_MODEL_ARGS, TimmEncoder

from .bad_input import require_refused, said_by, write_data

SMALL = [
    "--target", "depth", "--device", "cpu", "--quiet", "--epochs", "1", "--labels", "2", "--label-draws", "1",
    "--baseline", "none", "-o", "distill.views=1",
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def few_bootstraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 5)


# --- code out of files


class Payload:
    """What runs when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """A file that is there once code has run."""
    trace = tmp_path / "code has run"
    pickle.loads(pickle.dumps(Payload(trace)))
    trace.unlink()  # it would have
    yield trace
    assert not trace.exists()


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.pkl", "w.ckpt", "w.bin", "w.tar", "w.safetensors", "w"])
def test_weights_that_hold_code(name: str, data: Path, trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": Payload(trace)}, data / name)
    words = ["--data", data, "--teacher", f"data/{name}", "--teacher-architecture", "resnet10t", "--out", "run"]
    require_refused(*said_by(capsys, "run", *SMALL, *words), [f"data/{name}", "safetensors", "hold code"])


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_an_encoder_folder_that_holds_code(name: str, tmp_path: Path, trace: Path) -> None:
    folder = TimmEncoder(in_chans=3).save(tmp_path / "it")
    (folder / "model.safetensors").unlink()
    torch.save({"a": Payload(trace)}, folder / name)
    with pytest.raises(ConfigError, match=r"safetensors"):
        load_encoder(folder)


def test_arrays_that_hold_code(data: Path, trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(data / "depth" / "train0.npy", np.array([Payload(trace)], object), allow_pickle=True)
    (data / "depth" / "train0.npy").rename(data / "depth" / "train0.png")
    require_refused(
        *said_by(capsys, "run", *SMALL, "--data", data, "--out", "run"), ["depth/train0.png", "allow_pickle"]
    )


def test_arrays_in_tars_that_hold_code(tmp_path: Path, trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array = io.BytesIO()
    np.save(array, np.array([Payload(trace)], object), allow_pickle=True)
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for key in "abcd":
            for view in ("image", "depth"):
                info = tarfile.TarInfo(f"{key}.{view}.npy")
                info.size = len(array.getvalue())
                tar.addfile(info, io.BytesIO(array.getvalue()))
    words = ["--data", f"shards:{tmp_path}", "--out", tmp_path / "run"]
    require_refused(*said_by(capsys, "run", *SMALL, *words), ["sample 'a'"])


def edited(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_an_encoder_folder_that_names_other_weights(tmp_path: Path, trace: Path) -> None:
    """timm would unpickle them, in some versions without asking."""
    torch.save({"a": Payload(trace)}, tmp_path / "evil.pth")
    folder = TimmEncoder(in_chans=3).save(tmp_path / "it")
    evil = str(tmp_path / "evil.pth")
    edited(folder, lambda config: config["model_args"].update(checkpoint_path=evil))
    with pytest.raises(ConfigError, match=r"model_args\.checkpoint_path"):
        load_encoder(folder)


@pytest.mark.parametrize("member", ["../elsewhere", "/tmp", ".", "a/b", 3])
def test_members_of_an_encoder_lie_in_its_folder(member: Any, tmp_path: Path) -> None:
    folder = TimmEncoder(in_chans=3).save(tmp_path / "it")
    edited(folder, lambda config: config["cmcd"].update(members=[member]))
    with pytest.raises(ConfigError, match="expected the name of a folder in it"):
        load_encoder(folder)


def sources() -> list[Path]:
    root = Path(cmcd_core.__file__).parent
    return [*root.rglob("*.py"), *(root.parent / "plugins").rglob("*.py")]


def test_no_call_that_runs_what_a_file_holds() -> None:
    forbidden = {"eval", "exec", "pickle.load", "pickle.loads", "os.system", "yaml.load", "joblib.load", "shelve.open"}
    found = []
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            unsafe = (
                name in forbidden
                or (name == "torch.load" and keywords.get("weights_only") != "True")
                or keywords.get("allow_pickle") == "True"
                or keywords.get("shell") == "True"
                or name.endswith(".extractall")
            )
            if unsafe:
                found.append(f"{file.name}:{node.lineno}: {name}")
    assert found == []


# --- nothing is written elsewhere


def test_a_run_writes_into_its_folder_and_the_cache_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "cache"))
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    code, said = said_by(capsys, "run", *SMALL, "--data", data, "--out", "run")
    assert code == 0, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "data", "run"]
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


# --- no network


class ReachedOut(BaseException):
    """Somebody asked the network; no handler of errors hides it."""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Sockets are blocked; what was asked for is listed."""
    asked: list[Any] = []

    def blocked(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        raise ReachedOut(f"the network was asked: {arguments}")

    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, blocked)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, blocked)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return asked


def test_commands_ask_no_network(
    data: Path, offline: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = TimmEncoder(in_chans=3)
    teacher.save(data.parent / "teacher")
    save_file(teacher.model.state_dict(), data.parent / "resnet10t.safetensors")
    for words in (
        ["run", *SMALL, "--data", "data", "--out", "run"],
        ["run", *SMALL, "--data", "data", "--out", "run", "--resume"],
        ["run", *SMALL, "--data", "data", "--out", "taught", "--teacher", "teacher"],
        ["evaluate", "taught/target", "--data", "data", "--out", "third", "--quiet", "--baseline", "none"],
        ["run", "--target", "depth", "--student", "resnet18", "--dry-run"],
        ["plugins", "list"],
        ["plugins", "show", "cmd"],
        ["data", "check", "data"],
        ["data", "describe", "data"],
        ["cache", "list"],
        ["doctor"],
    ):
        code, said = said_by(capsys, *words)
        assert code == 0 or words[:2] == ["data", "check"], said
    load_encoder(data.parent / "run" / "target")
    assert offline == []


@pytest.mark.parametrize("name", ["hf-hub:some/body", "hf_hub:some/body", "local-dir:elsewhere", "hf-hub:"])
def test_a_folder_cannot_ask_for_the_hub(name: str, tmp_path: Path, offline: list[Any]) -> None:
    folder = TimmEncoder(in_chans=3).save(tmp_path / "it")
    edited(folder, lambda config: config.update(architecture=name))
    with pytest.raises(ConfigError, match="names another place to read one from") as caught:
        load_encoder(folder)
    assert "--teacher" in caught.value.hint
    assert offline == []


def test_a_hub_name_asks(data: Path, offline: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """So the blocked sockets above would have told."""
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    with pytest.raises((ReachedOut, SystemExit)):
        main(["run", *SMALL, "--data", str(data), "--teacher", "hf-hub:timm/resnet18.a1_in1k", "--out", "run"])
    assert offline


def test_an_encoder_of_the_hub_is_saved_by_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: list[Any]
) -> None:
    def created(name: str, *, pretrained: bool, **options: Any) -> Any:
        assert pretrained == (name == "hf-hub:some/body")
        return original(DEFAULT_ARCHITECTURE if pretrained else name, **{**DEFAULT_MODEL_ARGS, **options})

    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", created)
    told = lambda name: ({}, DEFAULT_ARCHITECTURE, dict(DEFAULT_MODEL_ARGS))  # noqa: E731
    monkeypatch.setattr(timm.models, "load_model_config_from_hf", told)
    modality = cmcd_core.catalog.load().modality("image")
    teacher = load_teacher("hf-hub:some/body", None, modality.build(modality.options()))
    again = load_encoder(teacher.save(tmp_path / "it"))
    assert again.architecture == DEFAULT_ARCHITECTURE
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(again(x).pooled, teacher(x).pooled)
    assert offline == []


# --- plugins, and what a terminal is sent


def test_the_list_shows_whose_code_runs(fake_plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plugins", "list", "--json"])
    rows = {row["plugin"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["image"]["module"] == "cmcd_image"
    assert Path(rows["image"]["file"]).parts[-2:] == ("cmcd_image", "__init__.py")
    foreign = [row for row in rows.values() if row["distribution"] != "cmcd"]
    assert foreign
    for row in foreign:  # broken ones too
        assert row["module"]
        assert Path(row["file"]).is_file()
        assert fake_plugins in Path(row["file"]).parents
    with pytest.raises(SystemExit):
        main(["plugins", "list"])
    assert "cmcd_image" in capsys.readouterr().out


def test_what_is_off_is_not_imported(fake_plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setenv("CMCD_PLUGINS", "image")
    statuses = {plugin.status for plugin in cmcd_core.catalog.load().plugins if plugin.distribution != "cmcd"}
    assert statuses == {"off"}
    assert not [name for name in sys.modules if name.startswith("fake_")]


def test_data_send_a_terminal_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = data / "metadata.csv"
    table.write_text(table.read_text().replace("image/train1.png", "image/\x1b]0;title\x07\x1b[2J.png"))
    code, said = said_by(capsys, "run", *SMALL, "--data", data, "--out", "run")
    assert code == 2
    assert "\\x1b[2J.png" in said
    assert "\x1b" not in said
    assert printable("a\x00\x1b[1m\u202e\udcff\nb") == "a\\x00\\x1b[1m\\u202e\\udcff\nb"
    assert printable("Größe 3 × 4, 深度") == "Größe 3 × 4, 深度"


@pytest.mark.parametrize("command", ["describe", "check"])
def test_labels_send_a_terminal_nothing(command: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = data / "metadata.csv"
    table.write_text(table.read_text().replace("train1,train,hat", "train1,train,hat\x1b[2J"))
    with pytest.raises(SystemExit):
        main(["data", command, str(data)])
    said = capsys.readouterr()
    assert "\\x1b[2J" in said.out + said.err
    assert "\x1b" not in said.out + said.err
