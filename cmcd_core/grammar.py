"""The small texts of the command line: objective expressions, data references, label budgets, TOML and -o."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError


@dataclass(frozen=True)
class Term:
    """One summand of an objective expression; ``key`` names its options table."""

    weight: float
    name: str
    key: str


_TERM = re.compile(
    r"(?:(?P<weight>[0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*\*\s*)?(?P<name>[a-z][a-z0-9_:]*)(?P<alias>@[a-z0-9_]+)?"
)


def parse_expression(text: str) -> list[Term]:
    """``"cmd + 0.5*cmc"`` -> its terms.

    Raises:
        ConfigError: It is not a weighted sum of names, or one term's options table would serve two.
    """
    terms = []
    for part in text.split("+"):
        match = _TERM.fullmatch(part.strip())
        if not match:
            raise ConfigError(
                f"--objective {text!r}: cannot read {part.strip()!r}",
                "Write a weighted sum of objectives, such as 'cmd', 'cmd + 0.5*cmc' or 'cmd + cmd@wide'.",
            )
        weight = float(match["weight"] or 1)
        if not 0 < weight < math.inf:
            raise ConfigError(f"--objective {text!r}: the weight of {match['name']} should be above 0 and finite")
        terms.append(Term(weight, match["name"], match["name"].rpartition(":")[2] + (match["alias"] or "")))
    keys = [term.key for term in terms]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ConfigError(f"--objective {text!r}: {twice} appears twice", f"Tell them apart: {twice} + {twice}@second.")
    return terms


def parse_data(text: str) -> dict[str, str]:
    """``PATH`` or ``LOADER:PATH`` -> a mapping. A loader's name has two letters or more (C:\\ is a path)."""
    match = re.fullmatch(r"((?:[a-z][a-z0-9_]*:)?[a-z][a-z0-9_]+):(.*)", text)
    if match and not Path(text).exists():
        return {"loader": match[1], **({"root": match[2]} if match[2] else {})}
    return {"root": text}


def parse_labels(text: str) -> tuple[int | None, float | None]:
    """``"5"`` -> (5, None); ``"10%"`` -> (None, 0.1).

    Raises:
        ConfigError: Neither a positive number nor a percentage up to 100.
    """
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return int(text), None
    if (match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)) and 0 < float(match[1]) <= 100:
        return None, float(match[1]) / 100
    raise ConfigError(f"--labels {text!r}: expected a number a class such as 5, or a share such as 10%")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as plain data; ConfigError names the file and line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def set_key(values: dict[str, Any], assignment: str) -> None:
    """Apply one ``SECTION.KEY=VALUE``; the value is a TOML literal, or else a string."""
    key, equals, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"-o {assignment!r}: expected SECTION.KEY=VALUE, such as distill.epochs=20")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    for part in parts[:-1]:
        inner = values.setdefault(part, {})
        if isinstance(inner, str):  # source = "image" in a file, source.key=… here
            inner = values[part] = section_of(part, inner)
        if not isinstance(inner, dict):
            raise ConfigError(f"-o {assignment!r}: {part} is not a section")
        values = inner
    values[parts[-1]] = value


def section_of(name: str, text: str) -> dict[str, Any]:
    """The table that a bare text stands for: ``source = "image"``, ``objective = "cmd"``, ``data = "my_pairs"``."""
    if name == "data":
        return dict(parse_data(text))
    keys = {"objective": "expression", "task": "names"}
    return {keys.get(name, "name"): text}


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``, table by table."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both else value
    return out
