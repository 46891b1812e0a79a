"""Objectives see the whole batch, whichever process made its rows, and the gradient finds its way back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parent))  # pytest's importlib mode leaves test folders out
from launching import ended, start
from part import meetings, objectives

from cmcd_core import ConfigError, RunConfig
from cmcd_core.catalog import load
from cmcd_core.processes import share
from cmcd_core.progress import Progress
from cmcd_core.resolve import resolve
from cmcd_core.stages.training import shuffled_batches
from cmcd_core.started import Started, started, wanted
from cmcd_core.workbench import Workbench, make_fabric

CLOSE = 1e-6


def results(count: int, work: Callable[..., None], out: Path) -> list[Any]:
    """What each of ``count`` processes found."""
    out.mkdir()
    assert ended(start(count, work, count, str(out))) == [0] * count
    return [torch.load(out / f"{rank}.pt") for rank in range(count)]


def test_every_objective_is_the_same_on_one_two_and_three_processes(tmp_path: Path) -> None:
    (alone,) = results(1, objectives, tmp_path / "1")
    assert len(alone) >= 25
    for count in (2, 3):
        parts = results(count, objectives, tmp_path / str(count))
        for name, steps in alone.items():
            for number, (loss, gradients) in enumerate(steps):
                here = [part[name][number] for part in parts]
                for found, _ in here:
                    torch.testing.assert_close(found, loss, rtol=CLOSE, atol=CLOSE, msg=lambda m, n=name: f"{n}: {m}")
                for key, gradient in gradients.items():
                    every = [found[key] for _, found in here]
                    for each in [torch.cat(every)] if key.startswith("own.") else every:
                        torch.testing.assert_close(
                            each, gradient, rtol=CLOSE, atol=CLOSE, msg=lambda m, n=name, k=key: f"{n}, {k}: {m}"
                        )


def test_processes_meet(tmp_path: Path) -> None:
    found = results(3, meetings, tmp_path / "3")
    assert [part["before"] for part in found] == [0, 1, 1]
    assert {part["said"] for part in found} == {"from 0"}
    assert {part["largest"] for part in found} == {20}
    assert all(all(part["whole"].values()) for part in found)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_every_sample_of_an_epoch_goes_to_one_process(processes: int) -> None:
    """Samples are shared, not files: that there are fewer shards than processes changes nothing."""
    for batch in shuffled_batches(103, 20, seed=1, epoch=2):
        alike: list[Any] = [SimpleNamespace(world_size=processes, global_rank=rank) for rank in range(processes)]
        parts = [batch[share(fabric, len(batch))] for fabric in alike]
        assert np.array_equal(np.concatenate(parts), batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_augmentation_is_a_sample_s_own(tiny_folder: Path) -> None:
    """A process makes of its rows what one alone would have made of them."""
    config = RunConfig(source="image", target="depth", data=str(tiny_folder), run={"device": "cpu", "size": 24})
    resolved = resolve(config, load(), ("pretrain", "distill"))
    bench = Workbench.of(resolved, make_fabric(config.run)[0], Progress(), print)
    rows = np.arange(11)
    for side in ("source", "target"):
        views = bench.views("distill", side, "train")  # type: ignore[arg-type]
        whole = views.augmented(rows, 5, area_min=0.3, flip=True)
        parts = [views.augmented(rows, 5, area_min=0.3, flip=True, own=own) for own in (slice(0, 4), slice(4, 11))]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)


def test_what_a_launcher_left() -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    srun = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3"}
    assert started(torchrun) == Started("torchrun", 5, 4, 2)
    assert started(srun) == Started("srun", 3, 4, 2)
    assert started({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) == Started(), "sbatch alone starts one process"
    assert started({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}) == Started("fabric", 1, 2)
    assert [wanted(devices, torchrun) for devices in (None, 4)] == [4, 4]
    assert [wanted(devices, {}) for devices in (None, 3)] == [1, 3]
    with pytest.raises(ConfigError, match="--devices 2: torchrun started 4 processes"):
        wanted(2, torchrun)
