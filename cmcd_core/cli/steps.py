"""``cmcd pretrain``, ``cmcd distill`` and ``cmcd evaluate``: the method's steps one by one, on the same folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .options import COMMON, DEVICES, DISTILL, EVALUATE, EXTEND, PRETRAIN, SOURCE, TARGET, configuration, data, options

FOLDER = click.argument("folder", required=False, type=click.Path(path_type=Path))


@click.command(short_help="Step 1: a source encoder, self-supervised.")
@FOLDER
@options(SOURCE, data("Source samples.  [default: the embedded demo data]"), *PRETRAIN, DEVICES, *COMMON)
def pretrain(
    folder: Path | None, data: str | None, file: Path | None, assignments: tuple[str, ...], resume: bool, **flags: Any
) -> int:
    """Step 1 alone: train a source encoder by contrast on unlabelled source data, into a new run folder.

    FOLDER is an interrupted run's, to go on in. `cmcd distill` then goes on from there.

    \b
    cmcd pretrain --source image --data photos/ --out runs/a
    cmcd distill runs/a --target depth --data pairs/
    cmcd evaluate runs/a --labels 5 --labels 100%
    """  # fmt: skip
    from .execute import execute

    base, flags["out"], inside = _run_folder(folder, file, flags["out"], resume)
    values = configuration(base, flags, data, assignments)
    return execute(values, str(file or ""), flags, resume=inside, steps=("pretrain",))


@click.command(short_help="Step 2: distil a source encoder into the target.")
@FOLDER
@options(SOURCE, TARGET, data("The pairs.  [default: those of FOLDER]"), *DISTILL, EXTEND, DEVICES, *COMMON)
def distill(
    folder: Path | None,
    data: str | None,
    file: Path | None,
    assignments: tuple[str, ...],
    resume: bool,
    extend: bool,
    **flags: Any,
) -> int:
    """Step 2 alone: distil a frozen source encoder into the target encoder on unlabelled pairs.

    FOLDER is a run folder whose step 1 is done (`cmcd pretrain`), or any encoder's folder; --teacher names a
    pretrained encoder instead. With FOLDER and --out the result goes to a new folder.

    \b
    cmcd distill runs/a --target depth --data pairs/
    cmcd distill runs/a --out runs/b --objective cmc
    """  # fmt: skip
    from ..errors import ConfigError
    from ..run_folder import RunFolder
    from .execute import execute

    given, card = flags["out"], _card(folder)
    encoder = card is not None
    base, flags["out"], inside = _run_folder(None if encoder else folder, file, given, resume or extend)
    if folder is not None and (encoder or not inside):
        flags["teachers"] = (*flags["teachers"], str(folder if encoder else folder / "source"))
    if card is not None:
        base = {"source": _modality(card), **base}
    if inside and data is not None and "data" in base:  # step 1 keeps the data that it had
        base["pretrain"] = {"data": base["data"], **base.get("pretrain", {})}
    values = configuration(base, flags, data, assignments)
    if not values.get("pretrain", {}).get("teacher") and not (inside and RunFolder(flags["out"]).finished("pretrain")):
        raise ConfigError(
            "step 2 needs a source encoder",
            "Name a run folder whose step 1 is done (`cmcd pretrain`), an encoder's folder, or --teacher.",
        )
    return execute(values, str(file or ""), flags, resume=inside, extend=extend, steps=("pretrain", "distill"))


@click.command(short_help="Step 3: what few labels are worth.")
@FOLDER
@options(TARGET, data("Labelled samples.  [default: those of FOLDER]"), *EVALUATE, *COMMON)
def evaluate(
    folder: Path | None, data: str | None, file: Path | None, assignments: tuple[str, ...], resume: bool, **flags: Any
) -> int:
    """Step 3 alone: linear evaluation of a target encoder with few labels, beside training from scratch.

    FOLDER is a run folder whose step 2 is done, and what is measured is added there; or any encoder's folder. With
    --out the result goes to a new folder.

    \b
    cmcd evaluate runs/a --labels 1 --labels 10%
    cmcd evaluate runs/a --data other_labels/
    cmcd evaluate runs/a/target --data other_labels/ --out runs/c
    """  # fmt: skip
    from ..grammar import parse_data
    from ..run_folder import RunFolder
    from .execute import execute

    given, card = flags["out"], _card(folder)
    base, flags["out"], inside = _run_folder(folder if card is None else None, file, given, resume)
    if inside:
        there = RunFolder(flags["out"])
        if flags["labels"] and "evaluate" in there.read_result().get("steps", []):
            held = there.read_config()["evaluate"]["labels"]
            flags["labels"] = tuple(dict.fromkeys([*held, *flags["labels"]]))
        if data is not None:
            base, data = _set(base, "evaluate", "data", dict(parse_data(data))), None
    elif folder is not None:
        encoder = folder / "target" if card is None else folder
        base = {"target": _modality(_card(encoder) or {}), **base}
        base = _set(base, "evaluate", "encoder", str(encoder.absolute()))
    values = configuration(base, flags, data, assignments)
    return execute(values, str(file or ""), flags, resume=inside, steps=("evaluate",))


def _set(base: dict[str, Any], section: str, key: str, value: Any) -> dict[str, Any]:
    """One key of a section; what a file has in a section's place, and is none, is left to be refused by its name."""
    there = base.get(section, {})
    return {**base, section: {**there, key: value}} if isinstance(there, Mapping) else base


def _run_folder(
    folder: Path | None, file: Path | None, out: Path | None, go_on: bool
) -> tuple[dict[str, Any], Path | None, bool]:
    """(configuration to start from, output folder, whether to go on inside an existing run).

    Raises:
        ConfigError: FOLDER is neither a run's nor an encoder's.
    """
    from ..errors import ConfigError
    from ..grammar import read_toml

    inside = folder if out is None or (folder and out.absolute() == folder.absolute()) else out if go_on else None
    start = folder or inside
    if folder is not None and not (folder / "config.toml").is_file():
        raise ConfigError(
            f"{folder}: neither a run's folder (config.toml) nor an encoder's (config.json)",
            "A run's folder comes from `cmcd pretrain --out`, an encoder's is source/ or target/ in it.",
        )
    if file is None and start is not None and (start / "config.toml").is_file():
        file = start / "config.toml"
    base = read_toml(file) if file else {}
    return base, (inside or out), inside is not None


def _card(folder: Path | None) -> dict[str, Any] | None:
    """What an encoder's config.json says for cmcd; None where the folder is no encoder's.

    Raises:
        ConfigError: It cannot be read.
    """
    from ..errors import ConfigError

    file = folder / "config.json" if folder else None
    if file is None or not file.is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: not readable: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{file}: not readable: expected a JSON object, got {type(config).__name__}")
    return dict(config.get("cmcd") or {})


def _modality(card: dict[str, Any]) -> dict[str, Any]:
    """The modality that an encoder was made for, and the options that it saw its input with.

    What came from its data set (a depth map's unit) is left to the data set at hand.
    """
    if "modality" not in card:
        return {}
    said = set(card.get("from_data", ()))
    return {"name": card["modality"]} | {k: v for k, v in card.get("options", {}).items() if k not in said}
