"""What is said of a finished run: its numbers in a table and in words, where it lies, what to type next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from ..report.words import ALIKE, APART, budget, labels_of, rank, sure
from .console import TITLES, Terminal

if TYPE_CHECKING:
    from ..result import Result


def show(terminal: Terminal, result: Result) -> None:
    """The closing table, the comparison in words, the seconds a step, the folder, and what to type next."""
    values, out = result.values, terminal.out
    for line in taught_lines(values, terminal.steps):
        out.print(escape(line), soft_wrap=True)
    if values["evaluations"] and "evaluate" in terminal.steps:
        for table in scores_tables(values):
            out.print(table)
        for line in verdicts(values):
            out.print(escape(line), soft_wrap=True)
    if len(set(values["data_of"].values())) > 1:
        for step, data in values["data_of"].items():
            out.print(f"{TITLES[step]} used {escape(data)}", soft_wrap=True)
    seconds = ", ".join(f"{stage} {spent:.1f} s" for stage, spent in values["seconds"].items())
    out.print(f"seconds: {seconds}; {sum(values['seconds'].values()):.0f} s in all", soft_wrap=True)
    out.print(f"folder:  {escape(_quoted(result.folder))}", soft_wrap=True)
    if (result.folder / "report.html").is_file():
        out.print(f"report:  {escape(_quoted(result.folder / 'report.html'))}", soft_wrap=True)
    out.print("next:", style="bold")
    for command, why in next_commands(values, result.folder):
        out.print(f"  {escape(command)}   [dim]# {why}[/dim]", soft_wrap=True)


def taught_lines(values: Mapping[str, Any], steps: Sequence[str]) -> Iterator[str]:
    """What steps 1 and 2 did, and how near they brought the modalities."""
    for step in ("pretrain", "distill"):
        if step in steps and (said := _summary(values[step])):
            yield f"{TITLES[step]}: {said}"
    if "distill" in steps:
        yield from distance_lines(values)


def _summary(found: Mapping[str, Any]) -> str:
    """``60 epochs, loss 2.91, 2000 samples``."""
    return ", ".join(
        f"{name} {value:.3f}" if name == "loss" else f"{value} {name}" if isinstance(value, int) else f"{name} {value}"
        for name, value in found.items()
        if value is not None
    )


def distance_lines(values: Mapping[str, Any]) -> Iterator[str]:
    """How far apart the two encoders' features of held-out pairs were before step 2, and are after it."""
    found = values.get("distance") or {}
    if not found:
        return
    yield (
        f"distance of {values['source']} and {values['target']} features, {found['pairs']} {found['split']} pairs, in "
        f"{found['space']} space; before -> after:"
    )
    for one in (*ALIKE, *APART):
        before, after = sure(found["before"], one), sure(found["after"], one)
        vacuous = one.end == "high" and after is not None and after >= 1
        if before is not None and after is not None and not vacuous:
            yield f"  {one.words}: {before:.2f} -> {after:.2f}"


def scores_tables(values: Mapping[str, Any]) -> list[Table]:
    """For each data set that was evaluated on: encoder, protocol, labels, primary metric with its 95 % interval."""
    every = values["evaluations"]
    return [
        scores_table(values, [entry for entry in every if entry["data"] == data])
        for data in dict.fromkeys(entry["data"] for entry in every)
    ]


def scores_table(values: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Table:
    """The evaluations on one data set."""
    sizes = {entry["task"]: entry["n_test"] for entry in entries if entry["encoder"] != "source"}
    tests = ", ".join(f"{task} ({count} test samples)" for task, count in sizes.items())
    start = f"{values['source']} -> {values['target']}" if "distill" in values["steps"] else values["target"]
    table = Table(title=escape(f"{start}: {tests} of {entries[0]['data']}"), title_justify="left")
    for column in ("encoder", "sees", "protocol", "labels", "metric"):
        table.add_column(column, no_wrap=True)
    table.add_column("mean  [95 % interval]", no_wrap=True)
    table.add_column("draws", justify="right")
    for entry in sorted(entries, key=lambda e: (e["task"], e["n_train"], rank(e["encoder"]), e["protocol"])):
        name = entry["primary"]
        low, high = entry["intervals"][name]
        table.add_row(
            entry["encoder"],
            entry["modality"],
            entry["protocol"],
            f"{budget(entry)} ({entry['n_train']})",
            name,
            escape(f"{entry['metrics'][name]:.3f}  [{low:.3f}, {high:.3f}]"),
            str(entry["draws"]),
            style="bold" if entry["encoder"] == "distilled" else None,
        )
    return table


def verdicts(values: Mapping[str, Any]) -> Iterator[str]:
    """Did it pay? In words, with the paired interval."""
    compared = values["comparisons"]
    several = [name for name in ("task", "protocol", "data") if len({entry[name] for entry in compared}) > 1]
    for entry in sorted(compared, key=lambda e: rank(e["over"])):
        low, high = entry["interval"]
        word = "better than" if low > 0 else "worse than" if high < 0 else "not clearly different from"
        which = ", ".join(str(entry[name]) for name in several)
        named = f"distilled ({which})" if which else "distilled"
        yield (
            f"{named} is {word} {entry['over']} with {labels_of(entry, values['evaluations'])}: "
            f"{entry['difference'] * 100:+.1f} points of {entry['metric']} "
            f"(95 % interval {low * 100:+.1f} to {high * 100:+.1f}, paired)"
        )


def next_commands(values: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """(command, why) of what a user may type now."""
    source, target, steps, there = values["source"], values["target"], values["steps"], _quoted(folder)
    if "distill" not in steps:
        if "evaluate" in steps:
            return [(f"cmcd evaluate {there} --labels 10%", "more label budgets")]
        return [(f"cmcd distill {there} --target NAME --data YOUR_PAIRS", "step 2, from this source encoder")]
    load = f"import cmcd_core; print(cmcd_core.load_encoder({json.dumps(str(folder / 'target'))}))"
    use = (f"python -c {shlex.quote(load)}", "use the encoder")
    if "evaluate" not in steps:
        return [(f"cmcd evaluate {there}", "step 3, with few labels"), use]
    if not values["evaluations"]:
        return [(f"cmcd evaluate {there} --data LABELLED_FOLDER", "step 3, on data that have labels"), use]
    own = (f"cmcd run --source {source} --target {target} --data YOUR_FOLDER", "your own pairs")
    more = (f"cmcd evaluate {there} --labels 100%", "more label budgets")
    return [
        own if values["data"] == "demo" else more,
        (f"cmcd run -c {_quoted(folder / 'config.toml')}", "this very run again"),
        use,
    ]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
