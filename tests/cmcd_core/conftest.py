"""Fake distributions, as if they were installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).parents[1] / "data" / "fake_plugins"


@pytest.fixture
def fake_plugins(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the three fake distributions of tests/data on sys.path for one test."""
    monkeypatch.syspath_prepend(str(FAKES))
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        monkeypatch.delitem(sys.modules, name)
    return FAKES
