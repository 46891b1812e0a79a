"""From raw runs to the few numbers of each that the page needs: what is committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from methods import ALIKE, BASELINES, OURS, RECIPE, RIVALS, TUNED

from cmcd_core import load_run
from cmcd_core.run_folder import RunFolder

KEPT = ("task", "protocol", "labels", "n_train", "n_test", "draws", "primary", "val")
ROUND = 4
PLAIN = {*RIVALS.values(), *OURS.values()} - {OURS[RECIPE]}


def collect(comparisons: Path, file: Path) -> None:
    """Every evaluation of the target's encoders in ``comparisons``/seed*/cells/* -> one compact JSON file.

    Evaluations that are in ``file`` already, of runs that are not here any more, stay.
    """
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    rows = {_key(row): row for row in known}
    for folder in sorted(comparisons.glob("seed*/cells/*/result.json")):
        rows |= {_key(row): row for row in _rows(folder.parent)}
    lines = [json.dumps(rows[key], ensure_ascii=False) for key in sorted(rows)]
    if lines:
        file.parent.mkdir(exist_ok=True)
        file.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("method", "task", "protocol", "labels", "seed"))


def _rows(folder: Path) -> list[dict[str, Any]]:
    result = load_run(folder)
    evaluations = {entry["digest"]: path for path, entry in RunFolder(folder).evaluations()}
    method = _method(folder, result.values["objective"])
    out = []
    for entry in result.evaluations:
        ours = entry["encoder"] == "distilled"
        tuned = BASELINES.get(entry["encoder"]) in TUNED and entry["protocol"] == "finetune"
        baseline = entry["encoder"] in BASELINES and (method in PLAIN or tuned)  # others' may be of another network
        if entry["modality"] != result.values["target"] or not (ours or baseline):
            continue
        replicates = np.load(evaluations[entry["digest"]] / "replicates.npy", allow_pickle=False)
        row = {
            "method": method if ours else BASELINES[entry["encoder"]],
            "seed": result.values["seed"],
            **{name: entry[name] for name in KEPT},
            "metrics": {name: round(value, ROUND) for name, value in entry["metrics"].items() if "/" not in name},
            "replicates": [round(float(value), ROUND) for value in replicates],
        }
        if ours:
            row["seconds"] = round(result.values["seconds"]["distill"], 1)
            row["retrieval"] = _retrieval(result.values)
        out.append(row)
    return out


def _method(cell: Path, objective: str) -> str:
    """``cell``: ``seed0/cells/l2-s0``, or ``seed0-alike/…`` for the control."""
    if "preset" in cell.name:
        return OURS[RECIPE]
    return ALIKE[objective] if cell.parents[1].name.endswith("-alike") else objective


def _retrieval(values: dict[str, Any]) -> dict[str, float]:
    """Recall at 1 of the pairs' other sides among up to 400 test pairs, both ways."""
    after = values.get("distance", {}).get("after", [])
    exact = [entry for entry in after if entry["name"].startswith("retrieval_at_1") and not entry["centred"]]
    return {entry["name"].removeprefix("retrieval_at_1_"): round(entry["value"], ROUND) for entry in exact}
