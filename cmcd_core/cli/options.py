"""The flags of the commands that run steps, and how they become one configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

KEYS: dict[str, str] = {
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
    "pretrain_epochs": "pretrain.epochs",
    "pretrain_batch_size": "pretrain.batch_size",
    "seed": "run.seed",
    "out": "run.out",
    "device": "run.device",
    "devices": "run.devices",
    "precision": "run.precision",
    "tensorboard": "run.tensorboard",
}
"""Each flag is another name of one configuration key."""

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Callable[..., Any]], Callable[..., Any]]
opt = click.option

SOURCE = opt("--source", metavar="NAME", help="The rich modality.  [default: image]")
TARGET = opt("--target", metavar="NAME", help="The modality to teach, such as depth.")
TEACHERS = (
    opt("--teacher", "teachers", multiple=True, metavar="NAME|DIR|FILE",
        help="A pretrained source encoder instead of step 1: efficientnet-lite0, a timm name, an encoder's folder, a "
        ".safetensors file. Several: their features side by side."),
    opt("--teacher-architecture", metavar="NAME", help="timm architecture of a .safetensors teacher."),
)  # fmt: skip
PRESET = opt("--preset", metavar="NAME", help="Settings that go well together: recommended. Other flags go over them.")
DISTILL = (
    opt("--objective", metavar="EXPR", help="What step 2 minimises: cmd, cmc, 'cmd + 0.5*cmc'.  [default: cmd]"),
    *TEACHERS,
    opt("--student", metavar="NAME", help="timm architecture of the target encoder.  [default: a slim ResNet]"),
    opt("--init", type=click.Choice(["source", "random", "auto"]), help="Where the student starts.  [default: random]"),
    opt("--epochs", type=int, metavar="N", help="Epochs of step 2 (and at most of step 1)."),
    opt("--batch-size", type=int, metavar="N", help="Pairs a step.  [default: 64]"),
    PRESET,
)  # fmt: skip
PRETRAIN = (
    opt("--epochs", "pretrain_epochs", type=int, metavar="N", help="Epochs of step 1."),
    opt("--batch-size", "pretrain_batch_size", type=int, metavar="N", help="Samples a step.  [default: 64]"),
)
EVALUATE = (
    opt("--task", "tasks", multiple=True, metavar="NAME", help="What step 3 evaluates.  [default: all it can]"),
    opt(
        "--protocol",
        "protocols",
        multiple=True,
        metavar="NAME",
        help="linear, finetune, knn or auto.  [default: linear]",
    ),
    opt("--labels", multiple=True, metavar="N|F%", help="Label budgets: 5 a class, or 10%.  [default: 5]"),
    opt("--label-draws", type=int, metavar="N", help="Label subsets to average over.  [default: 10]"),
    opt(
        "--baseline",
        "baselines",
        multiple=True,
        metavar="NAME",
        help="scratch, ssl-target, source, an objective, or none.  [default: scratch]",
    ),
)
DEVICES = opt(
    "--devices",
    type=click.IntRange(1),
    metavar="N",
    help="Processes a machine that share each batch of steps 1 and 2.  [default: 1, or as torchrun has it]",
)
EXTEND = opt("--extend", is_flag=True, help="Go on in --out to more epochs of step 2 (--epochs N, all in all).")
JSON = opt("--json", "as_json", is_flag=True, help="As JSON on stdout, all else on stderr.")
QUIET = opt("--quiet", is_flag=True, help="No progress.")
DEBUG = opt("--debug", is_flag=True, help="Show tracebacks.")
SETTINGS = (
    opt("--seed", type=int, metavar="N", help="Seed of all randomness.  [default: 0]"),
    opt("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run's folder.  [default: runs/…]"),
    opt("--resume", is_flag=True, help="Go on in --out where it stopped."),
    opt("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Where to compute.  [default: auto]"),
    opt("--precision", type=click.Choice(["auto", "32-true", "bf16-mixed", "16-mixed"]),
        help="Of floating-point numbers in trainings.  [default: auto]"),
    opt("--tensorboard", is_flag=True, default=None, help="Each epoch's numbers for TensorBoard too."),
    opt("-c", "--config", "file", type=click.Path(path_type=Path), metavar="FILE.toml", help="A configuration."),
    opt("-o", "--option", "assignments", multiple=True, metavar="KEY=VALUE",
        help="Any key: distill.lr=0.001, target.unit=m, evaluate.data=FOLDER. Wins over all."),
)  # fmt: skip
COMMON = (
    *SETTINGS,
    opt("--dry-run", is_flag=True, help="Check everything, print the configuration and an estimate, and stop."),
    opt("--json", "as_json", is_flag=True, help="Print result.json on stdout, all else on stderr."),
    QUIET,
    DEBUG,
)


def data(text: str) -> Option:
    """``--data``: a loader and a path, so no key of its own."""
    return opt("--data", metavar="PATH|LOADER:PATH", help=text)


def options(*declared: Option) -> Callable[[Command], Command]:
    """Decorate a command with options, in the order in which its help lists them."""

    def decorate(command: Any) -> Any:
        for option in reversed(declared):
            command = option(command)
        return command

    return decorate


def configuration(
    base: dict[str, Any], flags: dict[str, Any], data: str | None, assignments: tuple[str, ...]
) -> dict[str, Any]:
    """Plain data for RunConfig: ``base`` (a file's), the preset, the other flags that were given, then -o on top."""
    from ..errors import ConfigError
    from ..grammar import merge, parse_data, section_of, set_key
    from ..presets import under_preset

    values = dict(base)
    for section in ("source", "target", "objective", "task", "data"):
        if isinstance(values.get(section), str):
            values[section] = section_of(section, values[section])
    if isinstance(values.get("task"), list):
        values["task"] = {"names": values["task"]}
    for section in {key.partition(".")[0] for key in KEYS.values()} & values.keys():
        if not isinstance(values[section], dict):
            raise ConfigError(
                f"{section}: expected a table, got {values[section]!r}", f"In TOML: [{section}], its keys below."
            )
    if name := flags.get("preset"):
        values = under_preset(name, values, objective=flags.get("objective") is not None)
    _forget_what_is_replaced(values, flags)
    for flag, given in flags.items():
        if flag not in KEYS or given is None or given == ():
            continue
        section, name = KEYS[flag].split(".")
        values = merge(values, {section: {name: list(given) if isinstance(given, tuple) else given}})
    if data is not None:
        named = parse_data(data)
        values["data"] = {**_options_for(named, values.get("data")), **named}
    for assignment in assignments:
        set_key(values, assignment)
    return values


def _options_for(named: dict[str, str], there: Any) -> dict[str, Any]:
    """A file's options of the data, unless it names another data set than the flag does."""
    if not isinstance(there, dict):
        return {}
    same = all(there[name] == named.get(name) for name in ("loader", "root") if name in there)
    return there if same else {}


def _forget_what_is_replaced(values: dict[str, Any], flags: dict[str, Any]) -> None:
    """A flag that names another modality, objective or task leaves no use for the file's options of the old one."""
    for section in ("source", "target"):
        there, given = values.get(section, {}), flags.get(section)
        if given is not None and given.rpartition(":")[2] != str(there.get("name", given)).rpartition(":")[2]:
            values[section] = {}
    _forget_objectives(values, flags)
    if (names := flags.get("tasks")) and "task" in values:
        keys = {name.rpartition(":")[2] for name in names}
        values["task"] = {key: table for key, table in values["task"].items() if key in keys}


def _forget_objectives(values: dict[str, Any], flags: dict[str, Any]) -> None:
    """Tables of objectives that a flag has replaced, in the run or among its baselines; tables of nothing stay, to be
    told of."""
    from ..config import ObjectiveConfig

    there, listed = values.get("objective", {}), values.get("evaluate", {}).get("baselines") or ()
    given, baselines = flags.get("objective"), flags.get("baselines")
    own = there.get("expression") or ObjectiveConfig().expression
    replaced = _keys_of(own, listed) - _keys_of(given or own, baselines or listed)
    if given is not None:
        replaced |= {"expression"}
    if there:
        values["objective"] = {key: table for key, table in there.items() if key not in replaced}


def _keys_of(expression: Any, baselines: Any) -> set[str]:
    """Names of the options' tables that a run's objective and its baselines have; what is no text is told of later."""
    from ..config import BASELINES
    from ..grammar import parse_expression

    every = [expression, *(baselines if isinstance(baselines, list | tuple) else [baselines])]
    texts = (one for one in every if isinstance(one, str) and one not in BASELINES)
    return {term.key for one in texts for term in parse_expression(one)}
