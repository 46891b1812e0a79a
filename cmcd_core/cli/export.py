"""``cmcd export``: an encoder for use without cmcd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .options import DEBUG, QUIET, opt


@click.command(short_help="An encoder for timm or ONNX, checked against the original.")
@click.argument("encoder", metavar="RUN|ENCODER", type=click.Path(path_type=Path))
@opt("--format", required=True, type=click.Choice(["timm", "onnx"]), help="What it is for.")
@opt("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where to.  [default: RUN/export]")
@opt(
    "--evaluation",
    type=click.IntRange(0),
    metavar="N",
    help="ONNX: with the head of evaluations/N, and the encoder that it was trained with.",
)
@opt("--json", "as_json", is_flag=True, help="What was written as JSON on stdout, all else on stderr.")
@QUIET
@DEBUG
def export(
    encoder: Path, format: Any, out: Path | None, evaluation: int | None, as_json: bool, quiet: bool, debug: bool
) -> int:  # fmt: skip
    """Write an encoder (of a RUN the target's) so that it can be used without cmcd, with a model card beside it.

    timm: config.json and model.safetensors, as the Hugging Face Hub has them. onnx: target.onnx, input in [0, 1],
    normalisation inside, any batch size; output 0 is the pooled features. Nothing is written that does not give what
    the original gives on real inputs.

    \b
    cmcd export runs/my-run --format timm
    cmcd export runs/my-run --format onnx --evaluation 3
    """  # fmt: skip
    from ..exporting import export as write
    from .console import Terminal

    with Terminal(quiet=quiet, results_to_stderr=as_json) as terminal:
        done = write(encoder, format, out, evaluation=evaluation, progress=terminal)
    if as_json:
        values = {
            "files": [str(file) for file in done.files],
            "outputs": list(done.outputs),
            "checked_on": done.inputs,
            "largest_relative_difference": done.difference,
        }
        click.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return 0
    for file in done.files:
        terminal.out.print(str(file), soft_wrap=True, markup=False, highlight=False)
    terminal.out.print(
        f"outputs {', '.join(done.outputs)}: the same as the original's on {done.inputs}, "
        + (f"to {done.difference:.0e} of the largest value" if done.difference else "to the last bit"),
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip
    return 0
