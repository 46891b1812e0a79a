"""What each process of the tests does."""

from __future__ import annotations

import os
from typing import Any

import cmcd_objectives
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cmcd_core import Features, Widths
from cmcd_core.processes import agreed, first, gathered, join, led, share
from cmcd_core.stages.weighted_sum import WeightedSum

BATCH, WIDTH, DENSE, PAIRS = 48, 12, 8, 96
WITH_QUEUES: dict[str, dict[str, Any]] = {
    "cmd": {"queue": 64},
    "cmd of sources": {"anchors": "source", "queue": 64},
    "cmc": {"queue": 64},
    "seed": {"queue": 64},
    "compress": {"queue": 64, "variant": "2q"},
    "crd": {"negatives": 32, "width": 16},  # it draws: the same negatives on every process
}


def fabric_of(count: int) -> Fabric:
    return join("cpu", "32-true", count) if count > 1 else Fabric(accelerator="cpu", devices=1)


def objectives(count: int, out: str) -> None:
    """Each objective's losses and gradients over three steps, in double precision."""
    fabric = fabric_of(count)
    found = {}
    for plugin in cmcd_objectives.cmcd_objectives():
        for case in [name for name in WITH_QUEUES if name.split()[0] == plugin.name] or [plugin.name]:
            options = plugin.options(**WITH_QUEUES.get(case, {}))
            found[case] = _three_steps(fabric, plugin.build, options)
    torch.save(found, f"{out}/{fabric.global_rank}.pt")


def _three_steps(fabric: Fabric, build: Any, options: Any) -> list[tuple[Tensor, dict[str, Tensor]]]:
    torch.manual_seed(0)
    widths = Widths(source=WIDTH, target=WIDTH, source_dense=DENSE, target_dense=DENSE)
    objective = WeightedSum([(1.0, "one", build(options, widths))])
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    everyone, group = draw(PAIRS, WIDTH), torch.arange(PAIRS) // 2
    maps = draw(PAIRS, DENSE, 3, 3).float()
    bank = Features(pooled=everyone.float(), dense=maps, index=torch.arange(PAIRS), group=group)
    objective.attach(nn.Identity(), nn.Identity(), bank=bank, pairs=PAIRS, steps=9)  # type: ignore[arg-type]
    objective.double().train()
    out = []
    for _ in range(3):
        index = torch.randperm(PAIRS, generator=generator)[:BATCH]
        about = {"index": index, "group": group[index], "weight": torch.rand(BATCH, generator=generator).double()}
        source = Features(pooled=everyone[index], dense=draw(BATCH, DENSE, 3, 3), **about)
        rows, valid = share(fabric, BATCH), torch.rand(BATCH, 3, 3, generator=generator).double()
        pooled, dense, momentum = draw(BATCH, WIDTH), draw(BATCH, DENSE, 3, 3), draw(BATCH, WIDTH)
        own = {name: x[rows].clone().requires_grad_() for name, x in (("pooled", pooled), ("dense", dense))}
        given = {name: gathered(fabric, x, BATCH) for name, x in own.items()}
        loss = objective(
            source,
            Features(
                momentum=gathered(fabric, momentum[rows], BATCH), valid=gathered(fabric, valid[rows], BATCH),
                **given, **about,
            ),
        )  # fmt: skip
        objective.zero_grad()
        loss.backward()
        gradients = {f"own.{name}": x.grad / fabric.world_size for name, x in own.items() if x.grad is not None}
        gradients |= {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
        objective.after_step()
        out.append((loss.detach(), gradients))
    return out


def meetings(count: int, out: str) -> None:
    """Who goes first, who decides, and how rows come together."""
    fabric = fabric_of(count)
    rank, marks = fabric.global_rank, os.path.join(out, "marks")
    with first(fabric):
        before = os.listdir(out).count("marks")
        if rank == 0:
            os.mkdir(marks)
    said = led(fabric, lambda: f"from {rank}")
    largest = agreed(fabric, 10 * rank)
    whole = {}
    for kind in (torch.float64, torch.bfloat16, torch.int64, torch.bool):
        for rows in (count, 7, 48):
            x = (torch.arange(rows * 6).view(rows, 3, 2) % 5).to(kind)
            whole[f"{kind} {rows}"] = torch.equal(gathered(fabric, x[share(fabric, rows)], rows), x)
    torch.save({"before": before, "said": said, "largest": largest, "whole": whole}, f"{out}/{rank}.pt")
