"""``cmcd run``: the whole method in one command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

FLAGS: dict[str, str] = {
    "source": "source.name",
    "target": "target.name",
    "objective": "objective.expression",
    "tasks": "task.names",
    "protocols": "evaluate.protocols",
    "labels": "evaluate.labels",
    "label_draws": "evaluate.label_draws",
    "baselines": "evaluate.baselines",
    "teachers": "pretrain.teacher",
    "teacher_architecture": "pretrain.teacher_architecture",
    "student": "distill.student",
    "init": "distill.init",
    "epochs": "distill.epochs",
    "batch_size": "distill.batch_size",
    "seed": "run.seed",
    "out": "run.out",
    "device": "run.device",
    "precision": "run.precision",
}
"""Each flag is another name of one configuration key."""


@click.command(short_help="Pretrain, distil and evaluate in one go.")
@click.option("--source", metavar="NAME", help="The rich modality.  [default: image]")
@click.option("--target", metavar="NAME", help="The modality to teach, such as depth.")
@click.option("--data", metavar="PATH|LOADER:PATH", help="Your pairs.  [default: the embedded demo data]")
@click.option("--objective", metavar="EXPR", help="What step 2 minimises: cmd, cmc, 'cmd + 0.5*cmc'.  [default: cmd]")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="What step 3 evaluates.  [default: all it can]")
@click.option("--protocol", "protocols", multiple=True, metavar="NAME", help="linear.  [default: linear]")
@click.option("--labels", multiple=True, metavar="N|F%", help="Label budgets: 5 a class, or 10%.  [default: 5]")
@click.option("--label-draws", type=int, metavar="N", help="Label subsets to average over.  [default: 10]")
@click.option("--baseline", "baselines", multiple=True, metavar="NAME", help="scratch or none.  [default: scratch]")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="NAME|DIR|FILE",
    help="A pretrained source encoder instead of step 1: a timm name, an encoder's folder, a .safetensors file.",
)
@click.option("--teacher-architecture", metavar="NAME", help="timm architecture of a .safetensors teacher.")
@click.option("--student", metavar="NAME", help="timm architecture of the target encoder.  [default: a slim ResNet]")
@click.option("--init", type=click.Choice(["source", "random"]), help="Where the student starts.  [default: random]")
@click.option("--epochs", type=int, metavar="N", help="Epochs of step 2 (and at most of step 1).")
@click.option("--batch-size", type=int, metavar="N", help="Pairs a step.  [default: 64]")
@click.option("--seed", type=int, metavar="N", help="Seed of all randomness.  [default: 0]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run's folder.  [default: runs/…]")
@click.option("--resume", is_flag=True, help="Go on in --out where it stopped.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Where to compute.  [default: auto]")
@click.option("--precision", type=click.Choice(["auto", "32-true", "bf16-mixed", "16-mixed"]), help="[default: auto]")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path), metavar="FILE.toml", help="A configuration.")
@click.option(
    "-o",
    "--option",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any key: distill.lr=0.001, target.unit=m, objective.cmd.temperature_target=0.1. Wins over all.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, print the configuration and an estimate, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print result.json on stdout, all else on stderr.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def run(
    data: str | None,
    file: Path | None,
    assignments: tuple[str, ...],
    resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **flags: Any,
) -> int:
    """Teach a target modality what a source modality knows, from unlabelled pairs, and measure it with few labels.

    \b
    cmcd run --source image --target depth
    cmcd run --target depth --data my_pairs/ --teacher resnet18.a1_in1k --labels 5 --labels 100%
    """  # fmt: skip
    from ..catalog import load
    from ..config import RunConfig
    from ..pipeline import run as run_method
    from ..resolve import resolve
    from .console import Terminal

    values = configuration(data, file, assignments, flags, resume)
    config = RunConfig.from_mapping(values, str(file or ""))
    catalog = load()
    terminal = Terminal(quiet=quiet, results_to_stderr=as_json)
    broken = [plugin.name for plugin in catalog.plugins if plugin.status in ("broken", "incompatible")]
    if broken:
        terminal.note(f"not loaded: {', '.join(broken)} (see `cmcd plugins list`)")
    if dry_run:
        from .estimate import estimate

        resolved = resolve(config, catalog)
        terminal.plan(resolved, estimate(resolved))
        return 0
    with stopped_by_signals() as stopped:
        try:
            result = run_method(config, resume=resume, progress=terminal, catalog=catalog, announce=terminal.start)
        except (KeyboardInterrupt, Stopped):
            terminal.interrupted()
            return 143 if stopped() else 130
        finally:
            terminal.close()
    if as_json:
        click.echo(result.folder.joinpath("result.json").read_text(encoding="utf-8"), nl=False)
    terminal.result(result)
    return 0


def configuration(
    data: str | None, file: Path | None, assignments: tuple[str, ...], flags: dict[str, Any], resume: bool
) -> dict[str, Any]:
    """Plain data for RunConfig: the file, then flags, then -o on top."""
    from ..errors import ConfigError
    from ..grammar import merge, parse_data, read_toml, section_of, set_key

    out: Path | None = flags.get("out")
    if resume and out is None:
        raise ConfigError("--resume: which run?", "Name its folder with --out.")
    if resume and out and file is None and (out / "config.toml").is_file():
        file = out / "config.toml"
    values = read_toml(file) if file else {}
    for section in ("source", "target", "objective", "task", "data"):
        if isinstance(values.get(section), str):
            values[section] = section_of(section, values[section])
    for flag, key in FLAGS.items():
        given = flags.get(flag)
        if given is None or given == ():
            continue
        section, name = key.split(".")
        values = merge(values, {section: {name: list(given) if isinstance(given, tuple) else given}})
    if data is not None:
        values["data"] = dict(parse_data(data))
    for assignment in assignments:
        set_key(values, assignment)
    return values


class Stopped(BaseException):
    """SIGTERM: unwinds like Ctrl-C, so that files are closed and the resume command is printed."""


class stopped_by_signals:  # noqa: N801 (used as a with statement)
    """Turn SIGTERM into an exception for as long as the block runs."""

    def __enter__(self) -> Any:
        self.seen = False
        self.before = signal.signal(signal.SIGTERM, self._stop) if sys.platform != "win32" else None
        return lambda: self.seen

    def __exit__(self, *exc: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        raise Stopped
