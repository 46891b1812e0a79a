"""Several processes of one run, as a launcher starts them; forked from a server that has imported torch already."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["cmcd_core.steps", "cmcd_core.pipeline", "cmcd_objectives.functional"])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def by_torchrun(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun leaves in the environment."""
    return {
        "TORCHELASTIC_RUN_ID": "none", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def by_srun(rank: int, count: int, port: int) -> dict[str, str]:
    """What ``srun --ntasks-per-node`` leaves there."""
    return {
        "SLURM_STEP_NUM_TASKS": str(count), "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": str(count),
        "SLURM_NTASKS_PER_NODE": str(count), "SLURM_NNODES": "1", "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "cmcd",
        "SLURM_NODELIST": "127.0.0.1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def start(
    count: int,
    work: Callable[..., None],
    *arguments: Any,
    by: Callable[[int, int, int], Mapping[str, str]] = by_torchrun,
) -> list[ForkServerProcess]:
    port = free_port()
    out = []
    for rank in range(count):
        environment = dict(by(rank, count, port)) if count > 1 else {}
        out.append(FORKS.Process(target=_begin, args=(environment, dict(os.environ), work, arguments)))
        out[-1].start()
    return out


def _begin(
    own: dict[str, str], inherited: dict[str, str], work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ.clear()  # the server may have been started under another one
    os.environ.update(inherited | {"OMP_NUM_THREADS": "1"} | own)
    torch.set_num_threads(1)
    work(*arguments)


def cmcd(errors: str, *words: str) -> None:
    """The command line, its stderr in a file."""
    from cmcd_core.cli import main

    with open(errors, "a", buffering=1, encoding="utf-8") as sys.stderr:
        os.dup2(sys.stderr.fileno(), 2)
        main(list(words))


def ended(processes: list[ForkServerProcess], seconds: float = 300) -> list[int | None]:
    """Their exit codes; whoever is not done in time is killed, and has none."""
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def run_cmcd(count: int, *words: object, by: Callable[[int, int, int], Mapping[str, str]] = by_torchrun) -> str:
    """``cmcd`` on so many processes, to the end; what they said on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        errors = str(Path(folder) / "errors")
        codes = ended(start(count, cmcd, errors, *map(str, words), by=by))
        said = Path(errors).read_text(encoding="utf-8")
    assert codes == [0] * count, said
    return said
