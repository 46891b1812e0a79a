"""What a person sees: bars with an estimate of what is left, a closing table, what to type next."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import tomli_w
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from ..config import STEPS, Step
from ..errors import printable
from ..progress import Advance, Progress
from ..report.words import budget, rank

if TYPE_CHECKING:
    from ..resolve import Place, Resolved
    from ..result import Result

TITLES: Mapping[str, str] = {"pretrain": "step 1", "distill": "step 2", "evaluate": "step 3"}
SIGN_OF_LIFE = 60.0
"""Seconds between the lines that stand for a bar where there is no terminal."""


class Terminal(Progress):
    """Bars and notes on stderr, results on stdout. Without a terminal: plain lines, one a minute and one at the end.

    A ``with`` statement takes the bars away however it ends: they hide the cursor.
    """

    def __init__(self, *, quiet: bool, results_to_stderr: bool) -> None:
        self.quiet = quiet
        self.folder: Path | None = None
        self.steps: tuple[Step, ...] = STEPS
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        self.out = Console(stderr=results_to_stderr, highlight=False)
        if not self.out.is_terminal and "COLUMNS" not in os.environ:
            self.out.width = 100
        self.bars: Bars | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self, resolved: Resolved, folder: Path) -> None:
        """Say what is about to happen, on which data, and where it goes."""
        self.folder, self.steps = folder, resolved.steps
        places = dict.fromkeys(resolved.places.values())
        what = resolved.source.name
        if resolved.config.target is not None:
            what = f"{what} -> {resolved.target.name}" if "distill" in resolved.steps else resolved.target.name
        if len(places) == 1:
            data = [f"cmcd: {what} on {_described(next(iter(places)))}"]
        else:
            data = [f"cmcd: {what}", *(f"{TITLES[s]} on {_described(p)}" for s, p in resolved.places.items())]
        objective = f"objective {resolved.expression}, " if "distill" in resolved.steps else ""
        self.note("\n".join([*data, f"{objective}seed {resolved.config.run.seed}, folder {folder}"]))

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Advance]:
        began, last, done, told = time.perf_counter(), "", 0, time.perf_counter()
        if self.quiet:
            yield lambda steps, detail: None
            return
        bars = self._bars()
        task = bars.add_task(title, total=total, detail="")

        def advance(steps: int, detail: str) -> None:
            nonlocal last, done, told
            last, done = detail, done + steps
            bars.update(task, advance=steps, detail=detail)
            if not self.err.is_terminal and time.perf_counter() - told >= SIGN_OF_LIFE:
                told = time.perf_counter()
                self._line(f"{title:<28} {done} of {total}  {detail}".rstrip())

        yield advance
        bars.remove_task(task)
        tail = f"  ({last})" if last else ""
        self._line(f"{title:<28} {time.perf_counter() - began:6.1f} s{tail}")

    def note(self, text: str) -> None:
        if not self.quiet:
            self._line(text)

    def close(self) -> None:
        """Take the bars away."""
        if self.bars is not None:
            self.bars.stop()
            self.bars = None

    def plan(self, resolved: Resolved, estimate: Mapping[str, str]) -> None:
        """``--dry-run``: the configuration on stdout, the estimate on stderr."""
        self.out.out(tomli_w.dumps(resolved.config.to_mapping()), end="", highlight=False)
        for place in dict.fromkeys(resolved.places.values()):
            for note in place.loader.notes:
                self.err.out(note, highlight=False)
        for name, text in estimate.items():
            self.err.out(f"{name:<8} {text}", highlight=False)

    def interrupted(self) -> None:
        """Ctrl-C or SIGTERM: nothing is lost, and how to go on."""
        self.close()
        self.err.out("interrupted; what was done is saved", highlight=False)
        if self.folder is not None:
            folder = shlex.quote(str(self.folder))
            single = f"cmcd {self.steps[-1]} {folder}"
            command = f"cmcd run --out {folder} --resume" if self.steps == STEPS else single
            self.err.out(f"go on with: {command}", highlight=False)

    def result(self, result: Result) -> None:
        """The closing table, the comparison in words, the seconds a step, the folder, and what to type next."""
        values = result.values
        for step in ("pretrain", "distill"):
            if step in self.steps and (said := _summary(values[step])):
                self.out.print(f"{TITLES[step]}: {escape(said)}", soft_wrap=True)
        if "distill" in self.steps:
            for line in distance_lines(values):
                self.out.print(escape(line), soft_wrap=True)
        if values["evaluations"] and "evaluate" in self.steps:
            for table in scores_tables(values):
                self.out.print(table)
            for line in verdicts(values):
                self.out.print(escape(line), soft_wrap=True)
        if len(set(values["data_of"].values())) > 1:
            for step, data in values["data_of"].items():
                self.out.print(f"{TITLES[step]} used {escape(data)}", soft_wrap=True)
        seconds = ", ".join(f"{stage} {spent:.1f} s" for stage, spent in values["seconds"].items())
        self.out.print(f"seconds: {seconds}; {sum(values['seconds'].values()):.0f} s in all", soft_wrap=True)
        folder = shlex.quote(str(result.folder))
        self.out.print(f"folder:  {escape(folder)}", soft_wrap=True)
        if (result.folder / "report.html").is_file():
            self.out.print(f"report:  {escape(shlex.quote(str(result.folder / 'report.html')))}", soft_wrap=True)
        self.out.print("next:", style="bold")
        for command, why in _next(values, folder):
            self.out.print(f"  {escape(command)}   [dim]# {why}[/dim]", soft_wrap=True)

    def _bars(self) -> Bars:
        if self.bars is None:
            columns = (
                TextColumn("{task.description:<28}"),
                BarColumn(24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self.bars = Bars(*columns, console=self.err, transient=True, disable=not self.err.is_terminal)
            self.bars.start()
        return self.bars

    def _line(self, text: str) -> None:
        self.err.print(escape(printable(text)), soft_wrap=True)


def _described(place: Place) -> str:
    if place.part.name == "demo":
        return "the embedded demo data (generated; pass --data for yours)"
    return place.name


def _summary(found: Mapping[str, Any]) -> str:
    """``60 epochs, loss 2.91, 2000 samples``."""
    return ", ".join(
        f"{name} {value:.3f}" if name == "loss" else f"{value} {name}" if isinstance(value, int) else f"{name} {value}"
        for name, value in found.items()
        if value is not None
    )


SHOWN = (
    ("tv_lower_bound", "total variation, at least"),
    ("class_discrepancy", "largest change of a linear head's risk, at most"),
    ("linear_cka_unbiased", "linear CKA (1: alike)"),
    ("retrieval_at_1_target_to_source", "own partner is the nearest"),
)
"""Of all estimates, what the closing lines name; the rest is in result.json and `cmcd distance`."""


def distance_lines(values: Mapping[str, Any]) -> list[str]:
    """How far apart the two encoders' features of held-out pairs were before step 2, and are after it."""
    found = values.get("distance") or {}
    if not found:
        return []
    ends = {when: {(e["name"], e["centred"]): e for e in found[when]} for when in ("before", "after")}
    lines = [
        f"distance of {values['source']} and {values['target']} features, {found['pairs']} {found['split']} pairs, in "
        f"{found['space']} space; before -> after:"
    ]
    for name, text in SHOWN:
        kinds = (False, True) if name in ("tv_lower_bound", "class_discrepancy") else (False,)
        # Of a bound, what is guaranteed is its end, not its value.
        end = {"tv_lower_bound": "low", "class_discrepancy": "high"}.get(name, "value")
        shown = [
            f"{ends['before'][name, centred][end]:.2f} -> {ends['after'][name, centred][end]:.2f}"
            + (" once each modality's mean is taken away" if centred else "")
            for centred in kinds
            if (name, centred) in ends["before"]
            and (name, centred) in ends["after"]
            and not (name == "class_discrepancy" and ends["after"][name, centred][end] >= 1)  # says nothing
        ]
        if shown:
            lines.append(f"  {text}: {', '.join(shown)}")
    return lines


