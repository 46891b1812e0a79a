"""``cmcd plugins``: what is installed, what is broken and why, what each part's options are; check one, begin one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .plugin_check import check
from .plugin_new import new

if TYPE_CHECKING:
    from rich.table import Table

    from ..plugin import Options


@click.group(short_help="What is installed: list, show, check; new.")
def plugins() -> None:
    """What is installed, and each part's options; check a plugin, or begin one of your own."""


plugins.add_command(check)
plugins.add_command(new)


@plugins.command("list", short_help="All plugins, broken ones too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> int:
    """All plugins with their distribution, code, status and what they provide; exit code 0 whatever is broken.

    The code of each that is neither off nor incompatible has run by then, as in every command that does some work.
    CMCD_PLUGINS=a,b loads those alone.
    """
    import json

    from ..catalog import load

    found = load().plugins
    rows: list[dict[str, Any]] = [
        {
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "module": plugin.module,
            "file": _file(plugin.module),
            "status": plugin.status,
            "provides": plugin.provides,
            "reason": plugin.reason,
        }
        for plugin in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("plugin", "from", "code", "status", "provides")
    for row in rows:
        provides = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in row["provides"].items())
        status = row["status"] if row["status"] == "ok" else f"[red]{row['status']}[/red]"
        table.add_row(
            row["plugin"],
            f"{row['distribution']} {row['version']}",
            escape(row["module"]),
            status,
            escape(provides or row["reason"]),
        )
    Console().print(table)
    return 0


@plugins.command(short_help="One part's options.")
@click.argument("name")
def show(name: str) -> int:
    """What NAME is (a modality, loader, objective, task, or plugin) and its options."""
    from rich.console import Console
    from rich.markup import escape

    from ..catalog import load

    console = Console(highlight=False)
    for kind, plugin, part in load().called(name):
        console.print(
            f"[bold]{part.name}[/bold], {kind} of {plugin.distribution} {plugin.version}: {escape(part.summary)}"
        )
        section = {"modality": "source or target", "loader": "data"}.get(kind, f"{kind}.{part.name}")
        if part.options.model_fields:
            console.print(f"options, as -o {section}.KEY=VALUE or in TOML under \\[{section}]:")
            console.print(option_table(part.options))
        else:
            console.print("no options")
    return 0


def _file(module: str) -> str:
    """Where the code of an entry point's package lies; "" where it is not found. Nothing is imported."""
    from importlib.util import find_spec

    try:
        spec = find_spec(module.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return ""
    return (spec and spec.origin) or ""


def option_table(options: type[Options]) -> Table:
    """Name, type, default, bounds and description of each option."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("option", "type", "default", "description")
    table.columns[0].no_wrap = True
    properties = options.model_json_schema().get("properties", {})
    for name, field in options.model_fields.items():
        table.add_row(
            name,
            escape(type_text(properties.get(name, {}))),
            escape(repr(field.default)),
            escape(field.description or ""),
        )
    return table


def type_text(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words: ``number > 0``, ``"fail" | "skip"``."""
    if "anyOf" in schema:
        return " | ".join(type_text(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(repr(value) for value in schema["enum"])
    if "const" in schema:
        return repr(schema["const"])
    bounds = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    parts = [f"{sign} {schema[key]:,}" for key, sign in bounds.items() if key in schema]
    kind = "table" if "$ref" in schema else str(schema.get("type", "any"))
    return " ".join([kind.replace("null", "none"), *parts])
