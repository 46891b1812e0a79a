"""Contrastive losses, whole and in tiles, beside those of open_clip, lightly and pytorch-metric-learning.

Each is measured in a process of its own: the resident memory that forward and backward add at their peak, beyond inputs
and gradients. Times are then taken in turn within one process.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cmcd_core.cli.machine import machine_memory

from .measuring import Found, Ratio, Row, alternating, at_most, both_clocks, figure, middle, ratio, require

Loss = Callable[[Tensor, Tensor], Tensor]

PEERS = {
    "open_clip ClipLoss": ("open_clip", "open_clip_torch", "cmc"),
    "lightly NTXentLoss": ("lightly", "lightly", "nt_xent"),
    "pytorch-metric-learning NTXentLoss": ("pytorch_metric_learning", "pytorch-metric-learning", "nt_xent"),
}
"""Name -> module, package, and which of our losses computes the same."""
MATRICES = {"open_clip ClipLoss": 4.5, "lightly NTXentLoss": 17.0}
"""N x N matrices that a peer takes: it is not tried where there is no room for them."""
LOSSES = ("cmd", "cmd source anchors", "cmc", "siglip", "nt_xent")
WIDTH, SIZES, SMALL = 256, (8192, 32_768), 128
"""Features; batches; and one that every peer can do, pytorch-metric-learning's memory growing with N cubed."""
WIDTH_OF_LARGE, OF_LARGE = 64, ("cmd", "cmc")
"""What is measured of the larger batch, where one pass takes many seconds."""
CLEAR = Path("/proc/self/clear_refs")
REPOSITORY = Path(__file__).parents[2]


def measure(repeats: int, quick: bool) -> Found:
    """Gradients first, then memory, then time."""
    found = Found()
    for name, (module, package, own) in PEERS.items():
        if importlib.util.find_spec(module) is None:
            found.rows.append(Row(f"{name}: left out", "not installed", beside=f"pip install {package}"))
            continue
        n = SMALL if module == "pytorch_metric_learning" or quick else 2048
        require(apart(own, name, n) < 1e-5, f"{own} and {name} have the same gradients at N = {n}")
        found.rows += timed(own, name, SMALL if module == "pytorch_metric_learning" else SIZES[0], repeats, quick)
    for size in SIZES[:1] if quick else SIZES:
        for name in ("cmc",) if quick else LOSSES if size == SIZES[0] else OF_LARGE:
            taken = in_a_process(name, 1024 if quick else size)
            share = taken["mib"] / (taken["n"] ** 2 * 4 / 2**20)
            beside = f"{taken['mib']:.0f} MiB beyond inputs and gradients, D = {WIDTH}"
            what = f"{name}, N = {taken['n']:,}: added peak memory / one N x N float32 matrix"
            limit = 1.0 if quick else 1 / 8
            found.rows.append(at_most(what, Ratio(share, share, share), limit, beside))
    if not quick:
        found.rows += timed("cmc", "open_clip ClipLoss", SIZES[1], repeats, quick)
    return found


def timed(own: str, name: str, n: int, repeats: int, quick: bool) -> list[Row]:
    """One of ours and a peer in turn, forward and backward."""
    if importlib.util.find_spec(PEERS[name][0]) is None:
        return []
    n, width = (min(n, 1024) if quick else n), WIDTH_OF_LARGE if n > SIZES[0] else WIDTH
    what = f"{own} / {name}, N = {n:,}, D = {width}: seconds of forward and backward"
    needed, (_, free) = MATRICES.get(name, 0) * n * n * 4, machine_memory()
    if free is not None and needed > 0.9 * free:
        return [Row(what, "the other side does not fit", "≤ 1.10", True, f"it needs {needed / 1e9:.0f} GB")]
    a, b = inputs(n, width, both=own == "nt_xent")
    sides = {side: partial(go, loss, a, b) for side, loss in (("ours", ours(own, "tiled")), ("theirs", theirs(name)))}
    taken = alternating(sides, repeats, warm=n <= SMALL)
    one, other = taken["ours"], taken["theirs"]
    beside = f"{figure(middle(one))} and {figure(middle(other))} s; {both_clocks(one, other)}"
    return [at_most(what, ratio(one, other), 1.1, beside)]


