"""What the README promises of the bare command, checked as a user would see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmcd_core import RunConfig, run


@pytest.mark.slow
def test_distillation_pays_on_the_demo(tmp_path: Path) -> None:
    """Same labels, same test scenes: distilled beats scratch by 5 points at least, its paired interval above 0."""
    result = run(RunConfig(source="image", target="depth", run={"seed": 0, "out": tmp_path / "run"}))
    found = next(entry for entry in result.values["comparisons"] if entry["over"] == "scratch")
    assert found["difference"] >= 0.05
    assert found["interval"][0] > 0
    for encoder in ("distilled", "scratch", "untrained", "source"):
        assert result.metric(encoder) < 0.9  # nothing is solved
