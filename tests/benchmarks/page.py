"""The table of docs/performance.md, and the file of numbers beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .machine import machine
from .measuring import Found, Row

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- measured: written by python -m tests.benchmarks -->", "<!-- end of what is measured -->"


def add(page: Path, measured: Mapping[str, tuple[str, Found, float]]) -> None:
    """Put the benchmarks' rows in place of their older ones; what was not measured now stays.

    Raises:
        SystemExit: The page's other numbers are from another machine.
    """
    numbers, here = page.with_suffix(".json"), machine()
    before: dict[str, Any] = json.loads(numbers.read_text()) if numbers.exists() else {}
    kept = {name: part for name, part in before.get("benchmarks", {}).items() if name not in measured}
    if kept and before["machine"] != here:
        raise SystemExit(f"{page} was measured on {before['machine']}, and this is {here}: measure everything anew")
    new = {
        name: {"title": title, "seconds": round(seconds), **found.to_mapping()}
        for name, (title, found, seconds) in measured.items()
    }
    values = {"machine": here, "benchmarks": {**before.get("benchmarks", {}), **new}}
    numbers.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n\n{written(values)}\n{END}{tail}", encoding="utf-8")


def written(values: Mapping[str, Any]) -> str:
    """The table, and below it what a row has no room for."""
    parts = values["benchmarks"].values()
    rows = [line(part, Row(**row)) for part in parts for row in part["rows"]]
    total = sum(part["seconds"] for part in parts)
    lines = [
        f"Measured on: {values['machine']}; {total} s in all.",
        "",
        "| of | what | measured: median (least to most) | goal | met | beside | benchmark's seconds |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    details = [f"\n### {part['title'].capitalize()}\n{part['details']}" for part in parts if part["details"]]
    return "\n".join([*lines, *details])


def line(part: Mapping[str, Any], row: Row) -> str:
    met = "" if row.met is None else "yes" if row.met else "**no**"
    cells = [part["title"], *(asdict(row)[key] for key in ("what", "measured", "goal")), met, row.beside]
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} | {part['seconds']} |"
