"""Parts that break one rule each, and a way to ask the kit about them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from cmcd_core.catalog import Plugin, load
from cmcd_core.conformance.findings import Check, Finding, Subject, run_checks


@pytest.fixture
def about() -> Callable[[Sequence[Check], Subject, str], Finding]:
    """``about(checks, subject, "decode gives")``: what the one check of this title finds."""

    def asked(checks: Sequence[Check], subject: Subject, title: str) -> Finding:
        (check,) = [check for check in checks if check[0].startswith(title)]
        (finding,) = run_checks([check], subject, "part")
        return finding

    return asked


@pytest.fixture
def plugin_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Plugin]:
    """A plugin from its source text, found under sys.path as an installed one is."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def loaded(source: str, name: str = "conformance_case") -> Plugin:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        (plugin,) = load([EntryPoint("case", name, "cmcd")]).plugins
        assert plugin.status == "ok", plugin.reason
        return plugin

    return loaded
