"""What ``cmcd doctor`` finds of the machine: Python, cores, memory, devices."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEAST_MEMORY = 1.5e9
"""Bytes that a run on the demo data takes, roughly; of a GPU as of the machine."""
MEMINFO = Path("/proc/meminfo")


@dataclass
class Finding:
    """What one look at the machine found: lines for people, values for JSON, and what will hurt and why."""

    lines: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def python() -> Finding:
    import platform
    import sys
    from importlib.metadata import version

    number, cmcd = platform.python_version(), version("cmcd")
    return Finding(
        [f"{number} at {sys.executable}; cmcd {cmcd}", platform.platform()],
        {"version": number, "executable": sys.executable, "cmcd": cmcd, "platform": platform.platform()},
    )


def cores() -> Finding:
    """Of the machine, and what this process and its container may use of them."""
    from ..cores import core_quota, usable_cores

    there, usable, quota = os.cpu_count() or 1, usable_cores(), core_quota()
    words = f", this container may use {quota:g}" if quota is not None else ""
    return Finding([f"{usable} of {there} usable{words}"], {"usable": usable, "there": there, "container_limit": quota})


def memory() -> Finding:
    """Of the machine, and what the container that this runs in may use of it."""
    from ..cores import CGROUPS, OWN_CGROUPS, container_files

    total, free = machine_memory()
    limits = [
        int(text)
        for file in container_files("memory", "memory.max", "memory.limit_in_bytes", CGROUPS, OWN_CGROUPS)
        if file.is_file() and (text := file.read_text().strip()).isdigit()
    ]
    limit = min(limits, default=None)
    if limit is not None and limit >= (total or 2**60):
        limit = None  # cgroup v1's way to say none
    words = [f"{gb(total)} in all" if total else "size unknown", f"{gb(free)} free" if free is not None else ""]
    words.append(f"this container may use {gb(limit)}" if limit is not None else "")
    problems = []
    least = min((amount for amount in (total, free, limit) if amount is not None), default=LEAST_MEMORY)
    if least < LEAST_MEMORY:
        problems.append(f"{gb(least)} of memory to use, and a small run takes about {gb(LEAST_MEMORY)}. Make room.")
    values = {"total_bytes": total, "free_bytes": free, "container_limit_bytes": limit}
    return Finding([", ".join(filter(None, words))], values, problems)


def machine_memory() -> tuple[int | None, int | None]:
    """Bytes in all, and free for new programs where the system says so."""
    try:
        with MEMINFO.open() as file:
            amounts = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in file)}
        return amounts["MemTotal"], amounts.get("MemAvailable")
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    except (AttributeError, ValueError, OSError):  # Windows
        return None, None


def devices() -> Finding:
    """What torch can compute on."""
    try:
        import torch
    except Exception:
        return Finding(["unknown: torch does not load"])  # a problem of the packages
    threads = torch.get_num_threads()
    lines, problems = [f"cpu, torch uses {threads} thread{'s' * (threads != 1)}"], []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        line, problem = gpu(number)
        lines.append(line)
        problems += [problem] if problem else []
    lines += ["mps"] if torch.backends.mps.is_available() else []
    problems += [no_gpu()] if Path("/proc/driver/nvidia/version").exists() and not torch.cuda.is_available() else []
    return Finding(lines, {"there": [line.split(",")[0] for line in lines], "threads": threads}, problems)


def choices() -> Finding:
    """What a run takes here where nothing is asked for, and why."""
    try:
        from ..choices import choose
    except Exception:
        return Finding(["unknown: torch does not load"])
    from ..config import RunSection

    choice = choose(RunSection())
    found = {"device": choice.device, "precision": choice.precision, "threads": choice.threads}
    lines = [f"auto picks {choice.device}: {choice.why['device']}"]
    lines.append(f"{choice.precision}: {choice.why['precision']}")
    lines.append(f"{choice.threads} thread{'s' * (choice.threads != 1)}: {choice.why['threads']}")
    gpu_only = ["augmentation on the GPU", "pinned memory"] if choice.device == "cuda" else []
    lines.append(", ".join(["channels_last", "fused AdamW", *gpu_only, "no torch.compile (takes longer)"]))
    return Finding(lines, {**found, "why": choice.why})


def gpu(number: int) -> tuple[str, str]:
    """One GPU in words, and what is wrong with it or ''. Only computing shows whether this torch fits it."""
    import torch

    name = f"cuda:{number} {torch.cuda.get_device_name(number)}"
    try:
        torch.ones(1, device=f"cuda:{number}").add(1).item()
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        return f"{name}, does not compute", f"{name} does not compute ({reason}). --device cpu does without it."
    line = f"{name}, {gb(total)} of memory, {gb(free)} free"
    if free < LEAST_MEMORY:
        return line, f"{name} is full: {gb(free)} free. Wait for whoever uses it, or set CUDA_VISIBLE_DEVICES."
    return line, ""


def no_gpu() -> str:
    """Why torch finds no GPU though there is a driver."""
    import torch

    if torch.version.cuda is None:
        return "there is an NVIDIA driver, but this torch is built for CPUs. Install a CUDA build: pytorch.org."
    if os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
        return "CUDA_VISIBLE_DEVICES hides the GPU from torch. Unset it to use the GPU."
    return (
        f"there is an NVIDIA driver, but torch finds no GPU: it may be too old for CUDA {torch.version.cuda}. "
        "Update the driver, or install a torch for an older CUDA: pytorch.org."
    )


def gb(amount: float) -> str:
    """Bytes as people say them: ``1.5 GB``."""
    return f"{amount / 1e9:.1f} GB"
