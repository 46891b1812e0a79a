"""What started this process: nobody but the user, or a launcher that starts several of one run.

torchrun, srun and Fabric's own launcher say so in the environment; nothing here needs torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .errors import ConfigError


@dataclass(frozen=True)
class Started:
    """This process among those of its run.

    Attributes:
        by: Who started it.
        rank: Its number among all, from 0 on; number 0 writes and speaks for all.
        here: How many there are on this machine.
        machines: On how many machines.
    """

    by: Literal["user", "torchrun", "srun", "fabric"] = "user"
    rank: int = 0
    here: int = 1
    machines: int = 1

    @property
    def several(self) -> bool:
        """Whether a launcher started more than this one."""
        return self.here * self.machines > 1


def started(environment: Mapping[str, str] = os.environ) -> Started:
    """What the environment says of this process."""
    if "TORCHELASTIC_RUN_ID" in environment:
        here, world = int(environment["LOCAL_WORLD_SIZE"]), int(environment["WORLD_SIZE"])
        return Started("torchrun", int(environment["RANK"]), here, world // here)
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))  # of this srun; sbatch alone starts one process
    if tasks > 1:
        machines = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        return Started("srun", int(environment["SLURM_PROCID"]), tasks // machines, machines)
    if "LOCAL_RANK" in environment and "WORLD_SIZE" in environment:
        return Started("fabric", int(environment["LOCAL_RANK"]), int(environment["WORLD_SIZE"]))
    return Started()


def wanted(devices: int | None, environment: Mapping[str, str] = os.environ) -> int:
    """Processes on this machine: as many as were started, else as many as were asked for, else one.

    Raises:
        ConfigError: A launcher started another number than was asked for.
    """
    now = started(environment)
    if now.by in ("user", "fabric"):
        return devices or now.here
    if devices not in (None, now.here):
        raise ConfigError(
            f"--devices {devices}: {now.by} started {now.here} processes on this machine",
            f"Give both the same number; without --devices it is {now.by}'s.",
        )
    return now.here


def is_child() -> bool:
    """Whether another ``cmcd`` started this process, through Fabric, and speaks for it."""
    now = started()
    return now.by == "fabric" and now.rank > 0
