"""The docs say what is there: commands, options, hooks, keys, files, links; their Python compiles, and some runs."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

import cmcd_core
from cmcd_core import hookspecs, plugin
from cmcd_core.catalog import Catalog, load
from cmcd_core.cli import cli
from cmcd_core.config import DataConfig, ModalityConfig, ObjectiveConfig, RunConfig, TaskConfig
from cmcd_core.grammar import parse_expression, set_key

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "reference").glob("*.md")])
PAGES += sorted((ROOT / "examples").glob("*/README.md"))
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = {"thermal", "huber", "npz"}
"""Names of the examples, which need not be installed here."""


def blocks(language: str) -> list[Any]:
    return [
        pytest.param(page, match[2], id=f"{page}:{text[: match.start()].count(chr(10)) + 1}")
        for page, text in TEXT.items()
        for match in BLOCK.finditer(text)
        if match[1] == language
    ]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


def commands(command: click.Command = cli, path: tuple[str, ...] = ("cmcd",)) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its whole name."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    for name, inner in command.commands.items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands())
EVERYWHERE = {"--no-color"}
"""Flags of every command, told once at the head of docs/cli.md."""


def flags(command: click.Command) -> set[str]:
    return {flag for parameter in command.params if isinstance(parameter, click.Option) for flag in parameter.opts}


def lines() -> list[tuple[str, list[str]]]:
    """Every `cmcd …` line in a console block or between backticks, and its words."""
    found = []
    for page, text in TEXT.items():
        inline = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
        shell = [line for match in BLOCK.finditer(text) if match[1] == "console" for line in match[2].splitlines()]
        for line in [*shell, *inline]:
            for part in line.split("&&"):
                words = re.sub(r"^(CMCD_\w+=\S+ )+", "", part.strip()).split()
                if words[:1] == ["cmcd"] and len(words) > 1:
                    found.append((page, words))
    return found


def test_pages_are_read() -> None:
    assert len(lines()) > 20
    assert {"docs/index.md", "README.md"} <= set(TEXT)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    heading = f"\n## {name}\n"
    assert heading in TEXT["docs/cli.md"]
    section = TEXT["docs/cli.md"].split(heading)[1].split("\n## ")[0]
    assert flags(COMMANDS[name]) <= EVERYWHERE or f"<!-- flags {name}, by docs/reference.py -->" in section
    known = flags(COMMANDS[name]) | {"--help"}
    assert set(re.findall(r"(?<=`)--?[a-z][a-z-]*", section)) <= known


def test_headings_are_commands() -> None:
    assert set(re.findall(r"^## (cmcd .*)$", TEXT["docs/cli.md"], re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize(("page", "words"), [pytest.param(*x, id=f"{x[0]}: {' '.join(x[1])[:70]}") for x in lines()])
def test_commands_that_are_shown_exist(page: str, words: list[str]) -> None:
    command: click.Command = cli
    rest = words[1:]
    while rest and isinstance(command, click.Group) and not rest[0].startswith("-"):
        assert rest[0] in command.commands
        command, rest = command.commands[rest[0]], rest[1:]
    known = flags(command) | {"--help", "--version"}
    assert {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)} <= known


@pytest.mark.parametrize("hook", [n for n in vars(hookspecs) if re.fullmatch(r"cmcd_[a-z]+", n)])
def test_every_hook_is_documented(hook: str) -> None:
    assert f"`{hook}`" in TEXT["docs/own-plugin.md"]
    assert "Example" in (inspect.getdoc(getattr(hookspecs, hook)) or "")


def test_hooks_that_are_mentioned_exist() -> None:
    packages = {"cmcd_core", "cmcd_thermal", "cmcd_huber", "cmcd_npz"} | {
        path.name for path in (ROOT / "plugins").glob("cmcd_*")
    }
    mentioned = {name for text in TEXT.values() for name in re.findall(r"\bcmcd_[a-z_]+", text)}
    assert mentioned - packages <= set(vars(hookspecs))


def test_public_names_that_are_mentioned_exist() -> None:
    for text in TEXT.values():
        for name in re.findall(r"\bcmcd_core\.([A-Za-z_]+)", text):
            assert name in {*cmcd_core.__all__, "plugin", "testing", "cli", "theory"}, name
    for name in re.findall(r"`(\w+(?:Plugin|Options))`", TEXT["docs/own-plugin.md"]):
        assert name in plugin.__all__


def section_models() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in RunConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def test_every_section_of_the_configuration_is_documented() -> None:
    free = (ModalityConfig, DataConfig, ObjectiveConfig, TaskConfig)
    for section, model in section_models().items():
        mark = f"`[{section}]`" if issubclass(model, free) else f"<!-- keys {section}, by docs/reference.py -->"
        assert mark in TEXT["docs/configuration.md"]
    assert set(RunConfig.model_fields) - set(section_models()) == {"plugins", "schema_", "target"}  # told in its prose


def assignments() -> list[tuple[str, str]]:
    """Every key that is set with -o, or named as SECTION.KEY where the docs speak of keys."""
    sections = "|".join(section_models())
    found = set()
    for page, text in TEXT.items():
        for match in re.findall(rf"-o '?((?:{sections})\.[a-z][\w.]*)(?==)", text):
            found.add((page, match))
        if page not in ("docs/own-objective.md", "docs/run-folder.md"):  # attributes and files there
            found |= {(page, match) for match in re.findall(rf"`((?:{sections})\.[\w.]+)`", BLOCK.sub("", text))}
    return sorted(found)


def part_options(catalog: Catalog, kind: Any, name: str | None = None) -> set[str]:
    parts = [part for _, part in catalog.all(kind) if name in (None, part.name)]
    return {key for part in parts for key in part.options.model_fields}


@pytest.mark.parametrize(("page", "key"), assignments())
def test_keys_that_are_mentioned_exist(page: str, key: str, catalog: Catalog) -> None:
    section, *rest = key.split(".")
    own = set(section_models()[section].model_fields)
    if section in ("source", "target"):
        own |= part_options(catalog, "modality") | {"low_c", "high_c"}
    elif section == "data":
        own |= part_options(catalog, "loader")
    elif section in ("objective", "task") and len(rest) == 2:
        if rest[0] in ELSEWHERE:
            return
        own, rest = part_options(catalog, section, rest[0]), rest[1:]
    assert rest[0] in own


def test_parts_that_are_mentioned_exist(catalog: Catalog) -> None:
    names = {kind: {part.name for _, part in catalog.all(kind)} | ELSEWHERE for kind in ("modality", "objective")}
    for _, words in lines():
        joined = " ".join(words)
        for name in re.findall(r"--(?:source|target) ([a-z_:]+)", joined):
            assert name.rpartition(":")[2] in names["modality"]
        for text in re.findall(r"--objective ('[^']+'|\S+)", joined):
            for term in parse_expression(text.strip("'")) if "EXPR" not in text else ():
                assert term.name in names["objective"]


def test_the_default_anchors(catalog: Catalog) -> None:
    default = catalog.objective("cmd").options().anchors
    assert f'`anchors = "{default}"`, the default' in TEXT["docs/how-it-works.md"]


def text_block(page: str, start: str) -> str:
    return next(m[2] for m in BLOCK.finditer(TEXT[page]) if m[1] == "text" and m[2].startswith(start))


def read_folder(catalog: Catalog, root: Path) -> Any:
    part = catalog.loader("folder")
    return part.build(part.options(root=root))


def test_the_metadata_that_is_shown_is_read(catalog: Catalog, tmp_path: Path) -> None:
    table = text_block("docs/own-data.md", "id,split")
    (tmp_path / "metadata.csv").write_text(table)
    toml = next(m[2] for m in BLOCK.finditer(TEXT["docs/own-data.md"]) if "aligned" in m[2])
    (tmp_path / "dataset.toml").write_text(re.sub(r"^(label|group)_column.*$", "", toml, flags=re.MULTILINE))
    for name in re.findall(r"\w+/\w+\.\w+", table):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    loader = read_folder(catalog, tmp_path)
    assert [len(loader.split(name)) for name in ("train", "val", "test")] == [1, 1, 1]  # val is taken out of train
    assert (loader.classes["label"], loader.aligned) == (["cup", "mug"], {"image", "depth"})
    assert loader.modality_options("depth") == {"unit": "mm"}


@pytest.mark.parametrize("row", range(4))
def test_the_layouts_that_are_shown_are_read(catalog: Catalog, tmp_path: Path, row: int) -> None:
    layout = text_block("docs/own-data.md", "my_pairs/").splitlines()[1 + row]
    for name in re.findall(r"\S+/0001\.\w+", layout):
        for number in range(10):
            file = tmp_path / name.replace("0001", f"{number:04}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    assert catalog.loader("folder").recognises(tmp_path)
    loader = read_folder(catalog, tmp_path)
    samples = [sample for name in ("train", "val", "test") for sample in loader.split(name)]
    assert [set(sample.views) for sample in samples] == [{"image", "depth"}] * 10
    assert ("label" in loader.classes) == ("cup" in layout)


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_compiles(page: str, code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module in ("cmcd_core", "cmcd_core.plugin"):
            module = cmcd_core if node.module == "cmcd_core" else plugin
            assert {alias.name for alias in node.names} <= set(module.__all__)


@pytest.mark.parametrize(("page", "code"), [b for b in blocks("python") if "@hookimpl" in b.values[1]])
def test_plugin_modules_run_without_torch(page: str, code: str) -> None:
    """Each is a plugin that gives descriptors, as it stands."""
    tail = "\nimport sys\nhooks = [v for n, v in list(globals().items()) if n.startswith('cmcd_')]\n"
    tail += "assert hooks and all(len(hook()) == 1 for hook in hooks)\nassert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_toml_is_valid(page: str, text: str, catalog: Catalog) -> None:
    values = tomllib.loads(text)
    if "objective" in values:
        config = RunConfig.from_mapping(values)
        assert {part for term in config.objective.terms for part in [term.name]} <= {
            part.name for _, part in catalog.all("objective")
        }


def test_the_configuration_and_its_flags_agree() -> None:
    """docs/configuration.md shows one configuration as TOML, and its changes as -o."""
    text = TEXT["docs/configuration.md"]
    values = tomllib.loads(next(match[2] for match in BLOCK.finditer(text) if match[1] == "toml"))
    shown = re.search(r"^The same on the command line: `(.*)`", text, re.MULTILINE)
    assert shown
    for assignment in re.findall(r"-o (\S+)", shown[1]):
        given: dict[str, Any] = {}
        set_key(given, assignment)
        merged = {**values}
        for section, inner in given.items():
            assert merged[section] == _over(merged[section], inner)


def _over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return base | {k: _over(base.get(k, {}), v) if isinstance(v, dict) else v for k, v in over.items()}


def test_files_that_are_shown_are_the_examples() -> None:
    text = "".join(TEXT[f"docs/own-{part}.md"] for part in ("modality", "objective", "plugin"))
    shown = re.findall(r"`(examples/[^`]+)`:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(shown) == 6
    for path, code in shown:
        assert code == (ROOT / path).read_text(encoding="utf-8"), path


@pytest.mark.parametrize("page", TEXT)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_environment_variables_are_documented() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cmcd_core").rglob("*.py"))
    read = set(re.findall(r'environ(?:\.get\(|\[)"(CMCD_\w+)"', source))
    assert read == set(re.findall(r"^\| `(CMCD_\w+)`", TEXT["docs/cli.md"], re.MULTILINE))


def test_the_second_command_is_what_ci_runs() -> None:
    command = "python -m pip install -e '.[dev]' && python -m pytest -n 2"
    assert command in TEXT["README.md"]
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("page", [page for page in TEXT if not page.startswith("docs/reference/")])
def test_no_line_is_too_long(page: str) -> None:
    prose = BLOCK.sub("", TEXT[page])
    assert not [line for line in prose.splitlines() if len(line) > 125 and not line.startswith(("|", "!", "- `"))]


@pytest.fixture(scope="module")
def reference() -> Any:
    """docs/reference.py as a module."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_the_code_says_is_in_the_docs_as_it_says_it(reference: Any) -> None:
    """If this fails: python docs/reference.py"""
    assert [file.relative_to(ROOT).as_posix() for file in reference.differing()] == []


