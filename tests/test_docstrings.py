"""The examples in the docstrings of the public functions work as they stand."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest
import torch

import cmcd_core

SMALL = {
    "data": {"loader": "demo", "train": 64, "val": 20, "test": 20},
    "pretrain": {"epochs": 1},
    "distill": {"epochs": 1},
    "evaluate": {"baselines": "none", "label_draws": 2},
}
PUBLIC = ["run", "load_run", "load_encoder", "distill", "embed", "predict", "retrieve", "export"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run, which the examples of what reads runs call ``result``."""
    out = {"out": str(tmp_path_factory.mktemp("docstrings") / "run")}
    return cmcd_core.run(cmcd_core.RunConfig(source="image", target="depth", run=out, **SMALL))


@pytest.mark.parametrize("name", PUBLIC)
def test_examples(name: str, result: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"result": result, "torch": torch, **{public: getattr(cmcd_core, public) for public in cmcd_core.__all__}}
    [test] = doctest.DocTestFinder(recurse=False).find(getattr(cmcd_core, name), name, globs=names)
    assert test.examples
    told: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=told.append)
    assert not failed, "".join(told)
