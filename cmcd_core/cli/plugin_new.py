"""``cmcd plugins new``: a plugin of one's own, as a package that installs and passes its own tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..catalog import Kind


@click.command(short_help="Begin a plugin of your own.")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["modality", "loader", "objective", "task"]),
    required=True,
    help="What it provides; more can be added by hand.",
)
def new(name: str, kind: Kind) -> int:
    """Write ./cmcd-plugin-NAME: a package that installs, passes its own tests, and is yours to change."""
    from pathlib import Path

    from ..errors import ConfigError
    from .plugin_package import write_package

    check_name(name, kind)
    folder = Path(f"cmcd-plugin-{name}")
    if folder.exists() or folder.is_symlink():
        raise ConfigError(
            f"{folder}: is there already, and nothing in it was changed", "Move it, or take another name."
        )
    try:
        write_package(folder, name, kind)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from error
    click.echo(f"wrote {folder}: a working {kind}, for you to change")
    click.echo("next:")
    for command in (f"cd {folder}", "python -m pip install -e '.[dev]'", "python -m pytest"):
        click.echo(f"  {command}")
    return 0


def check_name(name: str, kind: Kind) -> None:
    """Refuse a name that cmcd could not load, or that something installed has.

    Raises:
        ConfigError: Naming what is wrong with it.
    """
    from importlib.util import find_spec

    from .. import __all__ as public
    from ..catalog import NAME, RESERVED, load
    from ..errors import ConfigError
    from ..plugin import __all__ as of_plugins
    from .plugin_package import camel

    if not NAME.fullmatch(name):
        raise ConfigError(f"the name {name!r} should be lower case letters, digits and _, a letter first")
    if name in RESERVED:
        raise ConfigError(f"the name {name!r} is reserved", f"Reserved are {', '.join(sorted(RESERVED))}.")
    catalog = load()
    owners = [plugin for plugin, part in catalog.all(kind) if part.name == name]
    owners += [plugin for plugin in catalog.plugins if plugin.name == name]
    if owners:
        owner = f"plugin {owners[0].name} of {owners[0].distribution} {owners[0].version}"
        raise ConfigError(f"the name {name!r} is taken by {owner}", "Take another one.")
    if find_spec(f"cmcd_{name}") is not None:
        raise ConfigError(f"the name {name!r} is taken: a module cmcd_{name} is installed", "Take another one.")
    if clash := {f"{camel(name)}Options", f"{camel(name)}{kind.capitalize()}"} & {*public, *of_plugins}:
        raise ConfigError(f"the name {name!r} would make a class {clash.pop()}, as cmcd has one", "Take another one.")