def test_the_tables_say_what_help_says_and_toml_takes(reference: Any) -> None:
    """Defaults that click shows, and defaults that can be copied into a configuration."""
    flags = "\n".join(reference.flags("cmcd retrieve"))
    assert re.search(r"`--k N`.*\[default: 5; x>=1\]", flags)
    for section in ("pretrain", "distill", "evaluate", "run"):
        for name, field in RunConfig.model_fields[section].annotation.model_fields.items():
            (row,) = (line for line in reference.keys(section) if line.startswith(f"| `{section}.{name}`"))
            default = re.split(r"(?<!\\)\|", row)[3].strip()
            value = field.get_default(call_default_factory=True)
            if value is None:
                assert default == "not set"
            else:
                read = tomllib.loads(f"x = {default.strip('`')}")["x"]
                assert read == (list(value) if isinstance(value, tuple) else value)


def test_objectives_tell_their_loss_and_not_only_a_formula_in_it(reference: Any, catalog: Catalog) -> None:
    pages = reference.objectives(catalog)
    told = {
        "crd": "log\\(P\\+",
        "socket": "running_mean",
        "cwcl": "source_to_target",
        "seed": "queue",
        "dense_l2": "l2\\(a, b\\)",
    }
    for name, text in told.items():
        assert re.search(text, pages[f"{name}.md"].split("## Formula")[0])
    assert all(
        "## Loss" in text or "## Formula" in text
        for name, text in pages.items()
        if name not in ("index.md", "further.md")
    )


