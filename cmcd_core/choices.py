"""What is chosen on this machine where the user leaves it open, and why."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from .config import RunSection
from .cores import core_quota, usable_cores
from .errors import ConfigError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
CPUINFO = Path("/proc/cpuinfo")
MULTIPLIES_BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Of a CPU's flags, the last one Arm's. Others only convert bfloat16, and multiply it a hundred times as slowly."""
PAYS = 1.5
"""bfloat16 is chosen on a CPU from this many times float32's speed on: less does not make up for its rounding."""
PROBE = 256
"""Side of the matrices that are multiplied to find out."""


@dataclass(frozen=True)
class Choice:
    """What is used, and why.

    Attributes:
        threads: Those of torch on the CPU.
        why: Each of device, precision and threads -> a few words.
        warning: What the user asked for and should not have; "" usually.
    """

    device: str
    precision: Precision
    threads: int
    why: dict[str, str]
    warning: str = ""


def choose(section: RunSection) -> Choice:
    """Device, precision and threads.

    Raises:
        ConfigError: The device asked for is not there.
    """
    device, of_device = _device(section.device)
    precision, of_precision, warning = _precision(section.precision, device)
    threads, of_threads = _threads()
    why = {"device": of_device, "precision": of_precision, "threads": of_threads}
    return Choice(device, precision, threads, why, warning)


def _device(asked: str) -> tuple[str, str]:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        found = next(name for name, here in there.items() if here)
        return found, "torch finds no accelerator" if found == "cpu" else "an accelerator that torch finds"
    if not there[asked]:
        raise ConfigError(f"--device {asked}: torch finds no such device here", "Use --device auto or cpu.")
    return asked, "asked for"


def _precision(asked: Literal["auto"] | Precision, device: str) -> tuple[Precision, str, str]:
    """What is used, why, and a warning."""
    if device == "cuda":
        if asked != "auto":
            return asked, "asked for", ""
        if torch.cuda.get_device_capability() >= (8, 0):
            return "bf16-mixed", "this GPU multiplies bfloat16", ""
        return "32-true", "this GPU does not multiply bfloat16", ""
    if device == "mps":
        return ("32-true", "nothing else was tried there", "") if asked == "auto" else (asked, "asked for", "")
    flags = cpu_flags() & MULTIPLIES_BFLOAT16
    if asked == "bf16-mixed" and not flags:
        slower = f"takes {1 / bfloat16_speed():.0f} times as long as float32 on this CPU, without AMX or AVX512-BF16"
        return asked, f"asked for, but {slower}", f"bf16-mixed {slower}: --precision 32-true is faster"
    if asked != "auto":
        return asked, "asked for", ""
    if not flags:
        return "32-true", "bfloat16 is no option on a CPU without AMX or AVX512-BF16", ""
    speed = bfloat16_speed()
    found = f"bfloat16 has {speed:.1f} times float32's speed here ({', '.join(sorted(flags))})"
    return "bf16-mixed" if speed >= PAYS else "32-true", found, ""


def _threads() -> tuple[int, str]:
    """torch counts cores, and knows nothing of a container's quota."""
    now, cores = torch.get_num_threads(), usable_cores()
    if now <= cores:
        return now, "OMP_NUM_THREADS" if "OMP_NUM_THREADS" in os.environ else f"of {cores} usable cores"
    quota = core_quota()
    return cores, f"this container may use {quota:g} cores" if quota is not None else f"{cores} usable cores"


def cpu_flags() -> frozenset[str]:
    """What the CPU says it can do; nothing where the system does not tell (other than Linux)."""
    if not CPUINFO.is_file():
        return frozenset()
    lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
    return frozenset(next((flags.split() for name, _, flags in lines if name.strip() in ("flags", "Features")), ()))


def bfloat16_speed() -> float:
    """Of a matrix product on the CPU, float32's time over bfloat16's: the best of three of each."""

    def seconds(dtype: torch.dtype) -> float:
        x, taken = torch.ones(PROBE, PROBE, dtype=dtype), []
        for _ in range(4):
            start = time.perf_counter()
            torch.mm(x, x)
            taken.append(time.perf_counter() - start)
        return min(taken[1:])

    return seconds(torch.float32) / seconds(torch.bfloat16)
