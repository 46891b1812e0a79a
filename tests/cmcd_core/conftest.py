"""Fake distributions, as if they were installed; and one small finished run for all that is asked of runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from .bad_input import write_data

FAKES = Path(__file__).parents[1] / "data" / "fake_plugins"


@pytest.fixture
def fake_plugins(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the three fake distributions of tests/data on sys.path for one test."""
    monkeypatch.syspath_prepend(str(FAKES))
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        monkeypatch.delitem(sys.modules, name)
    return FAKES


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with nothing wrong. Read only: copy it to break it."""
    root = tmp_path_factory.mktemp("sound") / "data"
    write_data(root)
    return root


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 60 demo scenes at 32 px with both tasks, linear, fine-tuned and by neighbours. Read only: copy it."""
    from cmcd_core import RunConfig, run

    out = tmp_path_factory.mktemp("finished") / "run"
    values: dict[str, Any] = {
        "source": "image", "target": "depth", "data": {"loader": "demo", "train": 60, "val": 20, "test": 24},
        "pretrain": {"epochs": 1}, "distill": {"epochs": 2, "views": 2},
        "task": {"names": ["recognition", "segmentation"]},
        "evaluate": {
            "baselines": "none", "label_draws": 1, "labels": ["2", "5"], "protocols": ["linear", "finetune", "knn"],
            "train_steps": 3, "train_epochs": 1, "finetune_lrs": [1e-3],
        },
        "run": {"size": 32, "out": str(out)},
    }  # fmt: skip
    run(RunConfig.from_mapping(values))
    return out


@pytest.fixture(scope="session")
def scene_files(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's test scenes as files: ``depth/<key>.png`` and ``image/<key>.png``. Read only."""
    from PIL import Image

    from cmcd_core.reading import open_reader

    root = tmp_path_factory.mktemp("scenes")
    for side in ("source", "target"):
        there = open_reader(finished_run, side).split(None, "test")  # type: ignore[arg-type]
        (root / there.bound.name).mkdir()
        for sample in there.samples:
            Image.fromarray(sample.views[there.bound.name]).save(root / there.bound.name / f"{sample.key}.png")  # type: ignore[arg-type]
    return root
