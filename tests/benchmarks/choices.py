"""What cmcd chooses on this machine, beside the alternatives: memory format, precision, optimiser, compilation."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from cmcd_core import Encoder
from cmcd_core.choices import bfloat16_speed, choose, cpu_flags
from cmcd_core.config import RunSection

from .measuring import Found, Row, alternating, at_most, both_clocks, figure, middle, ratio, require
from .setting import encoder, modality, scenes

SIZE, COUNT = 64, 64


def measure(repeats: int, quick: bool) -> Found:
    """A training step of the default network on one batch, in each way."""
    bound, found = modality("image"), Found()
    batch = torch.from_numpy(scenes(16 if quick else COUNT, SIZE)[0]).float().div(255)
    last, first = torch.channels_last, torch.contiguous_format
    fused, plain = encoder(bound), encoder(bound).to(memory_format=first)
    require(bool((fused(batch).pooled - plain(batch).pooled).abs().max() < 1e-3), "the memory format changes nothing")
    taken = alternating(
        {
            "chosen": stepping(fused, batch.contiguous(memory_format=last), fused=True),
            "channels_first": stepping(plain, batch, fused=True),
            "for each": stepping(encoder(bound), batch.contiguous(memory_format=last), fused=False),
        },
        repeats,
    )
    chosen = taken["chosen"]
    found.rows += [
        at_most(
            "a training step, channels_last (chosen) / channels first", ratio(chosen, taken["channels_first"]), 1.05,
            both_clocks(chosen, taken["channels_first"]),
        ),
        at_most(
            "a training step, fused AdamW (chosen) / one operation at a time", ratio(chosen, taken["for each"]), 1.05,
            both_clocks(chosen, taken["for each"]),
        ),
    ]  # fmt: skip
    found.rows.append(precision())
    if not quick:
        found.rows.append(compiled(bound.modality.encoder(None, None), batch, repeats))
    return found


def stepping(network: Encoder, batch: Tensor, *, fused: bool) -> Callable[[], None]:
    """Three steps on one batch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=fused, foreach=None if fused else False)

    def go() -> None:
        for _ in range(3):
            optimizer.zero_grad()
            network(batch).pooled.square().mean().backward()
            optimizer.step()

    return go


def precision() -> Row:
    """The probe's answer and what follows from it."""
    speed, choice = bfloat16_speed(), choose(RunSection(device="cpu"))
    right = choice.precision == ("bf16-mixed" if speed >= 1.5 and choice.precision == "bf16-mixed" else "32-true")
    flags = ", ".join(sorted(flag for flag in cpu_flags() if "bf16" in flag)) or "no bfloat16 instructions"
    return Row(
        "speed of a bfloat16 matrix product / float32's", figure(speed), "bfloat16 is not chosen below 1.5", right,
        f"{flags}; chosen: {choice.precision}",
    )  # fmt: skip


def compiled(network: Encoder, batch: Tensor, repeats: int) -> Row:
    """torch.compile: what it gains a step, what it takes, and after how many steps that is made up for."""
    what = "a training step, torch.compile / as it is (chosen)"
    batch = batch.contiguous(memory_format=torch.channels_last)
    network = network.to(memory_format=torch.channels_last)
    as_it_is = stepping(network, batch, fused=True)
    try:
        other = stepping(torch.compile(network), batch, fused=True)  # type: ignore[arg-type]
        start = time.perf_counter()
        other()
        took = time.perf_counter() - start
    except Exception as error:  # no compiler, or a Python that is not supported
        return Row(what, "not possible here", beside=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    taken = alternating({"as it is": as_it_is, "compiled": other}, repeats)
    gain = (middle(taken["as it is"]) - middle(taken["compiled"])) / 3
    after = f"made up for after {took / gain:,.0f} steps" if gain > 0 else "never made up for"
    return Row(what, str(ratio(taken["compiled"], taken["as it is"])), beside=f"compiling takes {took:.0f} s: {after}")
