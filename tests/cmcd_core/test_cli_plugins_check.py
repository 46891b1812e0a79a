"""`cmcd plugins check` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmcd_core.cli import main

Said = tuple[int, str, str]
Check = Callable[..., Said]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """The command in an empty folder: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Said:
        with pytest.raises(SystemExit) as exit_:
            main(["plugins", "check", *words])
        out, err = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, out, err

    return run


def test_a_good_plugin(tmp_path: Path) -> None:
    code = "from cmcd_core.cli import main; main(['plugins', 'check', 'recognition'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "recognition, plugin"
    assert lines[1] == "  ok       light: to import it and call its hooks imports no torch"
    assert "recognition, task" in lines
    assert lines[-1] == "14 checks: 14 ok"
    assert list(tmp_path.iterdir()) == []


def test_json(check: Check) -> None:
    code, out, _ = check("recognition", "--json")
    assert code == 0
    rows = json.loads(out)
    assert rows[0].keys() == {"plugin", "kind", "name", "check", "outcome", "why", "hint"}
    assert {row["outcome"] for row in rows} == {"ok"}


def test_files_of_ones_own(check: Check, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.full((20, 24), 1.5, np.float32))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert check("depth", "--sample", "good.npy")[0] == 0
    code, out, _ = check("depth", "--sample", "good.npy", "--sample", "bad.png", "--json")
    assert code == 1
    failed = [row for row in json.loads(out) if row["outcome"] == "failed"]
    assert [row["check"] for row in failed] == ["decode gives (C, H, W) float32, finite"]
    assert failed[0]["why"].startswith("not a depth map")


def test_data_of_ones_own(check: Check, tiny_folder: Path) -> None:
    code, out, _ = check("folder")
    assert code == 0
    assert "no data set: The folder loader needs a folder." in out
    assert "skipped" in out.splitlines()[-1]
    code, out, _ = check("folder", "-o", f"folder.root={tiny_folder}")
    assert (code, out.splitlines()[-1]) == (0, "16 checks: 16 ok")


def test_what_fails_is_told_with_its_place(check: Check, fake_plugins: Path) -> None:
    code, out, _ = check("good")
    assert code == 1
    assert (
        "  failed   build gives a Modality that knows its channels\n           NotImplementedError (fake_good.py:"
        in out
    )
    assert "  skipped  decode gives (C, H, W) float32, finite\n           needs what failed above" in out
    assert "failed" in out.splitlines()[-1]


def test_a_plugin_that_prints(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chatty_plugin.py").write_text("print('chatty: hello')\n" + CHATTY)
    info = tmp_path / "cmcd_plugin_chatty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cmcd-plugin-chatty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cmcd]\nchatty = chatty_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, err = check("chatty", "--json")
    assert code == 1
    assert [row["why"] for row in json.loads(out) if row["outcome"] == "failed"] == [
        "the dependencies of cmcd-plugin-chatty do not name cmcd",
        *["ZeroDivisionError: division by zero (chatty_plugin.py:6, in build)"] * 2,
    ]
    assert "chatty: hello" in err


CHATTY = """from cmcd_core.plugin import ObjectivePlugin, Options, hookimpl

def build(options, widths):
    print("chatty: building")
    return 1 / 0

@hookimpl
def cmcd_objectives():
    return [ObjectivePlugin(name="chatty", summary="Talks.", options=Options, build=build)]
"""


def test_a_plugin_that_exits(check: Check, fake_plugins: Path) -> None:
    code, out, _ = check("exits")
    assert code == 1
    assert "SystemExit: fake: no licence" in out
    assert "CMCD_STRICT=1 CMCD_DEBUG=1 cmcd plugins list" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dept"], "Error: nothing called 'dept' is installed\nDid you mean 'depth'?"),
        (["depth", "-o", "dept.unit=m"], "Error: options: no part called 'dept' is checked\nThese are: depth."),
        (["depth", "-o", "unit=m"], "Error: -o 'unit=m': expected SECTION.KEY=VALUE"),
        (["folder", "--sample", "file"], "Error: --sample: folder is no modality"),
        (["depth", "--sample", "absent"], "Error: Invalid value for '--sample': File 'absent' does not exist."),
    ],
)
def test_usage(check: Check, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "file").touch()
    code, out, err = check(*words)
    assert (code, out) == (2, "")
    assert message in err
