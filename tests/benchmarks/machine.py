"""What a measurement was made on, in words that say nothing of whose machine it is."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from cmcd_core.cores import usable_cores

CPUINFO = Path("/proc/cpuinfo")


def machine() -> str:
    """CPU model, cores used, and the versions that decide."""
    import torch

    cores = usable_cores()
    return (
        f"{cpu_model()}, {cores} core{'s' * (cores != 1)}, {torch.backends.cpu.get_cpu_capability()}; "
        f"{platform.system()}, Python {platform.python_version()}, torch {version('torch').partition('+')[0]}"
    )


def cpu_model() -> str:
    """As the processor calls itself."""
    if CPUINFO.is_file():
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
