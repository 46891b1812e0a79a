"""How long the default test run takes on two workers."""

from __future__ import annotations

import subprocess
import sys
import time

from .measuring import Found, Row

LIMIT = 8 * 60


def measure(repeats: int, quick: bool) -> Found:
    """Once: it takes minutes."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pytest", "-n", "2"], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "it said nothing"
    met = seconds <= LIMIT and done.returncode == 0
    return Found([Row("`python -m pytest -n 2`: seconds", f"{seconds:.0f}", f"≤ {LIMIT}", met, last)])
