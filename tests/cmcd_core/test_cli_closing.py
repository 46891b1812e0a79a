"""What is said of a finished run: budgets, data sets and commands that hold for it."""

from __future__ import annotations

import ast
import io
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from cmcd_core.cli.closing import distance_lines, next_commands, scores_table, verdicts


def evaluated(encoder: str = "distilled", **about: Any) -> dict[str, Any]:
    """One evaluation."""
    every = {"task": "recognition", "data": "demo", "protocol": "linear", "modality": "depth", "labels": "5"}
    scores = {"primary": "top1", "metrics": {"top1": 0.5}, "intervals": {"top1": [0.4, 0.6]}, "draws": 2}
    return {"encoder": encoder, **every, "n_train": 15, "n_test": 60, "per_class": True, **scores, **about}


def compared(*entries: dict[str, Any]) -> dict[str, Any]:
    """A result whose evaluations are ``entries``, each 10 points over scratch."""
    gain = {"metric": "top1", "over": "scratch", "difference": 0.1, "interval": [0.05, 0.15]}
    same = ("task", "protocol", "labels", "data")
    return {"evaluations": entries, "comparisons": [{**{key: one[key] for key in same}, **gain} for one in entries]}


def test_verdicts_say_whose_labels_and_on_which_data() -> None:
    (plain,) = verdicts(compared(evaluated()))
    assert plain == (
        "distilled is better than scratch with 5 labels a class: +10.0 points of top1 (95 % interval +5.0 to +15.0, "
        "paired)"
    )
    budgets = [evaluated(labels="100%"), evaluated(labels="10%"), evaluated(labels="1", per_class=False)]
    said = [line.split(" with ")[1].partition(":")[0] for line in verdicts(compared(*budgets))]
    assert said == ["all labels", "10% of the labels", "1 label in all"]
    here, there = verdicts(compared(evaluated(), evaluated(data="folder:other")))
    assert here.startswith("distilled (demo) is better")
    assert there.startswith("distilled (folder:other) is better")


def test_a_data_set_in_brackets_is_named() -> None:
    values = {"source": "image", "target": "depth", "steps": ["distill"]}
    console = Console(width=120, file=(out := io.StringIO()))
    console.print(scores_table(values, [evaluated(data="folder:pairs[v2]")]))
    assert "of folder:pairs[v2]" in out.getvalue()


def test_what_to_type_next_holds_in_a_folder_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "my runs" / 'a "b"'
    values = {"source": "image", "target": "depth", "steps": ["pretrain", "distill", "evaluate"], "data": "demo"}
    commands = [shlex.split(command) for command, _ in next_commands({**values, "evaluations": [1]}, folder)]
    assert ["cmcd", "run", "-c", str(folder / "config.toml")] in commands
    python = next(words for words in commands if words[0] == "python")
    given = [node.value for node in ast.walk(ast.parse(python[2])) if isinstance(node, ast.Constant)]
    assert given == [str(folder / "target")]


def test_of_a_bound_its_sure_end_is_said_and_only_where_it_says_something() -> None:
    def estimates(value: float) -> list[dict[str, Any]]:
        ends = {"value": value, "low": value - 0.1, "high": value + 0.1}
        names = ("tv_lower_bound", "class_discrepancy", "linear_cka_unbiased", "energy_distance")
        return [{"name": name, "centred": centred, **ends} for name in names for centred in (False, True)]

    about = {"pairs": 60, "split": "test", "space": "cmd"}
    values = {"source": "image", "target": "depth", "distance": {**about, "before": estimates(0.9)}}
    for after, bound in ((0.95, False), (0.5, True)):
        values["distance"]["after"] = estimates(after)
        lines = [line.strip() for line in distance_lines(values)]
        assert f"linear CKA, unbiased: 0.90 -> {after:.2f}" in lines
        assert f"total variation, at least: 0.80 -> {after - 0.1:.2f}" in lines
        assert any("half-space" in line for line in lines) == bound
        assert not any("energy" in line for line in lines)
    assert not list(distance_lines({"distance": None}))