def inputs(n: int, width: int, *, both: bool) -> tuple[Tensor, Tensor]:
    """Pairs that resemble each other; ``both`` sides learn, or the second alone."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, width, generator=generator)
    b = (a + torch.randn(n, width, generator=generator)).requires_grad_()
    return a.requires_grad_(both), b


def go(loss: Loss, a: Tensor, b: Tensor) -> None:
    a.grad = b.grad = None
    loss(a, b).backward()


def ours(name: str, form: str) -> Loss:
    """One of this package's losses, in the form that is asked for at any size."""
    from cmcd_objectives import functional as f
    from cmcd_objectives.functional import tiles

    tiles.TILED_FROM = 0 if form == "tiled" else sys.maxsize
    losses: dict[str, Loss] = {
        "cmd": lambda a, b: f.cmd(a, b),
        "cmd source anchors": lambda a, b: f.cmd(a, b, anchors="source"),
        "cmc": lambda a, b: f.cmc(a, b),
        "siglip": lambda a, b: f.siglip(a, b, scale=10, bias=-10),
        "nt_xent": lambda a, b: f.nt_xent(a, b, temperature=0.1),
    }
    return losses[name]


def theirs(name: str) -> Loss:
    """Another library's; open_clip leaves the normalisation to its callers."""
    if name == "open_clip ClipLoss":
        from open_clip.loss import ClipLoss

        clip, scale = ClipLoss(), torch.tensor(1 / 0.07)
        return lambda a, b: clip(F.normalize(a, dim=1), F.normalize(b, dim=1), scale)
    if name == "lightly NTXentLoss":
        from lightly.loss import NTXentLoss

        return NTXentLoss(temperature=0.1)
    from pytorch_metric_learning.losses import NTXentLoss as Triples
    from pytorch_metric_learning.losses import SelfSupervisedLoss

    return SelfSupervisedLoss(Triples(temperature=0.1))


def apart(own: str, name: str, n: int) -> float:
    """The largest difference of two losses' gradients, over the largest of them; in float64, where rounding is no
    excuse (float32 rounds the peers' own by up to 4e-5)."""
    gradients = []
    for loss in (ours(own, "tiled"), theirs(name)):
        a, b = (x.detach().double().requires_grad_(x.requires_grad) for x in inputs(n, WIDTH, both=own == "nt_xent"))
        go(loss, a, b)
        gradients.append(torch.cat([x.grad for x in (a, b) if x.grad is not None]))
    return float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max())


def peak() -> float:
    """Highest resident memory up to now, in MiB."""
    if CLEAR.exists():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def added_memory(name: str, n: int) -> dict[str, float]:
    """MiB that one forward and backward pass adds at its peak, beyond inputs and gradients."""
    loss = ours(name, "tiled")
    a, b = inputs(n, WIDTH, both=name == "nt_xent")
    loss(a[:64].detach(), b[:64].detach().requires_grad_()).backward()  # what libraries set up once
    if CLEAR.exists():
        CLEAR.write_text("5")
    before = peak()
    go(loss, a, b)
    gradients = sum(x.grad.nbytes for x in (a, b) if x.grad is not None) / 2**20
    return {"mib": peak() - before - gradients, "n": n}


def in_a_process(name: str, n: int) -> dict[str, int]:
    """:func:`added_memory` where nothing was allocated before."""
    code = (
        f"import json; from tests.benchmarks.losses import added_memory; print(json.dumps(added_memory({name!r}, {n})))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, cwd=REPOSITORY)
    measured: dict[str, int] = json.loads(done.stdout)
    return measured
