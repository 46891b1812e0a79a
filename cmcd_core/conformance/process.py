"""A plugin in a new process: nothing of this one's state reaches it, and nothing is pickled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..catalog import Plugin
from .findings import Failed

TIMEOUT = 300.0


def in_new_process(plugin: Plugin, job: Mapping[str, Any]) -> Any:
    """What ``python -m cmcd_core.conformance.worker`` answers to a job.

    Raises:
        Failed: The plugin fails there, or takes longer than five minutes.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        words = {**job, "plugin": plugin.name, "module": plugin.module, "answer": str(answer)}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "cmcd_core.conformance.worker"],
                input=json.dumps(words), env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
                timeout=TIMEOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failed(f"in a new process it takes longer than {TIMEOUT:.0f} s") from None
        if done.returncode or not answer.is_file():
            said = done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}"]
            raise Failed(f"in a new process: {said[-1]}")
        return json.loads(answer.read_text(encoding="utf-8"))
