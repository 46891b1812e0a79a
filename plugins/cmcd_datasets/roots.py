"""The folder or file that the user named."""

from __future__ import annotations

from pathlib import Path

from cmcd_core import ConfigError, DataError
from cmcd_core.plugin import LoaderOptions


def root_of(options: LoaderOptions, name: str) -> Path:
    """The folder or file that the loader called ``name`` reads.

    Raises:
        ConfigError, DataError: None was named, or it is not there.
    """
    if options.root is None:
        raise ConfigError(
            f"The {name} loader needs a folder.", f"Name it: --data {name}:PATH, or data.root in the TOML."
        )
    root = options.root.expanduser().absolute()
    if not root.exists():
        raise DataError(f"{root} does not exist.", "Check the path that --data (data.root) names.")
    return root


def folder_of(options: LoaderOptions, name: str) -> Path:
    """The same, where it can be nothing but a folder.

    Raises:
        ConfigError, DataError: None was named, it is not there, or it is a file.
    """
    root = root_of(options, name)
    if not root.is_dir():
        raise DataError(f"{root} is a file; expected the folder it lies in.", f"Write --data {name}:{root.parent}.")
    return root
