"""The processes of one run, and how they meet. Where there is one, nothing here does anything.

All of them take the same steps on the same batches, each on its rows of a batch. Process 0 alone writes and speaks.
A launcher (torchrun, srun) starts them, or Fabric does. What one must do before the others, or for them all, is said
by :func:`first` and :func:`led`; within these, no process may wait for another.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from .data.seeds import seeded
from .errors import CmcdError, ConfigError
from .started import started

T = TypeVar("T")
LONG = timedelta(days=30)
"""How long one may work while the others wait: they learn at once that it has ended, whichever way."""
POLL = 0.05
"""Seconds between two looks at whether all are here: signals are heard in between."""
GONE = ("closed by peer", "reset by peer", "socket closed", "broken pipe", "connection refused", "timed out")
"""What gloo says of a process that has ended."""
PATIENCE = 3.0
"""Seconds for which process 0, which keeps the store, stays after a failure: the others come to read who it was."""
KNOWN = ("find_unused_parameters=True", "Grad strides do not match", "`broadcast_buffers` is deprecated")
"""What torch warns of though it is meant: parameters may go unused, weights lie in channels-last order, and each
process has its own BatchNorm statistics."""


class OtherProcessError(CmcdError):
    """Another process of the run ended, and this one cannot go on without it.

    Attributes:
        told: Whether the other one has said why.
    """

    def __init__(self, message: str, hint: str, *, told: bool, exit_code: int = 1) -> None:
        super().__init__(message, hint)
        self.told = told
        self.exit_code = exit_code  # of the process that failed


@dataclass(frozen=True)
class Meeting:
    """Where processes meet beside the network's gradients: on the CPU, with patience.

    Attributes:
        group: All of them, over gloo, whatever the gradients go over.
        store: Who was the first to fail.
    """

    group: dist.ProcessGroup
    store: TCPStore


@cache  # torch keeps its groups for as long as the process lives, and so does this
def _meeting() -> Meeting:
    """All come here for the first time together, in :func:`join`."""
    group: Any = dist.new_group(backend="gloo", timeout=LONG)
    address, box = os.environ["MASTER_ADDR"], [0]
    store = None
    if dist.get_rank() == 0:
        store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
        box = [store.port]
    dist.broadcast_object_list(box, 0, group=group)
    return Meeting(group, store or TCPStore(address, box[0], is_master=False))


def several(fabric: Fabric | None) -> TypeGuard[Fabric]:
    """Whether this process is one of several that train together."""
    return fabric is not None and fabric.world_size > 1


def join(device: str, precision: Any, here: int) -> Fabric:
    """Fabric of ``here`` processes on this machine; where nobody has started the others, they are started now.

    Raises:
        ConfigError: They cannot be had.
    """
    now = started()
    if now.by == "user" and not _has_script():
        raise ConfigError(
            f"--devices {here}: the other processes would start this program again, and it has no file",
            "Put it into a script, or start it with torchrun.",
        )
    if device == "cuda" and torch.cuda.device_count() < here:
        raise ConfigError(f"--devices {here}: this machine has {torch.cuda.device_count()} GPUs")
    if device == "mps":
        raise ConfigError(f"--devices {here}: there is one MPS device", "Use --devices 1, or --device cpu.")
    for text in KNOWN:
        warnings.filterwarnings("ignore", message=f".*{text}")
    logging.getLogger("lightning_fabric.utilities").setLevel(logging.WARNING)
    strategy = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False, timeout=timedelta(hours=1))
    try:
        fabric = Fabric(
            accelerator=device, devices=here, num_nodes=now.machines, strategy=strategy, precision=precision,
            plugins=[_environment(now.by)],
        )  # fmt: skip
        fabric.launch()
        _meeting()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"--devices {here}: the processes do not come together: {error}") from error
    return fabric


def _has_script() -> bool:
    """Whether this program can be started again: what Fabric's launcher does."""
    main = sys.modules["__main__"]
    return main.__spec__ is not None or Path(sys.argv[0]).is_file()


def _environment(by: str) -> ClusterEnvironment:
    if by == "torchrun":
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if by == "srun" else LightningEnvironment()


# --- what each does of a batch


def share(fabric: Fabric, count: int) -> slice:
    """This process' rows of a batch of ``count``: parts in the order of the processes, of sizes that differ by one."""
    return _shares(count, fabric.world_size)[fabric.global_rank]


