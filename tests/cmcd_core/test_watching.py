"""Watching a run, and what a terminal or a pipe is sent."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cmcd_core import ConfigError, DataError, RunConfig, run
from cmcd_core.cli import START, cli, main
from cmcd_core.cli import console as console_module
from cmcd_core.cli.console import Terminal

CMCD = [sys.executable, "-c", "from cmcd_core.cli import main; main()"]
COLOUR = re.compile(r"\x1b\[[\d;]*(?:3[0-7]|9[0-7])[\d;]*m")


def small(out: Path, epochs: int, **more: Any) -> RunConfig:
    return RunConfig.from_mapping(
        {
            "source": "image", "target": "depth", "data": {"loader": "demo", "train": 40, "val": 20, "test": 20},
            "pretrain": {"epochs": 1}, "distill": {"epochs": epochs, "views": 1},
            "run": {"out": str(out), "size": 32, "tensorboard": True, **more},
        }
    )  # fmt: skip


def points(folder: Path, stage: str) -> dict[str, list[tuple[int, float]]]:
    """Curve -> (epoch, value), as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard" / stage))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def logged(folder: Path, stage: str) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        if values.pop("stage") == stage:
            epoch = values.pop("epoch")
            for name, value in values.items():
                found.setdefault(name, []).append((epoch, pytest.approx(value, rel=1e-6)))
    return found


def test_tensorboard_shows_what_metrics_jsonl_holds_and_goes_on_with_a_longer_run(tmp_path: Path) -> None:
    steps: Any = ("pretrain", "distill")
    run(small(tmp_path / "a", 2), steps=steps)
    assert set(logged(tmp_path / "a", "distill")) >= {"loss", "cmd.kl"}
    for stage, epochs in (("pretrain", 1), ("distill", 2)):
        assert points(tmp_path / "a", stage) == logged(tmp_path / "a", stage)
        assert len(points(tmp_path / "a", stage)["loss"]) == epochs
    run(small(tmp_path / "a", 3), steps=steps, extend=True)
    assert points(tmp_path / "a", "distill") == logged(tmp_path / "a", "distill")
    assert [epoch for epoch, _ in points(tmp_path / "a", "distill")["loss"]] == [0, 1, 2]
    run(small(tmp_path / "a", 3, tensorboard=False), steps=steps, resume=True)  # not to watch changes no result


def test_tensorboard_that_is_not_there_is_asked_for_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"(?s)--tensorboard needs .*cmcd\[tensorboard\]"):
        run(small(tmp_path / "a", 1))
    assert not (tmp_path / "a").exists()


def test_a_bare_cmcd_says_what_to_type() -> None:
    code = "import sys; from cmcd_core.cli import main\ntry:\n main([])\nfinally:\n assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    for command, what in START:
        assert re.search(rf"^  {re.escape(command)} +{re.escape(what)}$", done.stdout, re.MULTILINE)
        assert command.split()[1] in {*cli.commands, "--help"}


def in_a_terminal(*words: str, **environment: str) -> str:
    """What a command writes to a terminal."""
    there, here = pty.openpty()
    with subprocess.Popen(
        [*CMCD, *words], stdout=here, stderr=here, stdin=here,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment},
    ) as process:  # fmt: skip
        os.close(here)
        read = b""
        while True:
            try:
                read += (part := os.read(there, 4096))
            except OSError:  # Linux: the other end is closed
                break
            if not part:
                break
    assert process.returncode == 0
    return read.decode()


def test_colours_go_where_they_are_wanted(fake_plugins: Path) -> None:
    path = {"PYTHONPATH": os.pathsep.join([str(fake_plugins), os.environ.get("PYTHONPATH", "")])}
    assert COLOUR.search(in_a_terminal("plugins", "list", **path))  # what is broken is red
    assert not COLOUR.search(in_a_terminal("plugins", "list", "--no-color", **path))
    assert not COLOUR.search(in_a_terminal("--no-color", "plugins", "list", **path))
    assert not COLOUR.search(in_a_terminal("plugins", "list", NO_COLOR="1", **path))
    piped = subprocess.run(
        [*CMCD, "plugins", "list"], capture_output=True, text=True, env={**os.environ, **path}, timeout=60
    )
    assert "broken" in piped.stdout
    assert "\x1b" not in piped.stdout + piped.stderr


def test_a_pipe_gets_each_line_at_once() -> None:
    """os._exit loses what is still in a buffer."""
    code = (
        "import os\nfrom cmcd_core.cli import main\ntry:\n main(['--version'])\n"
        "finally:\n print('after')\n os._exit(0)"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("\nafter\n")


def test_without_a_terminal_long_work_gives_signs_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal(quiet=False, results_to_stderr=False)

    def work() -> list[str]:
        with terminal.track("2 distil", 4) as advance:
            for step in range(4):
                advance(1, f"epoch {step + 1}/4")
        return [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]

    assert len(work()) == 1  # short work is told once it is done
    monkeypatch.setattr(console_module, "SIGN_OF_LIFE", 0)
    assert work()[:4] == [f"2 distil {n} of 4 epoch {n}/4" for n in range(1, 5)]
    terminal.close()


@pytest.mark.parametrize(
    ("command", "work"), [("bound", "cmcd_core.head_bound.head_bound"), ("distance", "cmcd_core.opened.open_run")]
)
def test_bars_are_taken_away_from_work_that_fails(command: str, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hide the cursor."""
    shown: list[Any] = []

    def fails(*args: Any, progress: Terminal, **options: Any) -> None:
        with progress.track("work", 2):
            shown.append(progress.bars)
            raise DataError("a spoilt file")

    monkeypatch.setattr(work, fails)
    with pytest.raises(SystemExit) as caught:
        main([command, "run"])
    assert caught.value.code == 2
    assert not shown[0].live.is_started


@pytest.mark.parametrize(("words", "expected"), [("cmcd pl", "plugins"), ("cmcd run --tens", "--tensorboard")])
def test_a_shell_completes(words: str, expected: str) -> None:
    asked = {"_CMCD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(CMCD, capture_output=True, text=True, env={**os.environ, **asked}, timeout=60)
    assert done.stdout.splitlines() == [f"plain,{expected}"]


@pytest.mark.parametrize("words", [["run", "--help"], ["cache", "list"], ["plugins", "list"]])
def test_a_reader_that_leaves_is_no_failure(words: list[str]) -> None:
    """`cmcd … | head`: nobody reads the rest."""
    with subprocess.Popen([*CMCD, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_another_broken_pipe_is_a_failure() -> None:
    code = (
        "from cmcd_core import cli\n"
        "def broken(): raise BrokenPipeError(32, 'of a worker')\n"
        "cli.doctor.callback = lambda **flags: broken()\ncli.main(['doctor'])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 1


def test_the_package_can_be_run_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "cmcd_core"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, START[0][0] in done.stdout) == (0, True)
