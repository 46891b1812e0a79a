"""What is chosen where the user leaves it open fits the machine; what does not fit is warned about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cmcd_core import choices, cores
from cmcd_core.choices import choose
from cmcd_core.config import RunSection
from cmcd_core.cores import core_quota, usable_cores
from cmcd_core.workbench import make_fabric

CPU = RunSection(device="cpu")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A CPU's flags, and its bfloat16 speed."""
    about: dict[str, object] = {"flags": frozenset({"avx2"}), "speed": 0.01}
    monkeypatch.setattr(choices, "cpu_flags", lambda: about["flags"])
    monkeypatch.setattr(choices, "bfloat16_speed", lambda: about["speed"])
    return about


@pytest.mark.parametrize(
    ("flags", "speed", "precision"),
    [
        ({"avx2"}, 9.0, "32-true"),
        ({"avx512_bf16"}, 1.2, "32-true"),
        ({"avx512_bf16"}, 1.9, "bf16-mixed"),
        ({"amx_bf16", "avx2"}, 6.0, "bf16-mixed"),
    ],
)
def test_bfloat16_on_a_cpu_needs_its_instructions_and_their_speed(
    cpu: dict[str, object], flags: set[str], speed: float, precision: str
) -> None:
    cpu.update(flags=frozenset(flags), speed=speed)
    choice = choose(CPU)
    assert choice.precision == precision
    assert choice.warning == ""
    if "avx2" not in flags or speed == 6.0:
        assert f"{speed:.1f} times" in choice.why["precision"]


def test_slow_bfloat16_is_warned_about_when_asked_for(cpu: dict[str, object]) -> None:
    said: list[str] = []
    _, precision = make_fabric(RunSection(device="cpu", precision="bf16-mixed"), said.append)
    assert precision == "bf16-mixed"
    assert said == [
        "bf16-mixed takes 100 times as long as float32 on this CPU, without AMX or AVX512-BF16: "
        "--precision 32-true is faster"
    ]
    cpu.update(flags=frozenset({"amx_bf16"}))
    assert choose(RunSection(device="cpu", precision="bf16-mixed")).warning == ""
    assert choose(RunSection(device="cpu", precision="32-true")).why["precision"] == "asked for"


def test_the_probe_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "PROBE", 128)
    assert 0 < choices.bfloat16_speed() < 100


def test_flags_are_read_of_either_kind_of_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(choices, "CPUINFO", tmp_path / "cpuinfo")
    assert choices.cpu_flags() == frozenset()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16\n")
    assert choices.cpu_flags() == {"fpu", "avx512_bf16"}
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert "bf16" in choices.cpu_flags()


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/pod/app", {"pod/cpu.max": "100000 100000\n", "pod/app/cpu.max": "max 100000\n"}, 1.0),
        (
            "9:cpu,cpuacct:/x\n4:memory:/x",
            {"cpu/x/cpu.cfs_quota_us": "50000\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        ("9:cpu:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/", {}, None),
    ],
)
def test_a_containers_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, groups: str, files: dict[str, str], quota: float | None
) -> None:
    (tmp_path / "own").write_text(groups)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUPS", tmp_path / "own")
    assert core_quota() == quota
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert usable_cores() == (1 if quota is not None else there)


def test_torch_computes_on_as_many_threads_as_it_may(monkeypatch: pytest.MonkeyPatch, threads: None) -> None:
    torch.set_num_threads(4)
    monkeypatch.setattr(choices, "usable_cores", lambda: 2)
    monkeypatch.setattr(choices, "core_quota", lambda: 2.5)
    assert choose(CPU).why["threads"] == "this container may use 2.5 cores"
    make_fabric(CPU)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    make_fabric(CPU)
    assert torch.get_num_threads() == 1


def test_an_old_gpu_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for capability, precision in (((7, 5), "32-true"), ((8, 0), "bf16-mixed")):
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda found=capability: found)
        choice = choose(RunSection())
        assert (choice.device, choice.precision) == ("cuda", precision)
