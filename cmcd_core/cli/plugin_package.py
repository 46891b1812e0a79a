"""A package out of the templates in ``cmcd_core/templates``."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..catalog import Kind

HIDDEN = {"github": ".github", "gitignore": ".gitignore"}
"""Templates whose names begin with a point once they are written."""
DEV = ("build>=1.2", "pytest>=8.0", "ruff>=0.8")


def write_package(folder: Path, name: str, kind: Kind) -> None:
    """Fill in the templates; ``folder`` appears whole or not at all."""
    values = placeholders(name, kind)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as partial:
        whole = Path(partial) / folder.name
        for source in ("common", kind):
            for path, text in templates(files("cmcd_core") / "templates" / source):
                if path == Path("about.toml"):
                    continue
                file = whole / placed(path, values)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(Template(text).substitute(values), encoding="utf-8")
        whole.rename(folder)


def placeholders(name: str, kind: Kind) -> dict[str, str]:
    """What the templates leave open."""
    values = {
        "name": name,
        "kind": kind,
        "project": f"cmcd-plugin-{name}",
        "module": f"cmcd_{name}",
        "Class": camel(name),
    }
    text = (files("cmcd_core") / "templates" / kind / "about.toml.in").read_text(encoding="utf-8")
    about: dict[str, Any] = tomllib.loads(Template(text).substitute(values))
    return values | {
        "description": about["description"],
        "dependencies": listed([f"cmcd{cmcd_versions()}", *about["dependencies"]]),
        "dev": listed(sorted([*DEV, *about["dev"]])),
        "try": about["try"].strip(),
    }


def templates(folder: Traversable, path: Path = Path()) -> Iterator[tuple[Path, str]]:
    """Each template below a folder, with its path there less ``.in``."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from templates(entry, path / entry.name)
        elif entry.name.endswith(".in"):
            yield path / entry.name.removesuffix(".in"), entry.read_text(encoding="utf-8")


def placed(path: Path, values: dict[str, str]) -> Path:
    """Where a template's text goes: ``package/task.py`` -> ``cmcd_radar/task.py``."""
    first, *rest = path.parts
    first = values["module"] if first == "package" else HIDDEN.get(first, first)
    return Path(first, *(part.replace("NAME", values["name"]) for part in rest))


def cmcd_versions() -> str:
    """``>=0.1.0,<0.2``: this version of cmcd, and what will fit until the interfaces change."""
    from importlib.metadata import version

    from packaging.version import Version

    here = Version(version("cmcd"))
    return f">={here.public},<{here.major}.{here.minor + 1}"


def camel(name: str) -> str:
    """``my_radar`` -> ``MyRadar``."""
    return "".join(part.capitalize() for part in name.split("_"))


def listed(requirements: list[str]) -> str:
    """As TOML writes them inside brackets."""
    return ", ".join(f'"{text}"' for text in requirements)
