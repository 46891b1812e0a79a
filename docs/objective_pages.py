"""Write docs/objectives/: one page an objective, from its summary, its formula's docstring and its options.

python docs/objective_pages.py
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import cmcd_objectives
from cmcd_objectives import functional

from cmcd_core.cli.plugins import type_text
from cmcd_core.plugin import ObjectivePlugin

FOLDER = Path(__file__).parent / "objectives"
NOTE = "<!-- Written by docs/objective_pages.py: change the code, then run it again. -->"


def page(part: ObjectivePlugin) -> str:
    """The Markdown of one objective."""
    lines = [
        NOTE,
        "",
        f"# {part.name}",
        "",
        part.summary,
        "",
        "```console",
        f"cmcd run --target depth --objective {part.name}",
    ]
    lines += ["```", ""]
    formula = getattr(functional, part.name, None)
    if formula is not None:
        lines += ["## Formula", "", f"`cmcd_objectives.functional.{part.name}`, a pure function of two tensors:", ""]
        lines += [
            "```text",
            f"{part.name}{inspect.signature(formula)}".replace("'", ""),
            "",
            inspect.cleandoc(formula.__doc__ or ""),
        ]
        lines += ["```", ""]
    lines += ["## Options", ""]
    properties = part.options.model_json_schema().get("properties", {})
    if not properties:
        return "\n".join([*lines, "None.", ""])
    lines += [f"`-o objective.{part.name}.KEY=VALUE`, or in TOML under `[objective.{part.name}]`:", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in part.options.model_fields.items():
        cells = [f"`{name}`", type_text(properties[name]), f"`{field.default!r}`", field.description or ""]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def pages() -> dict[str, str]:
    """File name -> content of every page."""
    parts = cmcd_objectives.cmcd_objectives()
    index = [NOTE, "", "# Objectives", "", "What `--objective` takes; [which one when](../which-objective.md).", ""]
    index += ["| objective | what it is |", "|---|---|"]
    index += [f"| [{part.name}]({part.name}.md) | {part.summary} |" for part in parts]
    index += [
        "",
        "`cmcd plugins list` shows those of other plugins too, and `cmcd plugins show NAME` their options.",
        "",
    ]
    return {"index.md": "\n".join(index), **{f"{part.name}.md": page(part) for part in parts}}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for file in FOLDER.glob("*.md"):
        if file.name not in wanted:
            file.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(wanted)} pages in {FOLDER}", file=sys.stderr)


if __name__ == "__main__":
    main()
