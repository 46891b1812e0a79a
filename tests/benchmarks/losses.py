"""Peak memory and time of the losses, whole and in tiles, beside those of other libraries.

    python tests/benchmarks/losses.py

Each row is measured in a process of its own: the resident memory that forward and backward add at their peak, beyond
inputs and gradients, and the median time of both. open_clip and lightly are measured where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]

OTHERS = {"open_clip ClipLoss": "open_clip", "lightly NTXentLoss": "lightly"}
BOTH_LEARN = ("nt_xent", "lightly NTXentLoss")
LARGE = 32_768
CLEAR = Path("/proc/self/clear_refs")


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
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=0.1)


def peak() -> float:
    """Highest resident memory up to now, in MiB."""
    if CLEAR.exists():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(name: str, form: str, n: int, d: int, repeats: int) -> dict[str, float]:
    """Added memory of the first call in MiB and the median seconds of ``repeats`` more; of the first where 0."""
    loss = theirs(name) if name in OTHERS else ours(name, form)
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, d, generator=generator)
    b = (a + torch.randn(n, d, generator=generator)).requires_grad_()
    a.requires_grad_(name in BOTH_LEARN)
    loss(a[:64].detach(), b[:64].detach().requires_grad_()).backward()  # what libraries set up once
    if CLEAR.exists():
        CLEAR.write_text("5")
    before = peak()

    def run() -> float:
        a.grad = b.grad = None
        start = time.perf_counter()
        loss(a, b).backward()
        return time.perf_counter() - start

    first = run()
    gradients = sum(x.grad.nbytes for x in (a, b) if x.grad is not None) / 2**20
    added = peak() - before - gradients
    return {"mib": added, "seconds": statistics.median([run() for _ in range(repeats)] or [first])}


def in_a_process(name: str, form: str, arguments: argparse.Namespace, n: int, repeats: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", name, form, "--n", str(n), "--repeats", str(repeats)]
    command += ["--d", str(arguments.d), "--threads", str(arguments.threads)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(result.stdout)
    return measured


def table(arguments: argparse.Namespace) -> None:
    """Measure all rows and print them."""
    rows = [(name, form, arguments.n) for name in arguments.losses for form in ("naive", "tiled")]
    rows += [(name, "", arguments.n) for name in OTHERS]
    rows += [(name, "tiled", arguments.large) for name in arguments.losses if arguments.large]
    shown = Table("loss", "form", "N", "added MiB", "of one N x N", "seconds")
    for name, form, n in rows:
        module = OTHERS.get(name)
        if module is not None and importlib.util.find_spec(module) is None:
            shown.add_row(name, "", f"{n:,}", "not installed: pip install open_clip_torch lightly", "", "")
            continue
        repeats = arguments.repeats if n == arguments.n else 0
        found = in_a_process(name, form, arguments, n, repeats)
        share = found["mib"] / (n * n * 4 / 2**20)
        shown.add_row(name, form, f"{n:,}", f"{found['mib']:,.1f}", f"{share:.3f}", f"{found['seconds']:.2f}")
        print(name, form, f"N={n}", file=sys.stderr)
    Console(width=120).print(shown)
    print(f"float32, D = {arguments.d}, {arguments.threads} thread(s), torch {torch.__version__}")


def main() -> None:
    names = ["cmd", "cmd source anchors", "cmc", "siglip", "nt_xent"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=8192, help="pairs in the batch")
    parser.add_argument("--d", type=int, default=256, help="width of the features")
    parser.add_argument("--large", type=int, default=LARGE, help="a batch for the tiled form alone; 0 leaves it out")
    parser.add_argument("--repeats", type=int, default=3, help="calls to time after the first, but for --large")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--losses", nargs="+", choices=names, default=names)
    parser.add_argument("--measure", nargs=2, metavar=("LOSS", "FORM"), help="one row, as JSON, in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure, arguments.n, arguments.d, arguments.repeats)))
    else:
        table(arguments)


if __name__ == "__main__":
    main()
