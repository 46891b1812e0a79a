"""Write what the docs can take from the code: flags, keys, hooks, options of parts, objectives, public names.

python docs/reference.py            write it
python docs/reference.py --check    write nothing; exit code 1 where a page is not as the code would have it
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from types import ModuleType
from typing import Any

import click
from cmcd_objectives import functional
from cmcd_objectives.plain import Plain
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import cmcd_core
from cmcd_core import hookspecs, plugin, testing
from cmcd_core.catalog import Catalog, load
from cmcd_core.cli import cli
from cmcd_core.cli.options import KEYS
from cmcd_core.cli.plugins import type_text
from cmcd_core.config import RunConfig
from cmcd_core.plugin import ObjectivePlugin, Options, Widths
from cmcd_core.theory import bound, distance

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/reference.py: change the code, then run it again. -->"
BLOCK = re.compile(r"(<!-- (flags|keys) ([\w ]+?), by docs/reference\.py -->\n).*?(<!-- end -->)", re.DOTALL)
EVERYWHERE = {"--no-color"}
"""Flags of every command, told once at the head of cli.md."""
PUBLIC: Mapping[str, Sequence[str]] = {
    "A run": ["run", "RunConfig", "Result", "load_run", "distill"],
    "What a run has learnt": ["load_encoder", "embed", "predict", "retrieve", "export"],
    "What plugins build": ["Modality", "Encoder", "TimmEncoder", "Features", "PairedLoader", "Sample", "Objective",
                           "Widths", "Task"],
    "Errors and the cache": ["CmcdError", "ConfigError", "DataError", "PluginError", "cache_folder"],
}  # fmt: skip
"""Every public name of cmcd_core, by what it is for."""
WHERE = {
    "modality": "`-o source.KEY=VALUE` or `-o target.KEY=VALUE`, or in TOML under `[source]` or `[target]`.",
    "loader": "`-o data.KEY=VALUE`, or in TOML under `[data]`.",
    "task": "`-o task.TASK.KEY=VALUE`, or in TOML under `[task.TASK]`.",
}
"""Where the options of each kind of part are set."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, one line an entry."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def page(title: str, *lines: str) -> str:
    return "\n".join([NOTE, "", f"# {title}", "", *lines]).rstrip("\n") + "\n"


# Blocks within pages that people write


def commands(command: click.Command = cli, path: str = "cmcd") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its whole name."""
    if not isinstance(command, click.Group):
        yield path, command
    else:
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")


def flags(name: str) -> list[str]:
    """The options of one command as ``--help`` tells them."""
    options = [p for p in dict(commands())[name].params if isinstance(p, click.Option) and not EVERYWHERE & {*p.opts}]
    return table(["option", "meaning"], ([_spelt(option), _told(option)] for option in options))


def _spelt(option: click.Option) -> str:
    choices = "|".join(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else ""
    value = "" if option.is_flag else f" {option.metavar or choices or option.type.name.upper()}"
    return ", ".join(f"`{flag}{value if flag == option.opts[-1] else ''}`" for flag in option.opts)


def _told(option: click.Option) -> str:
    with click.Context(click.Command("")) as context:
        _, text = option.get_help_record(context) or ("", "")
    text = re.sub(r" +\[", " [", text).strip()
    return f"{text} May be repeated." if option.multiple else text


def keys(section: str) -> list[str]:
    """The keys of one section of the configuration, and the flags that are other names for them."""
    model = RunConfig.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    spelt = {p.name: p.opts[-1] for _, command in commands() for p in command.params if isinstance(p, click.Option)}
    return option_table(model, f"{section}.", {key: spelt[name] for name, key in KEYS.items() if name in spelt})


def option_table(model: type[BaseModel], before: str = "", flags: Mapping[str, str] | None = None) -> list[str]:
    """Key, type, default and meaning of every field; ``flags``: key -> its flag."""

    def row(name: str, field: FieldInfo) -> list[str]:
        key = f"{before}{name}"
        flag = f" Flag: `{flags[key]}`." if flags and key in flags else ""
        kind = type_text(properties[name]).replace("'", '"')
        return [f"`{key}`", kind, _default(field), f"{field.description}{flag}"]

    properties = model.model_json_schema().get("properties", {})
    return table(["key", "type", "default", "meaning"], (row(*item) for item in model.model_fields.items()))


def _default(field: FieldInfo) -> str:
    """As TOML has it, which has no word for a key without a value."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "not set" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def with_blocks(text: str) -> str:
    """A page with its generated blocks as they are now."""
    makers: Mapping[str, Callable[[str], list[str]]] = {"flags": flags, "keys": keys}
    return BLOCK.sub(lambda m: "\n".join([m[1].rstrip("\n"), *makers[m[2]](m[3]), m[4]]), text)


