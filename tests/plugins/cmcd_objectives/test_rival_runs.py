"""Every rival through a whole run on a tiny demo, from one source encoder."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from rivals import POOLED

from cmcd_core import ConfigError, RunConfig, run

TINY = {
    "source": "image",
    "target": "depth",
    "data": {"loader": "demo", "train": 64, "val": 20, "test": 20},
    "run": {"device": "cpu", "size": 32},
}
EVALUATE = {"labels": ["2"], "label_draws": 1, "baselines": ["none"]}


@pytest.fixture(scope="module", autouse=True)
def few_bootstraps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 20)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trained source for all."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    config = {**TINY, "pretrain": {"epochs": 1}, "run": {**TINY["run"], "out": str(out)}}
    run(RunConfig.from_mapping(config), steps=("pretrain",))
    return out / "source"


def configured(expression: str, teacher: Path, out: Path, **changed: Any) -> RunConfig:
    return RunConfig.from_mapping(
        {
            **TINY,
            "objective": expression,
            "pretrain": {"teacher": [str(teacher)]},
            "distill": {"epochs": 1, "batch_size": 32, "views": 1},
            "evaluate": EVALUATE,
            "run": {**TINY["run"], "source_size": 32, "out": str(out)},
            **changed,
        }
    )


QUICK = ("seed", "pkt", "crd", "0.5*cmc + socket + compress")
"""Of each kind one: a queue, relations of the batch, the whole set's memory, and a sum."""
EACH = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in (*POOLED, "0.5*cmc + socket + compress")
]


@pytest.mark.parametrize("expression", EACH)
def test_a_run(expression, teacher, tmp_path):
    result = run(configured(expression, teacher, tmp_path / "run"))
    assert math.isfinite(result.values["distill"]["loss"])
    assert {e["encoder"] for e in result.values["evaluations"]} >= {"distilled"}
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    reported = next(line for line in lines if line["stage"] == "distill")
    if "socket" in expression:
        assert reported["socket.batchnorm_layers"] > 5
    assert (tmp_path / "run" / "objective" / "objective.safetensors").exists()


def test_dense_cmd_is_refused_until_the_core_hands_over_dense_maps(teacher, tmp_path):
    with pytest.raises(ConfigError, match="dense"):
        run(configured("dense_cmd", teacher, tmp_path / "run"))


def test_a_run_says_which_terms_leave_the_weights_out(teacher, tiny_folder, tmp_path):
    copy = shutil.copytree(tiny_folder, tmp_path / "data")
    head, *rows = (copy / "metadata.csv").read_text().splitlines()
    for number, first in enumerate(("2", "0.5")):
        weights = [first, *["2"] * (len(rows) - 1)]
        lines = [f"{head},weight", *(f"{row},{weight}" for row, weight in zip(rows, weights, strict=True))]
        (copy / "metadata.csv").write_text("\n".join(lines) + "\n")
        config = configured("l2 + sp", teacher, tmp_path / f"run{number}", data=str(copy))
        said = [note for note in run(config, steps=("pretrain", "distill")).values["notes"] if "weights" in note]
        assert said == ["sp does not use the pairs' weights: every pair counts alike in it"][:number]