def _next(values: Mapping[str, Any], folder: str) -> list[tuple[str, str]]:
    """(command, why) of what a user may type now."""
    source, target, steps = values["source"], values["target"], values["steps"]
    if "distill" not in steps:
        if "evaluate" in steps:
            return [(f"cmcd evaluate {folder} --labels 10%", "more label budgets")]
        return [(f"cmcd distill {folder} --target NAME --data YOUR_PAIRS", "step 2, from this source encoder")]
    load = f"import cmcd_core; print(cmcd_core.load_encoder({folder + '/target'!r}))"
    use = (f'python -c "{load}"', "use the encoder")
    if "evaluate" not in steps:
        return [(f"cmcd evaluate {folder}", "step 3, with few labels"), use]
    if not values["evaluations"]:
        return [(f"cmcd evaluate {folder} --data LABELLED_FOLDER", "step 3, on data that have labels"), use]
    own = (f"cmcd run --source {source} --target {target} --data YOUR_FOLDER", "your own pairs")
    more = (f"cmcd evaluate {folder} --labels 100%", "more label budgets")
    return [
        own if values["data"] == "demo" else more,
        (f"cmcd run -c {folder}/config.toml", "this very run again"),
        use,
    ]


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
    table = Table(title=f"{start}: {tests} of {entries[0]['data']}", title_justify="left")
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


def verdicts(values: Mapping[str, Any]) -> list[str]:
    """Did it pay? In words, with the paired interval."""
    out = []
    several = {name: len({entry[name] for entry in values["comparisons"]}) > 1 for name in ("task", "protocol")}
    for entry in sorted(values["comparisons"], key=lambda e: rank(e["over"])):
        low, high = entry["interval"]
        points, ends = entry["difference"] * 100, f"{low * 100:+.1f} to {high * 100:+.1f}"
        word = "better than" if low > 0 else "worse than" if high < 0 else "not clearly different from"
        which = ", ".join(str(entry[name]) for name in ("task", "protocol") if several[name])
        named = f"distilled ({which})" if which else "distilled"
        out.append(
            f"{named} is {word} {entry['over']} with {entry['labels']} labels: {points:+.1f} points of "
            f"{entry['metric']} (95 % interval {ends}, paired)"
        )
    return out
