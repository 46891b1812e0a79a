"""The example of a task that is neither recognition nor segmentation: found, short, and fit for a run on the demo."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cmcd_core
import cmcd_core.plugin
from cmcd_core.catalog import load

EXAMPLE = Path(__file__).parents[1] / "examples" / "cmcd-plugin-counting"
MODULES = sorted((EXAMPLE / "cmcd_counting").glob("*.py"))
DEMO = {"train": 200, "val": 40, "test": 40, "seed": 5}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, laid_out: Callable[[Path, Path], None]) -> Path:
    """A site-packages folder with the example as pip would install it."""
    folder = tmp_path_factory.mktemp("site")
    laid_out(EXAMPLE, folder)
    return folder


def python(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(part for part in (str(site), os.environ.get("PYTHONPATH", "")) if part)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8")


def cmcd(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return python(site, cwd, "-c", "from cmcd_core.cli import main; main()", *words)


def test_short() -> None:
    lines = [line.strip() for file in MODULES for line in file.read_text(encoding="utf-8").splitlines()]
    assert 0 < len([line for line in lines if line and not line.startswith("#")]) < 60


def test_only_public_names() -> None:
    public = {"cmcd_core": cmcd_core.__all__, "cmcd_core.plugin": cmcd_core.plugin.__all__}
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.startswith("cmcd_")]
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("cmcd_"):
                assert {alias.name for alias in node.names} <= set(public[node.module or ""])


def test_listed_and_described(site: Path, tmp_path: Path) -> None:
    done = cmcd(site, tmp_path, "plugins", "list", "--json")
    row = next(row for row in json.loads(done.stdout) if row["plugin"] == "counting")
    assert (row["status"], row["reason"], row["provides"]) == ("ok", "", {"task": ["counting"]})
    assert (row["distribution"], row["version"]) == ("cmcd-plugin-counting", "0.1.0")
    done = cmcd(site, tmp_path, "plugins", "show", "counting")
    assert done.returncode == 0, done.stderr
    assert "background" in done.stdout


@pytest.mark.slow
def test_own_tests_pass(site: Path) -> None:
    words = ["-m", "pytest", "-p", "no:cacheprovider", str(EXAMPLE / "tests")]
    done = python(site, EXAMPLE.parents[1], *words)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def result(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small run on the demo data, by every protocol."""
    folder = tmp_path_factory.mktemp("counting")
    words = ["run", "--source", "image", "--target", "depth", "--task", "counting", "--device", "cpu", "--json"]
    words += [word for key, value in DEMO.items() for word in ("-o", f"data.{key}={value}")]
    words += ["--protocol", "linear", "--protocol", "finetune", "--protocol", "knn", "--label-draws", "1"]
    words += ["--labels", "20", "--labels", "100%", "--epochs", "2", "-o", "pretrain.epochs=1", "-o", "distill.views=1"]
    words += ["-o", "evaluate.train_steps=2", "-o", "evaluate.train_epochs=1", "-o", "run.size=32", "--out", "run"]
    done = cmcd(site, folder, *words)
    assert done.returncode == 0, done.stderr
    assert "knn left out" in done.stderr
    return {**json.loads(done.stdout), "folder": folder / "run"}


@pytest.mark.slow
def test_a_run_evaluates_every_encoder(result: dict[str, Any]) -> None:
    entries = result["evaluations"]
    found = {(e["encoder"], e["modality"], e["protocol"], e["labels"]): e for e in entries}
    kinds = [("distilled", "depth", "linear"), ("untrained", "depth", "linear"), ("source", "image", "linear")]
    kinds += [("distilled", "depth", "finetune"), ("scratch", "depth", "supervised")]
    assert found.keys() == {(*kind, labels) for kind in kinds for labels in ("20", "100%")}
    for (_, _, _, labels), entry in found.items():
        assert (entry["task"], entry["primary"], entry["per_class"]) == ("counting", "r2", False)
        assert (entry["n_train"], entry["n_test"]) == ({"20": 20, "100%": 200}[labels], 40)
        assert entry["metrics"].keys() == entry["intervals"].keys() == {"r2"}
        assert 0 <= entry["metrics"]["r2"] <= 1
        low, high = entry["intervals"]["r2"]
        assert 0 <= low <= high <= 1
    assert {row["over"] for row in result["comparisons"]} == {"untrained", "scratch"}
    assert (result["folder"] / "label-efficiency.png").is_file()


@pytest.mark.slow
def test_its_predictions_are_the_shares_of_the_masks(result: dict[str, Any]) -> None:
    loader = load().loader("demo")
    masks = {
        sample.key: np.asarray(sample.targets["mask"])
        for sample in loader.build(loader.options(**DEMO)).split("test")
    }  # fmt: skip
    digest = next(
        e["digest"] for e in result["evaluations"]
        if (e["encoder"], e["protocol"], e["labels"]) == ("distilled", "linear", "100%")
    )  # fmt: skip
    folder = next(
        file.parent for file in result["folder"].glob("evaluations/*/evaluation.json") if digest in file.read_text()
    )
    with np.load(folder / "predictions.npz") as found:
        keys, target, share = found["key"].tolist(), found["target"], found["share"]
    expected = [(mask[mask != 255] > 0).mean() for mask in (masks[key] for key in keys)]
    np.testing.assert_allclose(target, expected, rtol=1e-6)
    explained = 1 - ((share - target) ** 2).sum() / ((target - target.mean()) ** 2).sum()
    metrics = json.loads((folder / "evaluation.json").read_text())["metrics"]
    assert metrics["r2"] == pytest.approx(max(0, explained), abs=0.02)  # shares are predicted within 0 to 1
