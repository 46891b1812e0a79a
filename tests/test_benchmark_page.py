"""The benchmark's page: what it calls best, ahead and below follows from the results, by the protocol's rules."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parents[1] / "examples" / "benchmark"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HERE))
    import page

    return page


def row(method: str, score: float, val: float, *, seed: int = 0, n_train: int = 20, spread: float = 0.002) -> Any:
    noise = np.random.default_rng([seed, len(method)]).normal(0, spread, 50)
    return {
        "method": method, "seed": seed, "task": "recognition", "protocol": "linear", "labels": "5", "n_train": n_train,
        "n_test": 100, "draws": 10, "primary": "top1", "val": val,
        "metrics": {"top1": score, "balanced_accuracy": score},
        "replicates": (score + noise).tolist(), "seconds": 10.0, "retrieval": {"target_to_source": 0.5},
    }  # fmt: skip


def results(folder: Path, **data: list[Any]) -> Path:
    for name, rows in data.items():
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def test_the_best_existing_method_is_picked_on_val_and_never_one_of_ours(page: ModuleType, tmp_path: Path) -> None:
    rows = [row("l2", 0.50, 0.60), row("socket", 0.55, 0.50), row("cmd", 0.60, 0.90), row("recommended", 0.62, 0.95)]
    text = page.tables(results(tmp_path, tools=rows))
    line = next(line for line in text.splitlines() if line.startswith("| tools | l2 |"))
    assert "+12.0" in line  # recommended over l2, although socket is better on test
    assert "+10.0" in line  # cmd over l2


def test_goals_need_the_margin_and_the_interval(page: ModuleType, tmp_path: Path) -> None:
    clear = [row("l2", 0.50, 0.6), row("recommended", 0.54, 0.6)]
    close = [row("l2", 0.50, 0.6), row("recommended", 0.52, 0.6)]
    noisy = [row("l2", 0.50, 0.6, spread=0.1), row("recommended", 0.54, 0.6, spread=0.1)]
    worse = [row("l2", 0.50, 0.6), row("recommended", 0.45, 0.6)]
    text = page.tables(results(tmp_path, a=clear, b=close, c=noisy, d=worse))
    verdict = " ".join(text.split()).partition("The recipe is")[2].partition(".")[0]
    assert "on 1 of 4 (a)" in verdict
    assert verdict.endswith("beyond the interval on d")


def test_differences_are_taken_over_common_seeds(page: ModuleType, tmp_path: Path) -> None:
    rows = [row("l2", 0.5, 0.6), row("l2", 0.3, 0.6, seed=1), row("cmd", 0.6, 0.6)]
    text = page.tables(results(tmp_path, a=rows))
    assert "+10.0" in next(line for line in text.splitlines() if line.startswith("| a | l2 |"))


def test_on_masks_the_recipe_is_what_is_fine_tuned(page: ModuleType, tmp_path: Path) -> None:
    def masks(method: str, score: float, val: float, protocol: str) -> Any:
        return row(method, score, val) | {"task": "segmentation", "protocol": protocol}

    rows = [
        masks("l2", 0.3, 0.3, "linear"), masks("source as it is", 0.4, 0.4, "linear"),
        masks("source as it is", 0.5, 0.5, "finetune"), masks("recommended", 0.45, 0.45, "linear"),
        masks("recommended", 0.54, 0.55, "finetune"),
    ]  # fmt: skip
    text = page.tables(results(tmp_path, a=rows))
    assert "| a | source, fine-tuned | +4.0" in text
    assert "| recommended, linear head | 0.450" in text
    assert "| source as it is | 0.400" in text


def test_budgets_have_tables_of_their_own(page: ModuleType, tmp_path: Path) -> None:
    rows = [row("l2", 0.5, 0.6), row("l2", 0.8, 0.9, n_train=100)]
    text = page.tables(results(tmp_path, a=rows))
    small, everything = text.split("### All labels")
    assert "0.500" in small
    assert "0.800" in everything


def test_only_what_is_between_the_marks_changes(page: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"above\n{page.BEGIN}\nold\n{page.END}\nbelow\n", encoding="utf-8")
    page.write_page(results(tmp_path, a=[row("l2", 0.5, 0.6)]), file)
    once = file.read_text(encoding="utf-8")
    assert once.startswith("above\n")
    assert once.endswith("\nbelow\n")
    assert "old" not in once
    page.write_page(tmp_path, file)
    assert file.read_text(encoding="utf-8") == once


def test_the_committed_page_is_what_the_committed_results_give(page: ModuleType) -> None:
    text = (HERE.parents[1] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    shown = text.partition(page.BEGIN)[2].partition(page.END)[0].strip()
    assert shown == page.tables(HERE / "results").strip()
