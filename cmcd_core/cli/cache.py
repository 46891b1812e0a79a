"""``cmcd cache``: what is kept to be found again, and how to get the disk space back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..cache import Entry, Kind

DAY = 86_400.0
UNITS = ((2 * DAY, DAY, "days"), (2 * 3600.0, 3600.0, "h"), (120.0, 60.0, "min"), (0.0, 1.0, "s"))


@click.group(short_help="What is kept to be found again: list, clear.")
def cache() -> None:
    """What is kept to be found again. All of it can be made anew."""


@cache.command("list", short_help="What is in the cache, and where it is.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> int:
    """The cache's folder; for each kind the number of entries, their size and age."""
    import json

    from ..cache import cache_root, contents

    kinds = contents()
    if as_json:
        values = {"folder": str(cache_root().absolute()), "kinds": [as_values(kind) for kind in kinds]}
        click.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return 0
    click.echo(f"cache: {cache_root().absolute()}")
    if not any(kind.entries or not kind.ours for kind in kinds):
        click.echo("nothing in it yet")
        return 0
    width = max(len(kind.name) for kind in kinds) + 2
    click.echo(f"{'kind':<{width}}{'entries':>7}  {'MB':>9}  {'oldest':>8}  {'newest':>8}  what")
    for kind in kinds:
        click.echo(f"{kind.name:<{width}}{row(kind)}")
    click.echo(f"{'in all':<{width}}{total(e for kind in kinds for e in kind.entries)}")
    return 0


@cache.command(short_help="Delete entries.")
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
@click.option(
    "--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Only entries made more than DAYS days ago."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(kinds: tuple[str, ...], older_than: float | None, yes: bool) -> int:
    """Delete what is cached of each KIND, or all of it, after asking.

    What is being written stays, and so does every folder that cmcd did not make. No run should be going on.
    """
    import sys
    import time

    from ..cache import cache_root, contents
    from ..errors import ConfigError

    only_known(kinds)
    before = time.time() - (older_than or 0) * DAY
    chosen: list[Entry] = []
    click.echo(f"cache: {cache_root().absolute()}")
    for kind in contents():
        if kind.name in (kinds or (kind.name,)):
            chosen += deletable(kind, before)
    if not chosen:
        click.echo("nothing to delete")
        return 0
    if not yes and not sys.stdin.isatty():
        raise ConfigError("nothing was deleted: there is no terminal to ask on", "Add --yes.")
    if not yes and not click.confirm(f"Delete {counted(chosen)}?"):
        click.echo("nothing was deleted")
        return 0
    return delete(chosen)


def only_known(kinds: tuple[str, ...]) -> None:
    """Refuse a kind that cannot be there."""
    from ..cache import known_kinds
    from ..errors import ConfigError, did_you_mean

    known = known_kinds()
    for kind in kinds:
        if kind not in known:
            hint = f"{did_you_mean(kind, known)}Kinds: {', '.join(known)}."
            raise ConfigError(f"the cache has no kind {kind!r}", hint)


def deletable(kind: Kind, before: float) -> list[Entry]:
    """What of this kind may be deleted; says what, and what stays."""
    from ..cache import cache_root

    if not kind.ours:
        click.echo(f"  {kind.name}: not marked as made by cmcd, left alone")
        click.echo(f"    if it is cmcd's all the same, delete it yourself: {cache_root().absolute() / kind.name}")
        return []
    if busy := [entry for entry in kind.entries if entry.busy]:
        click.echo(f"  {kind.name}: {counted(busy)} left alone, being written")
    chosen = [entry for entry in kind.entries if not entry.busy and entry.made <= before]
    if chosen:
        click.echo(f"  {kind.name}: {counted(chosen)} to delete")
    return chosen


def delete(chosen: list[Entry]) -> int:
    """Delete each entry; exit code 1 if some could not be."""
    from ..cache import remove

    gone = []
    for entry in chosen:
        try:
            remove(entry)
            gone.append(entry)
        except OSError as error:
            click.echo(f"could not delete {entry.path}: {error.strerror}", err=True)
    click.echo(f"deleted {counted(gone)}")
    return 0 if len(gone) == len(chosen) else 1


def row(kind: Kind) -> str:
    """Entries, size, ages and meaning of one kind."""
    import time

    from ..cache import KINDS

    made = [time.time() - entry.made for entry in kind.entries]
    oldest, newest = (age(max(made)), age(min(made))) if made else ("", "")
    notes = [KINDS.get(kind.name, "of a plugin") if kind.ours else "not marked as made by cmcd: never cleared"]
    if busy := sum(entry.busy for entry in kind.entries):
        notes.append(f"{busy} being written")
    return f"{total(kind.entries)}  {oldest:>8}  {newest:>8}  {'; '.join(notes)}"


def total(entries: Iterable[Entry]) -> str:
    """Number and size in columns."""
    entries = list(entries)
    return f"{len(entries):>7}  {sum(entry.size for entry in entries) / 1e6:>9,.1f}"


def counted(entries: list[Entry]) -> str:
    """Number and size in words."""
    noun = "entry" if len(entries) == 1 else "entries"
    return f"{len(entries)} {noun} ({sum(entry.size for entry in entries) / 1e6:,.1f} MB)"


def age(seconds: float) -> str:
    """``3 h``: whole numbers, at least 2 of a unit."""
    length, name = next((length, name) for least, length, name in UNITS if max(seconds, 0) >= least)
    return f"{max(seconds, 0) / length:.0f} {name}"


def as_values(kind: Kind) -> dict[str, Any]:
    """One kind for JSON; times in UTC."""
    from datetime import UTC, datetime

    made = [datetime.fromtimestamp(entry.made, UTC).isoformat(timespec="seconds") for entry in kind.entries]
    return {
        "kind": kind.name,
        "entries": len(kind.entries),
        "bytes": kind.size,
        "oldest": min(made, default=None),
        "newest": max(made, default=None),
        "being_written": sum(entry.busy for entry in kind.entries),
        "made_by_cmcd": kind.ours,
    }
