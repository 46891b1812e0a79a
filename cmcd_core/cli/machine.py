"""What ``cmcd doctor`` finds of the machine: Python, cores, memory, devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEAST_MEMORY = 1.5e9
"""Bytes that a run on the demo data takes, roughly; of a GPU as of the machine."""
MEMINFO = Path("/proc/meminfo")
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


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
    from ..cores import usable_cores

    there, usable = os.cpu_count() or 1, usable_cores()
    return Finding([f"{usable} of {there} usable"], {"usable": usable, "there": there})


def memory() -> Finding:
    """Of the machine, and what the container that this runs in may use of it."""
    total, free = machine_memory()
    limits = [
        int(text)
        for file in container_files(CGROUPS, OWN_CGROUPS)
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


def container_files(root: Path, own: Path) -> Iterator[Path]:
    """Files that may hold a memory limit: cgroup v2 and v1, of this process's group and those above it."""
    groups = [line.split(":", 2) for line in own.read_text().splitlines()] if own.is_file() else []
    for _, controllers, place in (group for group in groups if len(group) == 3):
        if controllers in ("", "memory"):
            top, name = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
            group = Path(place.lstrip("/"))
            yield from (top / part / name for part in (group, *group.parents))


def devices() -> Finding:
    """What torch can compute on, and what ``auto`` picks of it."""
    try:
        import torch
    except Exception:
        return Finding(["unknown: torch does not load"])  # a problem of the packages
    from ..config import RunSection
    from ..workbench import make_fabric

    threads = torch.get_num_threads()
    lines, problems = [f"cpu, torch uses {threads} thread{'s' * (threads != 1)}"], []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        line, problem = gpu(number)
        lines.append(line)
        problems += [problem] if problem else []
    lines += ["mps"] if torch.backends.mps.is_available() else []
    problems += [no_gpu()] if Path("/proc/driver/nvidia/version").exists() and not torch.cuda.is_available() else []
    fabric, precision = make_fabric(RunSection())
    chosen = {"device": fabric.device.type, "precision": precision}
    names = [line.split(",")[0] for line in lines]
    lines.append(f"auto picks {chosen['device']}, {precision}")
    return Finding(lines, {"there": names, "threads": threads, "auto": chosen}, problems)


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