# Whole pages


def documented(name: str, value: Any, level: str = "##", within: str = "") -> list[str]:
    """A heading, the signature, and the docstring as it stands."""
    shown = f"{within}{name}"
    lines = [f"{level} {shown}", "", "```text", _signature(shown, value)]
    if doc := inspect.getdoc(value):
        lines += ["", doc]
    return [*lines, "```", ""]


def _signature(name: str, value: Any) -> str:
    if isinstance(value, property):
        return f"{name}: {inspect.signature(value.fget).return_annotation}" if value.fget else name
    if not inspect.isclass(value):
        return _called(name, value)
    if issubclass(value, BaseModel):
        return f"class {name}"
    own = "__init__" in vars(value)
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    return f"class {_called(name, value).removesuffix(' -> None')}" if own else f"class {name}({bases})"


class _Words(str):
    """An annotation that is shown without quotes."""

    __repr__ = str.__str__


def _called(name: str, value: Any) -> str:
    """Name, parameters with their defaults, and result."""
    signature = inspect.signature(value)
    several = [p.replace(annotation=_shown(p.annotation)) for p in signature.parameters.values()]
    signature = signature.replace(parameters=several, return_annotation=_shown(signature.return_annotation))
    text = re.sub(r"<function .*? at 0x\w+>", "…", f"{name}{signature}")
    return "\n".join(wrap(text, 110, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))


def _shown(annotation: Any) -> Any:
    return _Words(annotation) if isinstance(annotation, str) else annotation


def class_or_function(name: str, value: Any) -> list[str]:
    """A public name, and a class's own methods and properties below it."""
    lines = documented(name, value)
    if inspect.isclass(value) and not issubclass(value, Exception):
        for inner, attribute in vars(value).items():
            told = inspect.isfunction(attribute) or isinstance(attribute, property | classmethod)
            if told and not inner.startswith("_") and attribute.__doc__:
                lines += documented(inner, getattr(value, inner), "###", f"{name}.")
    return lines


def public_names() -> str:
    lines = ["What `from cmcd_core import …` gives. Only these names are [stable](../versioning.md).", ""]
    for title, names in PUBLIC.items():
        lines += [f"**{title}**: {', '.join(f'[{n}](#{n.lower()})' for n in names)}", ""]
    for names in PUBLIC.values():
        for name in names:
            lines += class_or_function(name, getattr(cmcd_core, name))
    return page("Python", *lines)


def theory() -> str:
    lines = ["Estimates of distances, and the bound, on plain arrays; [what they are worth](../distance.md).", ""]
    for module in (distance, bound):
        lines += [f"## {module.__name__}", "", *_members(module)]
    return page("Theory", *lines)


def _members(module: ModuleType) -> list[str]:
    callables = [(name, getattr(module, name)) for name in module.__all__]
    return [
        line
        for name, value in callables
        if inspect.isfunction(value) or inspect.isclass(value)
        for line in documented(name, value, "###")
    ]


def hooks() -> str:
    lines = ["A plugin implements one or more of these; [how](../own-plugin.md).", ""]
    for name, value in vars(hookspecs).items():
        if re.fullmatch(r"cmcd_[a-z]+", name):
            lines += documented(name, value)
    lines += ["## cmcd_core.plugin", "", "What a plugin imports.", ""]
    for name in plugin.__all__:
        value = getattr(plugin, name)
        if name == "hookimpl":
            lines += ["### hookimpl", "", "Marks a function as the implementation of the hook of its name.", ""]
        elif name == "Field":
            lines += [
                "### Field",
                "",
                "Pydantic's: a default, bounds (`gt`, `ge`, `lt`, `le`) and a `description`.",
                "",
            ]
        else:
            lines += documented(name, value, "###")
    lines += ["## cmcd_core.testing", "", "What its tests import.", ""]
    for name in testing.__all__:
        lines += documented(name, getattr(testing, name), "###")
    return page("Hooks", *lines)


