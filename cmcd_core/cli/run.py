"""``cmcd run``: the whole method in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import COMMON, DEVICES, DISTILL, EVALUATE, EXTEND, SOURCE, TARGET, configuration, data, options


@click.command(short_help="Pretrain, distil and evaluate in one go.")
@options(
    SOURCE, TARGET, data("Your pairs.  [default: the embedded demo data]"), *DISTILL, *EVALUATE, EXTEND, DEVICES,
    *COMMON,
)  # fmt: skip
def run(
    data: str | None, file: Path | None, assignments: tuple[str, ...], resume: bool, extend: bool, **flags: Any
) -> int:
    """Teach a target modality what a source modality knows, from unlabelled pairs, and measure it with few labels.

    \b
    cmcd run --source image --target depth
    cmcd run --target depth --data my_pairs/ --teacher efficientnet-lite0 --labels 5 --labels 100%
    """  # fmt: skip
    from ..grammar import read_toml
    from .execute import execute, folder_to_go_on_in

    if resume or extend:
        out = folder_to_go_on_in(flags["out"], "--extend" if extend else "--resume")
        file = file or (out / "config.toml" if (out / "config.toml").is_file() else None)
    values = configuration(read_toml(file) if file else {}, flags, data, assignments)
    return execute(values, str(file or ""), flags, resume=resume, extend=extend)
