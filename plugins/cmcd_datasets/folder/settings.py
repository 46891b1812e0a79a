"""`dataset.toml` and the user's options, merged: the user's win."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmcd_core import CmcdError, ConfigError, DataError
from cmcd_core.plugin import LoaderOptions

from .row import MASK, listing
from .text import nearest, read_text

FILE = "dataset.toml"
_KEYS = ("name", "licence", "pairs", "aligned", "label_column", "group_column")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked of the data. `asked` tells where a value was written, for messages."""

    name: str
    licence: str
    pairs: str
    aligned: tuple[str, ...]
    label_column: str | None
    group_column: str | None
    tables: Mapping[str, Mapping[str, Any]]
    in_file: frozenset[str] = field(default_factory=frozenset)

    def asked(self, key: str) -> str:
        return f"{FILE}, {key}" if key in self.in_file else f"data.{key}"

    def error(self, key: str, problem: str, hint: str) -> CmcdError:
        """An error of the file where the file says it, of the configuration where the user does."""
        kind = DataError if key in self.in_file else ConfigError
        return kind(f"{self.asked(key)}: {problem}", hint)

    def check_modalities(self, known: frozenset[str]) -> None:
        """Every modality named in the settings is one of the data's."""
        there = listing(sorted(known)) or "none"
        for name in self.aligned:
            if name != MASK and name not in known:
                hint = f"{nearest(name, known)}Modalities here: {there}."
                raise self.error("aligned", f"'{name}' is no modality of this data.", hint)
        for name in self.tables:
            if name not in known:
                hint = f"{nearest(name, [*known, *_KEYS])}A table names a modality of this data: {there}."
                raise DataError(f"{FILE}: unknown table [{name}].", hint)


def read_settings(root: Path, options: LoaderOptions) -> Settings:
    """The settings of the data set in `root`; options of a setting's name win over the file."""
    path = root / FILE
    content = _parse(path) if path.exists() else {}
    tables = {key: value for key, value in content.items() if isinstance(value, dict) and key not in _KEYS}
    file = {key: value for key, value in content.items() if key not in tables}
    _check(file)
    chosen = {"pairs": "instance", "aligned": (), "label_column": None, "group_column": None, **file}
    stated = {key: value for key in chosen if (value := getattr(options, key, None)) is not None}
    chosen.update(stated)
    return Settings(
        name=chosen.get("name", root.name),
        licence=chosen.get("licence", ""),
        pairs=chosen["pairs"],
        aligned=tuple(chosen["aligned"]),
        label_column=chosen["label_column"],
        group_column=chosen["group_column"],
        tables=tables,
        in_file=frozenset(file) - frozenset(stated),
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:  # its text ends in "(at line 3, column 7)"
        hint = 'Texts stand in quotes: name = "my data". See https://toml.io.'
        raise DataError(f"{FILE} is not valid TOML: {error} ({path}).", hint) from error


def _check(file: Mapping[str, Any]) -> None:
    for key, value in file.items():
        if key not in _KEYS:
            hint = f"{nearest(key, _KEYS)}Known: {listing(_KEYS)}, and one table a modality."
            raise DataError(f"{FILE}: unknown key '{key}'.", hint)
        if key == "aligned":
            if not _is_texts(value):
                raise DataError(f"{FILE}, aligned: {value!r}; expected a list of modalities.", _EXAMPLE)
        elif not isinstance(value, str):
            raise DataError(f"{FILE}, {key}: {value!r}; expected a text.", f'Put it in quotes: {key} = "…".')
    if file.get("pairs", "instance") not in ("instance", "label"):
        hint = 'pairs = "instance": two views of one thing; pairs = "label": two things of one class.'
        raise DataError(f'{FILE}, pairs: \'{file["pairs"]}\'; expected "instance" or "label".', hint)


_EXAMPLE = 'For example: aligned = ["image", "depth"].'


def _is_texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value)