def parts(catalog: Catalog, kind: Any, title: str) -> str:
    """The options of every first-party part of one kind."""
    lines = [f"{WHERE[kind]} `cmcd plugins show NAME` tells the same, of other plugins' parts too.", ""]
    for owner, part in catalog.all(kind):
        if owner.distribution == "cmcd":
            lines += [f"## {part.name}", "", part.summary, "", *(options(part.options) or ["No options."]), ""]
    return page(title, *lines)


def options(model: type[Options]) -> list[str]:
    return option_table(model) if model.model_fields else []


def _loss(part: ObjectivePlugin[Any]) -> str:
    """What the objective does beside its formula; empty where it is the formula."""
    widths = Widths(source=8, target=8, source_dense=8, target_dense=8)
    built = part.build(part.options(), widths)
    return inspect.getdoc(built.form.loss if isinstance(built, Plain) else type(built)) or ""


def objective(part: ObjectivePlugin[Any]) -> str:
    lines = [part.summary, "", "```console", f"cmcd run --target depth --objective {part.name}", "```", ""]
    if loss := _loss(part):
        lines += ["## Loss", "", "```text", loss, "```", ""]
    if formula := getattr(functional, part.name, None):
        lines += ["## Formula", "", f"`cmcd_objectives.functional.{part.name}`, a pure function of two tensors:", ""]
        lines += documented(part.name, formula)[2:]
    lines += ["## Options", ""]
    if not part.options.model_fields:
        return page(part.name, *lines, "None.")
    where = f"`-o objective.{part.name}.KEY=VALUE`, or in TOML under `[objective.{part.name}]`:"
    return page(part.name, *lines, where, "", *options(part.options))


def objectives(catalog: Catalog) -> dict[str, str]:
    """File name -> page: one an objective, one of formulas that are no objectives, and the index."""
    own = [part for owner, part in catalog.all("objective") if owner.distribution == "cmcd"]
    further = [name for name in functional.__all__ if name not in {part.name for part in own}]
    index = ["What `--objective` takes; [which one when](../which-objective.md).", ""]
    index += table(["objective", "what it is"], ([f"[{part.name}]({part.name}.md)", part.summary] for part in own))
    index += ["", "`cmcd plugins list` shows those of other plugins too, and `cmcd plugins show NAME` their options."]
    index += ["", f"[Further formulas](further.md) without an objective: {', '.join(further)}."]
    rest = ["Functions of `cmcd_objectives.functional` for your own loop.", ""]
    rest += [line for name in further for line in documented(name, getattr(functional, name))]
    pages = {f"{part.name}.md": objective(part) for part in own}
    return {"index.md": page("Objectives", *index), "further.md": page("Further formulas", *rest), **pages}


def wanted() -> dict[Path, str]:
    """Every file that is written here, whole or in part -> what it should hold."""
    catalog = load()
    whole = {
        "reference/hooks.md": hooks(),
        "reference/python.md": public_names(),
        "reference/theory.md": theory(),
        "reference/modalities.md": parts(catalog, "modality", "Options of modalities"),
        "reference/loaders.md": parts(catalog, "loader", "Options of loaders"),
        "reference/tasks.md": parts(catalog, "task", "Options of tasks"),
        **{f"objectives/{name}": text for name, text in objectives(catalog).items()},
    }
    texts = {file: file.read_text(encoding="utf-8") for file in sorted(DOCS.glob("*.md"))}
    partly = {file: with_blocks(text) for file, text in texts.items() if BLOCK.search(text)}
    return {**{DOCS / name: text for name, text in whole.items()}, **partly}


def differing() -> list[Path]:
    """Files that are not as the code would have them; those that nothing makes any more too."""
    files = wanted()
    stray = [f for folder in ("reference", "objectives") for f in (DOCS / folder).glob("*.md") if f not in files]
    return stray + [f for f, text in files.items() if not f.is_file() or f.read_text(encoding="utf-8") != text]


def main(arguments: Sequence[str]) -> int:
    found = differing()
    if arguments == ["--check"]:
        for file in found:
            print(f"{file.relative_to(DOCS.parent)} is not as the code would have it: python docs/reference.py")
        return bool(found)
    files = wanted()
    for file in found:
        if file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text(files[file], encoding="utf-8")
        else:
            file.unlink()
    print(f"{len(files)} pages, {len(found)} changed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
