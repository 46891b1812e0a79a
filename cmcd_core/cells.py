"""The cells of a comparison: independent runs, spread over the cores of this machine or over several machines."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from joblib import Parallel, delayed, parallel_config

from .config import RunConfig
from .cores import usable_cores
from .errors import CmcdError, ConfigError
from .grammar import merge
from .pipeline import run
from .run_folder import RunFolder

DEATHS = 2
"""A cell whose worker died so often is given up."""


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    ``first``: the folder name, but for its seed, of the run that makes the baselines; None: it is this one.
    """

    variant: str
    number: int
    folder: Path
    values: Mapping[str, Any]
    first: str | None

    @property
    def title(self) -> str:
        return f"{self.variant}, seed {self.values['run']['seed']}"

    @property
    def under_way(self) -> bool:
        """Begun, and not finished."""
        folder = RunFolder(self.folder)
        return folder.config_file.exists() and not folder.result_file.exists()


@dataclass(frozen=True)
class Spread:
    """Where cells run.

    Attributes:
        backend: joblib's: loky, processes on this machine; dask, the workers of the scheduler that dask is configured
            for (DASK_SCHEDULER_ADDRESS), else of a cluster on this machine.
        jobs: Cells that run side by side, each with its share of the cores.
    """

    backend: Literal["loky", "dask"] = "loky"
    jobs: int = 1

    def outcomes(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, str]]:
        """Each cell once it is done, with what went wrong, if anything did.

        Where a worker process dies, its cell goes on in another, from where it was.
        """
        deaths, waiting = Counter[Path](), {cell.folder: cell for cell in cells}
        with self._workers() as (settings, died):
            while waiting:
                try:
                    for folder, problem in _begun(list(waiting.values()), settings):
                        yield waiting.pop(folder), problem
                except died:
                    deaths.update([folder for folder, cell in waiting.items() if cell.under_way] or waiting)
                    for folder in [folder for folder in waiting if deaths[folder] >= DEATHS]:
                        yield waiting.pop(folder), "its worker process was killed twice (out of memory?)"

    @contextmanager
    def _workers(self) -> Iterator[tuple[Settings, tuple[type[Exception], ...]]]:
        """What cells are run with, and the errors that say that a worker died."""
        threads = max(1, usable_cores() // self.jobs) if self.jobs > 1 else None
        if self.backend == "loky":
            with parallel_config("loky", n_jobs=self.jobs):
                yield Settings(threads), (BrokenProcessPool,)
            return
        try:
            import dask
            from distributed import Client, KilledWorker
        except ImportError:
            raise ConfigError("--backend dask: dask is not installed", "pip install 'cmcd[dask]'") from None
        elsewhere = dask.config.get("scheduler-address", None)
        local = {"n_workers": self.jobs, "threads_per_worker": 1, "dashboard_address": None}
        made: Any = Client
        with made(**({} if elsewhere else local)) as client, parallel_config("dask", wait_for_workers_timeout=60):
            busy = [w for w, about in client.scheduler_info(n_workers=-1)["workers"].items() if about["nthreads"] > 1]
            if busy:
                raise ConfigError(
                    f"--backend dask: worker {busy[0]} runs several tasks in one process, and a run needs its own",
                    "Start the workers with `dask worker ADDRESS --nthreads 1 --nworkers N`.",
                )
            yield Settings(None if elsewhere else threads or usable_cores(), Path.cwd()), (KilledWorker,)


@dataclass(frozen=True)
class Settings:
    """What a worker process is told.

    Attributes:
        threads: Of torch in it; None: as they are.
        where: Folder that relative paths start from; None: it is there already.
    """

    threads: int | None = None
    where: Path | None = None


def _begun(cells: Sequence[Cell], settings: Settings) -> Iterator[tuple[Path, str]]:
    """The folder of each cell once it is done, and what went wrong."""
    with warnings.catch_warnings():
        # A worker that has grown ends after its cell, and another takes its place: joblib says so each time.
        warnings.filterwarnings("ignore", message="A worker stopped", category=UserWarning)
        work = Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")
        yield from work(delayed(_in_worker)(cell, settings) for cell in cells)


def _in_worker(cell: Cell, settings: Settings) -> tuple[Path, str]:
    if settings.where is not None:
        os.chdir(settings.where)
    if settings.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)
        import torch

        torch.set_num_threads(settings.threads)
    return cell.folder, run_cell(cell)


def run_cell(cell: Cell) -> str:
    """Run or finish one cell; what went wrong, or nothing."""
    siblings = [] if cell.first is None else [cell.folder.parent / f"{cell.first}-s{cell.number}"]
    try:
        go_on(cell.values, cell.folder, siblings=siblings)
    except CmcdError as error:
        return str(error)
    except Exception as error:  # one objective's bug must not take the other cells down
        return f"{type(error).__name__}: {error}"
    return ""


def go_on(values: Mapping[str, Any], folder: Path, **options: Any) -> None:
    """Run a configuration in a folder, from where it was."""
    config = RunConfig.from_mapping(merge(dict(values), {"run": {"out": str(folder)}}))
    run(config, resume=RunFolder(folder).config_file.exists(), **options)
