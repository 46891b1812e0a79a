"""Settings that were found to work well together, one TOML file each: ``--preset NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..grammar import merge, read_toml


def preset_names() -> list[str]:
    """All of them, sorted."""
    return sorted(Path(file.name).stem for file in files(__name__).iterdir() if file.name.endswith(".toml"))


def preset(name: str) -> dict[str, Any]:
    """A preset's values as plain data.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in preset_names():
        raise ConfigError(f"there is no preset {name!r}", f"Known: {', '.join(preset_names())}.")
    return read_toml(Path(str(files(__name__) / f"{name}.toml")))


def under_preset(name: str, values: Mapping[str, Any], *, objective: bool) -> dict[str, Any]:
    """A preset on top of ``values``, which a file or a run's folder gave.

    Args:
        objective: A flag names another objective: the preset's is left out, with its options.
    """
    over, base = preset(name), dict(values)
    (over if objective else base).pop("objective", None)
    return merge(base, over)
