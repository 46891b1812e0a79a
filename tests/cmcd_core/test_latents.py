"""Distances of held-out pairs: what a run writes, what `cmcd distance` says of it again, and the space they are in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cmcd_core import RunConfig, load_run, run
from cmcd_core.catalog import load
from cmcd_core.cli import main
from cmcd_core.latents import FITTED, OBJECTIVES, _ridge, common_space, held_out_split
from cmcd_core.opened import open_run
from cmcd_core.progress import Progress
from cmcd_core.theory.distance import distances

SMALL: dict[str, Any] = {
    "source": "image", "target": "depth", "data": {"loader": "demo", "train": 60, "val": 20, "test": 24},
    "pretrain": {"epochs": 1}, "distill": {"epochs": 2, "views": 2}, "task": "recognition",
    "evaluate": {"baselines": "none", "label_draws": 1}, "run": {"size": 32},
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("latents") / "run"
    run(RunConfig.from_mapping({**SMALL, "run": {"size": 32, "out": str(out)}}))
    return out


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--json"])
    assert stopped.value.code == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_measures_before_and_after(finished: Path) -> None:
    found = load_run(finished).values["distance"]
    assert (found["split"], found["pairs"], found["space"]) == ("test", 24, OBJECTIVES)
    for when in ("before", "after"):
        names = {(e["name"], e["centred"]) for e in found[when]}
        assert {("tv_lower_bound", False), ("tv_lower_bound", True), ("mmd2", True), ("linear_cka", False)} <= names
        for estimate in found[when]:
            assert estimate["direction"] in ("lower bound", "plug-in", "upper on a class", "exact")
            for end in ("low", "high"):
                assert estimate[end] is None or estimate[end] == estimate[end], "JSON has no NaN"
    assert found["before"] != found["after"]


def test_the_command_says_the_same_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = load_run(finished).values["distance"]
    assert printed(capsys, "distance", str(finished))["estimates"] == recorded["after"]
    assert printed(capsys, "distance", str(finished), "--before")["estimates"] == recorded["before"]
    train = printed(capsys, "distance", str(finished), "--split", "train")
    assert (train["split"], train["pairs"]) == ("train", 60)


def test_the_table_and_the_exit_code(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["distance", str(finished)])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "24 test pairs" in out
    assert "lower bound" in out
    with pytest.raises(SystemExit) as stopped:
        main(["distance", str(tmp_path)])
    assert stopped.value.code == 2
    assert "no run whose step 2 is done" in capsys.readouterr().err


def test_without_a_common_space_a_map_is_fitted_on_training_pairs(finished: Path) -> None:
    opened = open_run(finished, load(), progress=Progress())
    split = held_out_split(opened.bench)
    assert split == "test"
    fitted = common_space(opened.bench, split, opened.source, opened.target, None)
    own = common_space(opened.bench, split, opened.source, opened.target, opened.objective())
    assert (fitted.space, own.space) == (FITTED, OBJECTIVES)
    assert fitted.source.shape == fitted.target.shape
    assert fitted.keys == own.keys
    norms = own.target.norm(dim=1)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5), "cmd compares at unit length"


def test_the_bound_of_a_runs_head_term_by_term(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "bound", str(finished))
    terms = {term["name"]: term for term in found["terms"]}
    assert terms["encoder"]["status"] == "not evaluated"
    assert terms["discrepancy"]["status"] == "lower bound"
    assert not found["guaranteed"], "a sum with a lower bound in it bounds nothing"
    assert found["vacuous"] == (found["total"] >= 1)
    assert found["total"] == pytest.approx(sum(term["value"] or 0 for term in found["terms"]))
    assert found["total"] >= terms["empirical risk"]["value"]
    best = max(load_run(finished).evaluations, key=lambda e: (e["encoder"] == "distilled", e["n_train"]))
    assert found["test_error"] == pytest.approx(1 - best["per_draw"][0])
    stricter = {t["name"]: t for t in printed(capsys, "bound", str(finished), "--confidence", "0.99")["terms"]}
    assert stricter["deviation"]["value"] > terms["deviation"]["value"]
    assert stricter["discrepancy"]["value"] <= terms["discrepancy"]["value"], "a surer lower bound is lower"


def test_no_bound_without_a_linear_head(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bound", str(finished), "--labels", "7"])
    assert stopped.value.code == 2
    assert "no linear head with 7 labels" in capsys.readouterr().err


def test_a_run_without_held_out_pairs_says_so(tiny_folder: Path, tmp_path: Path) -> None:
    config = {**SMALL, "data": {"root": str(tiny_folder)}, "run": {"size": 24, "out": str(tmp_path / "run")}}
    result = run(RunConfig.from_mapping(config))
    assert result.values["distance"] == {}
    assert any("distances need at least 16 pairs" in note for note in result.values["notes"])


def test_an_affine_copy_is_found_to_be_one() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(400, 6, generator=generator)
    b = a @ torch.randn(6, 9, generator=generator) + 3
    mapped = _ridge(b[:300], a[:300])(b[300:])
    assert torch.allclose(mapped, a[300:], atol=0.1)
    found = {e.name: e for e in distances(a[300:], mapped, paired=True)}
    assert found["retrieval_at_1_source_to_target"].value == 1
    assert found["tv_lower_bound"].low == 0
