"""How many cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that the system lets this process run on, and no more than a container's quota pays for."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = core_quota()
    return there if quota is None else max(1, min(there, int(quota)))


def core_quota() -> float | None:
    """Cores' worth of time that the container may use; None: no limit."""
    shares = []
    for file in container_files("cpu", "cpu.max", "cpu.cfs_quota_us", CGROUPS, OWN_CGROUPS):
        try:
            if file.name == "cpu.max":
                quota, period = file.read_text().split()
            else:
                quota, period = file.read_text(), file.with_name("cpu.cfs_period_us").read_text()
            if int(quota) > 0:
                shares.append(int(quota) / int(period))
        except (OSError, ValueError):  # not there; "max"
            continue
    return min(shares, default=None)


def container_files(controller: str, new: str, old: str, root: Path, own: Path) -> Iterator[Path]:
    """Files that may hold a limit, called ``new`` in cgroup v2 and ``old`` in v1: of this process's group and those
    above it."""
    groups = [line.split(":", 2) for line in own.read_text().splitlines()] if own.is_file() else []
    for _, controllers, place in (group for group in groups if len(group) == 3):
        if not controllers or controller in controllers.split(","):
            top, name = (root / controller, old) if controllers else (root, new)
            group = Path(place.lstrip("/"))
            yield from (top / part / name for part in (group, *group.parents))