def _shares(count: int, processes: int) -> list[slice]:
    ends = [-(-count * number // processes) for number in range(processes + 1)]
    return [slice(*both) for both in pairwise(ends)]


def require_two_each(fabric: Fabric, smallest: int, flag: str) -> None:
    """BatchNorm needs two samples of each process in each step.

    Raises:
        ConfigError: The smallest batch of an epoch has fewer.
    """
    if several(fabric) and smallest < 2 * fabric.world_size:
        raise ConfigError(
            f"{flag} is over all processes: an epoch's smallest batch has {smallest} samples, and each of "
            f"{fabric.world_size} processes needs 2 of every batch",
            "Raise it, or take fewer processes.",
        )


def gathered(fabric: Fabric | None, own: Tensor, count: int) -> Tensor:
    """(n, …) rows of each process, in order -> (count, …) rows of all, on every process.

    The gradient of what is computed from them, alike on every process, goes back to the rows where they came from, so
    that the mean over processes of the networks' gradients, which Fabric takes, is the whole batch's.
    """
    return _Gather.apply(own, fabric, count) if several(fabric) else own


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, fabric: Fabric, count: int) -> Tensor:
        shares = _shares(count, fabric.world_size)
        ctx.rows, ctx.times = shares[fabric.global_rank], fabric.world_size
        most = max(rows.stop - rows.start for rows in shares)
        sent = own.new_zeros(most, *own.shape[1:])
        sent[: len(own)] = own
        flat = sent.flatten().view(torch.uint8)  # any type of number, over any backend
        parts = [torch.empty_like(flat) for _ in shares]
        dist.all_gather(parts, flat)
        whole = [part.view(own.dtype).view_as(sent) for part in parts]
        return torch.cat([part[: rows.stop - rows.start] for part, rows in zip(whole, shares, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.rows] * ctx.times, None, None


@contextmanager
def own_randomness(fabric: Fabric | None, seed: int | None) -> Iterator[None]:
    """Inside, a network's own randomness (dropout) is this process'; the stream that all share stays where it was."""
    if seed is None or not several(fabric):
        yield
        return
    with seeded(seed + fabric.global_rank):
        yield


# --- who goes first, and who decides


def meet(fabric: Fabric) -> None:
    """Wait for all; whoever is gone ends the waiting."""
    if not several(fabric):
        return
    work = dist.barrier(_meeting().group, async_op=True)
    while not work.is_completed():
        time.sleep(POLL)
    work.wait()


def told(fabric: Fabric, value: T) -> T:
    """Process 0's value, on every process."""
    if not several(fabric):
        return value
    meet(fabric)
    box = [value if fabric.is_global_zero else None]
    dist.broadcast_object_list(box, 0, group=_meeting().group)
    return box[0]  # type: ignore[return-value]


def led(fabric: Fabric, make: Callable[[], T]) -> T:
    """Process 0 does it; the others wait, and get what it returned."""
    return told(fabric, make() if fabric.is_global_zero else None)  # type: ignore[return-value]


@contextmanager
def first(fabric: Fabric) -> Iterator[None]:
    """Process 0 goes first, then one on each machine, then the rest: the caches that it fills are there for them."""
    turn = 0 if fabric.is_global_zero else 1 if fabric.local_rank == 0 else 2
    for _ in range(turn):
        meet(fabric)
    yield
    for _ in range(2 - turn):
        meet(fabric)


def agreed(fabric: Fabric, number: int) -> int:
    """The largest of all processes' numbers."""
    if not several(fabric):
        return number
    box = torch.tensor(number)
    dist.all_reduce(box, dist.ReduceOp.MAX, group=_meeting().group)
    return int(box)


# --- who tells what went wrong


@contextmanager
def telling(fabric: Fabric | None) -> Iterator[None]:
    """Inside, the first process that fails says why; the others end without a word.

    Raises:
        OtherProcessError: Another one failed.
    """
    try:
        yield
    except Exception as error:
        if several(fabric):
            _judge(fabric, error)
        raise


def _judge(fabric: Fabric, error: Exception) -> None:
    """Register what went wrong here, or find out what did elsewhere.

    Raises:
        OtherProcessError: It did elsewhere.
    """
    number = fabric.global_rank + 1
    try:
        failed = _first_to_fail(number, error)
    except RuntimeError:  # process 0 kept the store: its own word, or its launcher's, says what happened
        failed = ["1", "1"]
    if fabric.is_global_zero:
        _stay(others=fabric.world_size - 1)
    if failed and int(failed[0]) == number:
        if isinstance(error, CmcdError) and number > 1:
            error.message = f"process {number} of {fabric.world_size}: {error.message}"
        return
    if failed:
        raise OtherProcessError(
            f"process {failed[0]} of {fabric.world_size} failed", "", told=True, exit_code=int(failed[1])
        ) from error
    raise OtherProcessError(
        "another process of this run is gone: it was killed (out of memory?), or its machine does not answer",
        "The last checkpoint is kept: go on with --resume.", told=not fabric.is_global_zero,
    ) from error  # fmt: skip


def _first_to_fail(number: int, error: Exception) -> list[str]:
    """The number and exit code of who failed first, which may be this process; of nobody where one was lost."""
    store = _meeting().store
    if not _is_loss(error) and store.add("failures", 1) == 1:
        store.set("failed", f"{number} {getattr(error, 'exit_code', 1)}")
    failed = store.get("failed").decode().split() if store.check(["failures"]) else []
    store.add("read", number > 1)
    return failed


def _stay(others: int) -> None:
    """Until they have read who failed: a store that goes first leaves them to torch's own traceback."""
    end = time.monotonic() + PATIENCE
    while _meeting().store.add("read", 0) < others and time.monotonic() < end:
        time.sleep(POLL)


def _is_loss(error: Exception) -> bool:
    """Whether an error is about the connection to another process."""
    if isinstance(error, CmcdError) or not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return isinstance(error, dist.DistError) or ("gloo" in text and any(words in text for words in GONE))
