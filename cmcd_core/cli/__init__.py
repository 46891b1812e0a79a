"""The command line. This module imports click alone; each command brings in what it needs when it runs."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from ..errors import CmcdError, printable
from .bound import bound
from .cache import cache
from .compare import compare
from .data import data
from .distance import distance
from .doctor import doctor
from .embed import embed
from .export import export
from .plugins import plugins
from .predict import predict
from .retrieve import retrieve
from .run import run
from .steps import distill, evaluate, pretrain


class Grouped(click.Group):
    """A bare ``cmcd`` says what to type first."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Start here"):
            formatter.write_dl(
                [
                    ("cmcd run --source image --target depth", "the whole method on the embedded demo data"),
                    ("cmcd run --target depth --data FOLDER", "the same on your own pairs"),
                    ("cmcd plugins list", "what is installed"),
                    ("cmcd doctor", "what this machine has, and what will hurt"),
                ]
            )


@click.group(cls=Grouped, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cmcd", message="cmcd %(version)s")
def cli() -> None:
    """Teach a new sensor what images already know: cross-modality contrastive distillation."""


for command in (run, pretrain, distill, evaluate, compare, distance, bound):
    cli.add_command(command)
for command in (embed, predict, retrieve, export, data, plugins, cache, doctor):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit 0 done, 1 the run failed, 2 usage, configuration or data, 130/143 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words or bool(os.environ.get("CMCD_DEBUG"))
    try:
        outcome: Any = cli.main(words, prog_name="cmcd", standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = 130
    except CmcdError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:  # `cmcd … | head`
        code = 0
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if debug:
            raise
        from ..files import refusal

        click.echo(f"Error: {refusal(error)}", err=True)
        code = 1
    except Exception as error:
        if debug:
            raise
        click.echo(
            f"Error: {type(error).__name__}: {printable(str(error))}\n"
            "This is a bug in cmcd or a plugin; CMCD_DEBUG=1 shows where.",
            err=True,
        )
        code = 1
    sys.exit(code)
