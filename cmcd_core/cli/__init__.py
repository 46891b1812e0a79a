"""The command line. This module imports click alone; each command brings in what it needs when it runs."""

from __future__ import annotations

import os
import select
import sys
from io import TextIOWrapper
from typing import Any

import click

from ..errors import CmcdError, printable
from ..started import is_child
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
from .report import report
from .retrieve import retrieve
from .run import run
from .steps import distill, evaluate, pretrain

START = (
    ("cmcd run --source image --target depth", "the whole method on the embedded demo data"),
    ("cmcd run --target depth --data FOLDER", "the same on your own pairs"),
    ("cmcd data check FOLDER", "whether a run could read them"),
    ("cmcd plugins list", "what is installed"),
    ("cmcd doctor", "what this machine has, and what will hurt"),
    ("cmcd --help", "all commands; after one of them: its options"),
)
"""What to type first, and what it does."""


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: cmcd run --source image --target depth (generated data). `cmcd` alone says more.",
)  # fmt: skip
@click.version_option(package_name="cmcd", message="cmcd %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Teach a new sensor what images already know: cross-modality contrastive distillation."""
    if context.invoked_subcommand is None:
        width = max(len(command) for command, _ in START)
        lines = [f"  {command:<{width}}  {what}" for command, what in START]
        click.echo("\n".join([f"cmcd: {(cli.help or '').partition(':')[0].lower()}. Start here:", "", *lines]))


for command in (run, pretrain, distill, evaluate, compare, report, distance, bound):
    cli.add_command(command)
for command in (embed, predict, retrieve, export, data, plugins, cache, doctor):
    cli.add_command(command)


def _plain(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    """What https://no-color.org asks of those who want none, for everything that this process draws and starts."""
    if given:
        os.environ["NO_COLOR"] = "1"


def _with_no_color(command: click.Command) -> None:
    """``cmcd --no-color run`` and ``cmcd run --no-color`` are the same."""
    text = "No colours; the environment variable NO_COLOR does the same."
    command.params.append(
        click.Option(["--no-color"], is_flag=True, is_eager=True, expose_value=False, callback=_plain, help=text)
    )
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _with_no_color(inner)


_with_no_color(cli)


def _reader_left(stop: SystemExit, stdout: Any) -> bool:
    """Whether nobody reads stdout any more (`cmcd … | head`), which is no failure, though rich and click exit with 1 on
    it; click, which has then put something silent in the place of stdout, does so on any other broken pipe too."""
    if sys.stdout is stdout:
        return isinstance(stop.__context__, BrokenPipeError)
    pipe = select.poll()
    pipe.register(stdout, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in pipe.poll(0))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit 0 done, 1 the run failed, 2 usage, configuration or data, 130/143 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words or bool(os.environ.get("CMCD_DEBUG"))
    for stream in (sys.stdout, sys.stderr):  # in a pipe or file too, each line is there once it is written
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    stdout = sys.stdout
    code: str | int | None
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
        if not error.told:
            click.echo(f"Error: {error}", err=True)
        code = error.exit_code
    except SystemExit as stop:
        code = 0 if _reader_left(stop, stdout) else stop.code
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
    sys.exit(0 if is_child() else code)  # what it has to say is said; Fabric would kill the one that speaks for it
