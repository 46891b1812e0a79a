"""What the command line costs before it does anything, in CPU seconds above a bare Python."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

from .measuring import Found, Row, figure, require

MAIN = "from cmcd_core.cli import main; main()"
COMMANDS = (("cmcd --help", ["--help"], 0.15), ("cmcd plugins list", ["plugins", "list"], 0.6))
DRY = ["run", "--source", "image", "--target", "depth", "--dry-run"]


def measure(repeats: int, quick: bool) -> Found:
    """Each command and a bare Python in turn."""
    require("torch" not in imported(DRY), "a dry run does without torch")
    require(not {"torch", "pydantic", "numpy"} & set(imported(["--help"])), "help does without torch and pydantic")
    found = Found([Row("`cmcd run --dry-run` imports torch", "no", "no", True)])
    for name, words, limit in COMMANDS:
        pairs = [(cpu_seconds(["-c", "pass"]), cpu_seconds(["-c", MAIN, *words])) for _ in range(repeats + 1)][1:]
        above = [command - bare for bare, command in pairs]
        low, middle, high = min(above), statistics.median(above), max(above)
        found.rows.append(
            Row(
                f"`{name}`: CPU seconds above bare Python", f"{figure(middle)} ({figure(low)} to {figure(high)})",
                f"≤ {limit}", middle <= limit, f"bare Python {figure(statistics.median(bare for bare, _ in pairs))} s",
            )
        )  # fmt: skip
    torch = statistics.median(cpu_seconds(["-c", "import torch"]) for _ in range(1 if quick else 3))
    found.rows.append(Row("beside: `import torch` alone", f"{figure(torch)} s"))
    return found


def cpu_seconds(words: Sequence[str]) -> float:
    """Of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def imported(words: Sequence[str]) -> list[str]:
    """Modules that a command has loaded by its end."""
    code = f"import atexit, sys; atexit.register(lambda: print('\\nMODULES', *sys.modules)); {MAIN}"
    done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1].split()[1:]
