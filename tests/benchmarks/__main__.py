"""Every benchmark: ``python -m tests.benchmarks`` measures all and writes docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from .measuring import Found, Row
from .page import PAGE, add

ALL = {
    "teacher_cache": "distillation with a cached teacher",
    "training": "a training step",
    "data_path": "loading pairs",
    "losses": "contrastive losses",
    "probe": "linear evaluation",
    "choices": "what is chosen on this machine",
    "memory": "memory and the number of samples",
    "growth": "what costs grow with",
    "start_up": "the command line",
}
LONG = {"suite": "the default test run"}
"""Only measured when named."""
ENOUGH = 5
"""Repeats, at least, of what goes into the page."""
QUICK = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, each benchmark in a process of its own with an empty cache; print, and write the page after each. 1: one
    failed."""
    asked = parser().parse_args(arguments)
    if asked.inside:
        module = import_module(f".{asked.inside}", __package__)
        print(json.dumps(module.measure(asked.count, asked.quick).to_mapping()))
        return 0
    failed: list[str] = []
    count = QUICK if asked.quick else asked.repeats
    for name in asked.only or ALL:
        began = time.perf_counter()
        found = in_a_process(name, count, asked.quick)
        if found is None:
            failed.append(name)
            continue
        seconds = time.perf_counter() - began
        show(name, found, seconds)
        if not asked.quick:
            add(asked.page, {name: ({**ALL, **LONG}[name], found, seconds)})
            print(f"written: {asked.page}", file=sys.stderr)
    for name in failed:
        print(f"{name}: failed, see above", file=sys.stderr)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    known = {**ALL, **LONG}
    out.add_argument("--only", nargs="+", choices=known, metavar="NAME", help=f"these alone: {', '.join(known)}")
    out.add_argument("--repeats", type=enough, default=ENOUGH, help=f"of each side; {ENOUGH} by default")
    out.add_argument("--quick", action="store_true", help="small inputs and two repeats; no page is written")
    out.add_argument("--page", type=Path, default=PAGE, help="where the table goes")
    out.add_argument("--inside", help=argparse.SUPPRESS)
    out.add_argument("--count", type=int, help=argparse.SUPPRESS)
    return out


def enough(text: str) -> int:
    number = int(text)
    if number < ENOUGH:
        raise argparse.ArgumentTypeError(f"at least {ENOUGH}, or --quick")
    return number


def in_a_process(name: str, count: int, quick: bool) -> Found | None:
    """One benchmark: nothing that another one left in memory or in a cache helps or hinders it."""
    print(f"{name} …", file=sys.stderr)
    command = [sys.executable, "-m", "tests.benchmarks", "--inside", name, "--count", str(count)]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [*command, *(["--quick"] if quick else [])],
            stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "CMCD_CACHE": cache},
        )  # fmt: skip
    return Found.of(json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else None


def show(name: str, found: Found, seconds: float) -> None:
    print(f"{name} ({seconds:.0f} s)")
    for row in found.rows:
        print(f"  {mark(row):<4} {row.what}: {row.measured}{f'; goal {row.goal}' if row.goal else ''}")
        if row.beside:
            print(f"       {row.beside}")


def mark(row: Row) -> str:
    return "" if row.met is None else "ok" if row.met else "NOT"


if __name__ == "__main__":
    sys.exit(main())