def test_what_drifts_is_found(reference: Any, tmp_path: Path) -> None:
    pages = reference.wanted()
    drifted = {file: text.replace("Seed of all randomness", "Some seed") for file, text in pages.items()}
    changed = {file.name for file in pages if drifted[file] != pages[file]}
    assert changed == {"cli.md", "configuration.md"}
    assert all(reference.with_blocks(drifted[file]) == pages[file] for file in pages if file.name in changed)


def test_every_part_and_public_name_has_its_place(catalog: Catalog) -> None:
    for kind in ("modality", "loader", "task"):
        plural = {"modality": "modalities"}.get(kind, f"{kind}s")
        for owner, part in catalog.all(kind):
            if owner.distribution == "cmcd":
                assert f"\n## {part.name}\n" in TEXT[f"docs/reference/{plural}.md"]
    for owner, part in catalog.all("objective"):
        if owner.distribution == "cmcd":
            assert (ROOT / "docs" / "objectives" / f"{part.name}.md").is_file()
    for name in cmcd_core.__all__:
        assert f"\n## {name}\n" in TEXT["docs/reference/python.md"]


def test_the_map_names_every_room() -> None:
    rooms = [path for path in (ROOT / "cmcd_core").iterdir() if not path.name.startswith(("_", "py.typed"))]
    names = {f"`{path.name}/`" if path.is_dir() else f"`{path.name}`" for path in rooms}
    assert [name for name in sorted(names) if name not in TEXT["CONTRIBUTING.md"]] == []
    mapped = re.findall(
        r"`(\w+(?:\.py|/))`", TEXT["CONTRIBUTING.md"].split("Beside the core")[0].partition("| room |")[2]
    )
    assert [name for name in mapped if f"`{name}`" not in names] == []
