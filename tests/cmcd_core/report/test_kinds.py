"""Every kind of run gives a page: single steps, one modality twice, several teachers, sounds, masks, own modules."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from cmcd_core import RunConfig, distill, run
from cmcd_core.report.page import write_report

from .conftest import Page

SHORT: dict[str, Any] = {
    "data": {"loader": "demo", "train": 40, "val": 20, "test": 20},
    "pretrain": {"epochs": 1},
    "distill": {"epochs": 1, "views": 2},
    "evaluate": {"baselines": "none", "label_draws": 1, "labels": "2"},
}


def config(out: Path, **changed: Any) -> RunConfig:
    values = {"source": "image", "target": "depth", **SHORT, **changed, "run": {"size": 32, "out": str(out)}}
    return RunConfig.from_mapping(values)


def sections(page: Page) -> set[str]:
    return {element.attributes["id"] for element in page.all("section")}


def test_step_by_step(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = config(out, target=None)
    run(first, steps=("pretrain",))
    page = Page.of(out / "report.html")
    assert page.one("h1").words == "Step 1 is done: there is a source encoder of image"
    assert {"learning", "data", "repeat", "cost"} <= sections(page)
    assert f"cmcd pretrain -c {out}/config.toml --out AGAIN" in [element.words for element in page.all("code")]
    run(config(out), resume=True, steps=("pretrain", "distill"))
    assert {"map", "retrieval", "distance"} <= sections(Page.of(out / "report.html"))
    there = tomllib.loads((out / "config.toml").read_text())
    run(RunConfig.from_mapping({**there, "run": {**there["run"], "out": str(out)}}), resume=True, steps=("evaluate",))
    page = Page.of(out / "report.html")
    assert {"map", "retrieval", "distance", "labels", "predictions"} <= sections(page)
    assert "over an untrained network" in page.one("h1").words or "No clear gain" in page.one("h1").words
    assert len([e for e in page.all("img") if "augmented" in e.attributes["alt"]]) == 16


def test_modules_of_ones_own(tmp_path: Path) -> None:
    pairs = TensorDataset(torch.randn(16, 5), torch.randn(16, 7))
    distill(torch.nn.Linear(5, 4), torch.nn.Linear(7, 4), pairs, "cmd", epochs=2, batch_size=8, out=tmp_path / "own")
    page = Page.of(write_report(tmp_path / "own"))
    assert "is taught; what that is worth is not measured yet" in page.one("h1").words
    assert "This run was made from Python" in page.text


def test_masks(finished_run: Path) -> None:
    page = Page.of(finished_run / "report.html")
    masks = [e for e in page.all("img") if e.attributes["alt"].startswith(("prediction of", "truth of"))]
    assert len(masks) >= 12
    assert all(e.attributes["src"].startswith("data:image/png") for e in masks)
    assert "Scores of each class" in page.text


@pytest.mark.slow
def test_one_modality_twice_by_several_teachers(tmp_path: Path) -> None:
    teacher = {"teacher": [str(tmp_path / "first" / "source"), str(tmp_path / "first" / "target")]}
    run(config(tmp_path / "first", target="image"))
    run(config(tmp_path / "run", target="image", pretrain=teacher))
    page = Page.of(tmp_path / "run" / "report.html")
    assert {"map", "retrieval", "data", "predictions"} <= sections(page)
    assert "teachers, side by side" in page.text
    assert "image (source)" in page.text


@pytest.mark.slow
def test_sounds(tmp_path: Path) -> None:
    run(config(tmp_path / "run", target="audio"))
    page = Page.of(tmp_path / "run" / "report.html")
    assert {"map", "retrieval", "data", "predictions"} <= sections(page)
    assert any(e.attributes["alt"].startswith("audio of") for e in page.all("img"))
