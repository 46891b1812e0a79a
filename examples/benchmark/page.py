"""From the compact results to the tables of docs/benchmark.md."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from methods import ALIKE, DISTILLED, EXISTING, METHODS, PROBED, TUNED

from cmcd_core.summary import interval

BEGIN, END = "<!-- results: made by examples/benchmark/page.py -->", "<!-- end of results -->"
GOAL = 0.03


@dataclass
class Measured:
    """One method on one data set under one label budget, seed by seed."""

    val: dict[int, float] = field(default_factory=dict)
    score: dict[int, float] = field(default_factory=dict)
    balanced: dict[int, float] = field(default_factory=dict)
    replicates: dict[int, np.ndarray] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    retrieval: dict[int, float] = field(default_factory=dict)


Table = dict[str, Measured]
"""Method -> what was measured."""


def write_page(results: Path, page: Path) -> None:
    """Put the tables between the page's two marks."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{tables(results)}\n{END}{after}", encoding="utf-8")


def tables(results: Path) -> str:
    """Markdown of all tables."""
    data = {file.stem: _read(json.loads(file.read_text(encoding="utf-8"))) for file in sorted(results.glob("*.json"))}
    if not data:
        return ""
    small = {name: budgets[min(budgets)] for name, budgets in data.items()}
    everything = {name: budgets[max(budgets)] for name, budgets in data.items() if len(budgets) > 1}
    parts = [
        _scores("Small budget: top-1, or mean IoU for masks", small),
        _differences("Against the best existing method, small budget", small),
        _scores("All labels", everything),
        _differences("Against the best existing method, all labels", everything),
        _costs(small),
    ]
    return "\n".join(line if line.startswith("|") else fill(line, 120) for part in parts for line in part.split("\n"))


def _read(rows: list[dict[str, Any]]) -> dict[int, Table]:
    """Number of labels -> method -> what was measured."""
    out: dict[int, Table] = defaultdict(lambda: defaultdict(Measured))
    for row in rows:
        one, seed = out[row["n_train"]][_name(row)], row["seed"]
        one.val[seed], one.score[seed] = row["val"], row["metrics"][row["primary"]]
        one.balanced[seed] = row["metrics"].get("balanced_accuracy", float("nan"))
        one.replicates[seed] = np.array(row["replicates"])
        if "seconds" in row:
            one.seconds[seed] = row["seconds"]
            one.retrieval[seed] = row["retrieval"].get("target_to_source", float("nan"))
    return {budget: dict(table) for budget, table in out.items()}


def _name(row: dict[str, Any]) -> str:
    """The method's name in the tables. Fine-tuning is a part of the recipe, and of rivals trained as it is."""
    names = TUNED if row["protocol"] == "finetune" else PROBED if row["task"] == "segmentation" else {}
    return names.get(row["method"], row["method"])


def _mean(values: dict[int, float]) -> float:
    return float(np.mean(list(values.values())))


def apart(one: Measured, other: Measured) -> tuple[float, float, float]:
    """Paired difference of test scores over common seeds, and its interval."""
    common = sorted(one.score.keys() & other.score.keys())
    value = float(np.mean([one.score[seed] - other.score[seed] for seed in common]))
    low, high = interval({seed: one.replicates[seed] - other.replicates[seed] for seed in common})
    return value, low, high


def best(table: Table, names: Iterable[str] = EXISTING) -> str | None:
    """By validation score, whatever it does on test."""
    there = [name for name in names if name in table]
    return max(there, key=lambda name: _mean(table[name].val)) if there else None


def _scores(title: str, data: dict[str, Table]) -> str:
    lines = [f"### {title}", "", "| method | " + " | ".join(data) + " |", "|---" * (len(data) + 1) + "|"]
    seeds = [len(table["l2"].score) if "l2" in table else 0 for table in data.values()]
    lines.append("| seeds | " + " | ".join(map(str, seeds)) + " |")
    for name in METHODS:
        if not any(name in table for table in data.values()):
            continue
        cells = []
        for table in data.values():
            if one := table.get(name):
                low, high = interval(one.replicates)
                mark = "**" if name == max(table, key=lambda m: _mean(table[m].score)) else ""
                cells.append(f"{mark}{_mean(one.score):.3f}{mark} [{low:.3f}, {high:.3f}]")
            else:
                cells.append("")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _differences(title: str, data: dict[str, Table]) -> str:
    lines = [
        f"### {title}", "", "Points, paired [95 %].", "",
        "| data set | best existing (by val) | recommended | cmd | cmc | recommended over scratch "
        "| recommended over rivals trained alike |", "|---" * 7 + "|",
    ]  # fmt: skip
    for name, table in data.items():
        rival, control = best(table), best(table, ALIKE.values())
        if rival is None:
            continue
        cells = [_points(table, ours, rival) for ours in ("recommended", "cmd", "cmc")]
        cells += [_points(table, "recommended", "scratch")]
        cells += [f"{control}: {_points(table, 'recommended', control)}" if control else ""]
        lines.append(f"| {name} | {rival} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_verdict(data), ""])


def _points(table: Table, one: str, other: str) -> str:
    if one not in table or other not in table:
        return ""
    value, low, high = (100 * end for end in apart(table[one], table[other]))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _verdict(data: dict[str, Table]) -> list[str]:
    """The goals, counted."""
    ahead, below, known = [], [], 0
    for name, table in data.items():
        rival = best(table)
        if rival and "recommended" in table:
            known += 1
            value, low, high = apart(table["recommended"], table[rival])
            ahead += [name] if value >= GOAL and low > 0 else []
            below += [name] if high < 0 else []
    lines = [
        f"The recipe is 3 points or more ahead of the best existing method, with an interval above 0, on {len(ahead)} "
        f"of {known} ({', '.join(ahead) or 'none'}), and below it beyond the interval on {', '.join(below) or 'none'}."
    ]
    for ours in ("cmd", "cmc"):
        rivals = ("socket", "l2", "scratch")
        complete = {name: table for name, table in data.items() if ours in table and all(r in table for r in rivals)}
        won = [
            name for name, table in complete.items()
            if all(_mean(table[ours].score) > _mean(table[rival].score) for rival in rivals)
        ]  # fmt: skip
        lines.append(f"`{ours}` is above socket, l2 and scratch on {len(won)} of {len(complete)}.")
    return lines


def _costs(data: dict[str, Table]) -> str:
    lines = [
        "### Cost and retrieval", "",
        "Seconds of step 2 on one CPU thread (mean over data sets; the frozen source's features are cached), and on "
        "sketchy the share of 400 test sketches whose own photo is the nearest.", "",
        "| method | seconds | recall at 1 |", "|---|---|---|",
    ]  # fmt: skip
    for name in DISTILLED:
        there = [table[name] for table in data.values() if name in table]
        if not there:
            continue
        sketchy = data.get("sketchy", {}).get(name)
        recall = f"{_mean(sketchy.retrieval):.3f}" if sketchy else ""
        lines.append(f"| {name} | {np.mean([_mean(one.seconds) for one in there]):.0f} | {recall} |")
    return "\n".join([*lines, ""])
