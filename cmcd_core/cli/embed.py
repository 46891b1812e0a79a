"""``cmcd embed``: files, folders or a split as features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import DEBUG, QUIET, data, opt


@click.command(short_help="Features of files or of a split, as .npz.")
@click.argument("encoder", metavar="RUN|ENCODER", type=click.Path(path_type=Path))
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@data("A data set instead of files.  [default with --split: the run's own]")
@opt("--split", type=click.Choice(["train", "val", "test"]), help="Which split of it.  [default: test]")
@opt("--side", type=click.Choice(["target", "source"]), help="Which of a run's encoders.  [default: target]")
@opt("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.npz", help="Where to.")
@QUIET
@DEBUG
def embed(
    encoder: Path, paths: tuple[str, ...], data: str | None, split: Any, side: Any, out: Path, quiet: bool, debug: bool
) -> int:
    """Write the pooled features of files, of all files below a folder, or of a split.

    FILE.npz holds `keys` (paths as they were named, or samples' keys) and `features` (float32, one row a key), in the
    order of the paths; numpy.load reads it without pickle.

    \b
    cmcd embed runs/my-run scans/ one.png --out features.npz
    cmcd embed runs/my-run --split test --out test.npz
    cmcd embed runs/my-run --side source --data others/ --out photos.npz
    """  # fmt: skip
    from ..embedding import embed as embed_them
    from ..errors import ConfigError
    from ..files import made_folder
    from .console import Terminal

    if out.suffix != ".npz":
        raise ConfigError(f"--out {out}: expected a name that ends in .npz")
    made_folder(out.parent)
    with Terminal(quiet=quiet, results_to_stderr=False) as terminal:
        found = embed_them(encoder, paths, data=data, split=split, side=side, progress=terminal)
    found.save(out)
    count, width = found.features.shape
    terminal.out.print(
        f"{out}: {count} x {width} features of {found.modality}", soft_wrap=True, markup=False, highlight=False
    )
    return 0
