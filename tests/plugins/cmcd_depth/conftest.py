"""Real data, where it is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(os.environ.get("CMCD_DATA") or Path(__file__).parents[4] / "shared" / "data")


@pytest.fixture
def data() -> Callable[[str], Path]:
    def folder(name: str) -> Path:
        if not (DATA / name).is_dir():
            pytest.skip(f"no {name} under {DATA}: set CMCD_DATA to the folder of real pairs to run this test")
        return DATA / name

    return folder
