"""The conformance kit as plugin authors call it; every plugin of cmcd's own passes it."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cmcd_core import ConfigError, PluginError
from cmcd_core.catalog import load
from cmcd_core.testing import Finding, check_plugin

OWN = [plugin.name for plugin in load().plugins if plugin.distribution == "cmcd"]
DATA = {"folder", "shards", "demo"}
"""Loaders that are checked on data here; others have data sets that are not generated."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tars with four pairs each."""
    root = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        with tarfile.open(root / f"{split}-000000.tar", "w") as tar:
            for number in range(4):
                image, depth = rng.integers(255, size=(20, 24, 3)), rng.integers(500, 4000, size=(20, 24))
                for field, data in (
                    ("image.png", png(image.astype(np.uint8))),
                    ("depth.png", png(depth.astype(np.uint16))),
                    ("label.txt", (b"cup", b"hat")[number % 2]),
                ):
                    member = tarfile.TarInfo(f"{split}{number}.{field}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return root


def png(pixels: np.ndarray) -> bytes:
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "png")
    return buffer.getvalue()


@pytest.fixture
def options(tiny_folder: Path, shards: Path) -> dict[str, dict[str, Any]]:
    return {
        "demo": {"train": 60, "val": 20, "test": 20},
        "folder": {"root": tiny_folder},
        "shards": {"root": shards},
    }


@pytest.mark.parametrize("name", OWN)
def test_own_plugins_keep_the_contract(name: str, options: dict[str, dict[str, Any]]) -> None:
    parts = {part.name for _, _, part in load().called(name)}
    findings = check_plugin(name, options={key: value for key, value in options.items() if key in parts})
    skipped = {(f.name, f.check, f.why) for f in findings if f.outcome == "skipped"}
    unexplained = {s for s in skipped if "spatial is False" not in s[2] and not loader_without_data(findings, s[0])}
    assert not unexplained


def loader_without_data(findings: list[Finding], name: str) -> bool:
    return name not in DATA and any(f.name == name and f.why.startswith("no data set") for f in findings)


# --- the way in

GOOD = """
from cmcd_core.plugin import Field, Options, TaskPlugin, hookimpl

class CaseOptions(Options):
    level: float = Field(0.5, description="A level.")

def build(options):
    from case_parts import Case
    return Case()

@hookimpl
def cmcd_tasks():
    return [TaskPlugin(name="case", summary="A case.", options=CaseOptions, build=build)]
"""
PARTS = """
import torch
from torch import nn
from torchmetrics import MeanMetric, MetricCollection
from cmcd_core import Task

class Head(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.layer = nn.Linear(dim, 1)
    def forward(self, features):
        return self.layer(features.pooled)[:, 0]

class Near(MeanMetric):
    def update(self, output, target):
        super().update(1 - (output - target).abs().clamp(max=1))

class Case(Task):
    primary, target_name = "near", "level"
    def target(self, value):
        return torch.tensor(float(value))
    def stratum(self, target):
        return None
    def head(self, encoder, classes):
        return Head(encoder.dim)
    def loss(self, output, target):
        return (output - target).square().mean() {loss}
    def predict(self, output):
        return {{"level": output}}
    def metrics(self, classes):
        return MetricCollection({{"{metric}": Near()}})
"""


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs the plugin "case"."""

    def installed(loss: str = "", metric: str = "near", module: str = GOOD) -> None:
        for name in ("case_plugin", "case_parts"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / "case_plugin.py").write_text(module)
        (tmp_path / "case_parts.py").write_text(PARTS.format(loss=loss, metric=metric))
        info = tmp_path / "cmcd_plugin_case-1.0.dist-info"
        info.mkdir()
        requires = "Requires-Dist: cmcd>=0.1.0.dev0,<99\n"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: cmcd-plugin-case\nVersion: 1.0\n{requires}")
        (info / "entry_points.txt").write_text("[cmcd]\ncase = case_plugin\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    return installed


def test_what_is_returned(case: Callable[..., None]) -> None:
    case()
    findings = check_plugin("case")
    assert {(f.plugin, f.outcome) for f in findings} == {("case", "ok")}
    assert [f.kind for f in findings[:3]] == ["plugin", "plugin", "task"]
    assert check_plugin("case:case") == findings


def test_all_that_fails_is_in_one_error(case: Callable[..., None]) -> None:
    case(loss="* float('nan')", metric="far")
    with pytest.raises(AssertionError) as caught:
        check_plugin("case")
    text = str(caught.value)
    assert text.startswith("case: 2 of 14 checks failed")
    assert "task case: the loss is finite, with gradients for head and encoder\nthe loss is nan" in text
    assert "primary is 'near', and the metrics are far" in text


def test_samples_and_options_reach_the_part(case: Callable[..., None]) -> None:
    case()
    check_plugin("case", samples={"case": [0.1, 0.9]}, options={"case": {"level": 0.7}})
    with pytest.raises(AssertionError, match="could not convert string to float"):
        check_plugin("case", samples={"case": ["high"]})
    with pytest.raises(AssertionError, match="level"):
        check_plugin("case", options={"case": {"level": "high"}})


@pytest.mark.parametrize("argument", ["samples", "options"])
def test_samples_for_nobody_are_an_error(argument: str) -> None:
    given: Mapping[str, Any] = {argument: {"dept": {}}}
    with pytest.raises(ConfigError, match=f"{argument}: no part called 'dept' is checked\nThese are: depth."):
        check_plugin("depth", **given)


def test_an_unknown_name() -> None:
    with pytest.raises(PluginError, match="nothing called 'dept' is installed\nDid you mean 'depth'"):
        check_plugin("dept")


def test_a_plugin_that_does_not_load(fake_plugins: Path) -> None:
    with pytest.raises(AssertionError, match="exits: 1 of 1 checks failed\n\nplugin exits: it is loaded\nSystemExit"):
        check_plugin("exits")
    with pytest.raises(AssertionError, match="needs cmcd>=99"):
        check_plugin("too_new")


def test_importing_it_is_light() -> None:
    code = "import sys, cmcd_core.testing; print([n for n in ('torch', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
