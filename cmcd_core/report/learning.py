"""The sections of what was learnt and how: losses, diagnostics, cost, distances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from .blocks import Block, Figure, Figures, Folded, Prose, Section, Table
from .charts import Change, Line, Point, Style, changes, legend, lines, parts_of_whole
from .evidence import Evidence
from .words import ALIKE, APART, STAGES, Headline, counted, duration, estimated, sure

SMALL = (300, 190)
NUMBERS = ("epoch", "stage", "loss")
"""Entries of a line of metrics.jsonl that are no diagnostics."""
MOST_DIAGNOSTICS = 12
TITLES: Mapping[str, str] = {"pretrain": "Step 1: the source encoder", "distill": "Step 2: distillation"}


def learning(run: Evidence) -> Iterator[Section]:
    """Losses and diagnostics, epoch by epoch."""
    blocks: list[Block] = []
    figures = [_loss(stage, entries) for stage, entries in run.log.items() if _numbers(entries, "loss")]
    if figures:
        blocks.append(Figures(figures, "small" if len(figures) > 2 else "medium"))
    for stage, entries in run.log.items():
        if panels := _diagnostics(stage, entries):
            blocks.append(Prose(f"What the objective reports in {_title(stage).lower()}, epoch by epoch:"))
            blocks.append(Figures(panels[:MOST_DIAGNOSTICS], "small"))
            if len(panels) > MOST_DIAGNOSTICS:
                rest = panels[MOST_DIAGNOSTICS:]
                blocks.append(Folded(f"{len(rest)} further diagnostics", [Figures(rest, "small")]))
    if blocks:
        lead = "A loss that still falls at the end asks for more epochs; one that never fell has taught nothing."
        yield Section("learning", "How it learnt", lead, blocks)


def cost(run: Evidence) -> Iterator[Section]:
    """Seconds, pairs, sizes of the networks."""
    seconds = {STAGES.get(stage, stage): spent for stage, spent in run.result.get("seconds", {}).items() if spent > 0}
    blocks: list[Block] = []
    if seconds:
        title = f"{duration(sum(seconds.values()))} in all"
        blocks.append(
            Figures([Figure(title, parts_of_whole(seconds, f"Where the time went: {title}", duration))], "wide")
        )
    rows = [[name, value] for name, value in _amounts(run)]
    if rows:
        blocks.append(Table("What went in", ["what", "how much"], rows, words=2))
    if blocks:
        yield Section("cost", "What it cost", "Seconds are of this machine, each step as it was last run.", blocks)


def _amounts(run: Evidence) -> Iterator[tuple[str, str]]:
    pretrain, taught = run.result.get("pretrain", {}), run.result.get("distill", {})
    if teacher := pretrain.get("teacher"):
        names = [teacher] if isinstance(teacher, str) else list(teacher)
        yield "teacher" if len(names) == 1 else "teachers, side by side", ", ".join(map(str, names))
    elif pretrain:
        yield "source samples of step 1", f"{pretrain.get('samples', '?')}, {pretrain.get('epochs', '?')} epochs"
    if taught:
        yield "unlabelled pairs of step 2", f"{taught.get('pairs', '?')}, {taught.get('epochs', '?')} epochs"
    labels = sorted({entry["n_train"] for entry in run.result.get("evaluations", ())})
    if labels:
        yield "labels of step 3", ", ".join(f"{count:,}" for count in labels)
    for side, name in (("source", run.source), ("target", run.target)):
        if side in run.parameters:
            yield f"numbers in the {side} encoder ({name})", f"{run.parameters[side]:,}"


def distance(run: Evidence) -> Iterator[Section]:
    """How far apart the modalities were, and are."""
    found = run.result.get("distance") or {}
    if not found:
        return
    nearer = "This is where distillation shows: further right after it."
    further = (
        "Of a bound its sure end is shown. Total variation near 1 is usual between modalities: a classifier tells them "
        "apart, however well pairs match."
    )
    figures = [
        _changes(found, ALIKE, "How alike: 1 is the same", nearer),
        _changes(found, APART, "How far apart: 0 is the same", further),
    ]
    lead = (
        f"{counted(found['pairs'], 'held-out pair')} of the {found['split']} split, before and after step 2, compared "
        f"in {found['space']} space."
    )
    everything = [_estimates(found, centred) for centred in (False, True)]
    blocks: list[Block] = [Figures(figures), Folded("All estimates", everything)]
    yield Section("distance", "How far apart the modalities are", lead, blocks)


def _changes(found: Mapping[str, Any], shown: Sequence[Headline], title: str, caption: str) -> Figure:
    rows = []
    for one in shown:
        before, after = (sure(found.get(when, ()), one) for when in ("before", "after"))
        if before is not None or after is not None:
            rows.append(Change(one.words, before, after))
    key = legend([("before", Style(0, hollow=True)), ("after", Style(0))], lines=False)
    return Figure(title, key + changes(rows, f"{title}; before and after distillation"), caption)


def _estimates(found: Mapping[str, Any], centred: bool) -> Table:
    ends = {
        when: {e["name"]: e for e in found.get(when, ()) if e["centred"] == centred} for when in ("before", "after")
    }
    names = dict.fromkeys([*ends["before"], *ends["after"]])
    rows = []
    for name in names:
        either = ends["after"].get(name) or ends["before"][name]
        both = (ends[when].get(name) for when in ("before", "after"))
        rows.append([name, either["direction"], *(estimated(one) if one else "–" for one in both)])
    how = "each modality's mean taken away" if centred else "raw"
    return Table(f"Estimates, {how}: value [95 % ends that are known]", ["estimate", "is", "before", "after"], rows, 2)


def _title(stage: str) -> str:
    return TITLES.get(stage, stage)


def _numbers(entries: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    found = [(entry["epoch"], entry.get(name)) for entry in entries]
    return [Point(e + 1, float(v)) for e, v in found if isinstance(v, int | float) and isfinite(v)]


def _loss(stage: str, entries: Sequence[Mapping[str, Any]]) -> Figure:
    marks = _numbers(entries, "loss")
    title = _title(stage)
    chart = lines(
        [Line("loss", marks, Style(0))], f"Loss of {title}, by epoch", x="epoch", y="loss", marks=len(marks) < 15,
        x_ticks=_epochs(marks),
    )  # fmt: skip
    change = f"From {marks[0].y:.3g} to {marks[-1].y:.3g} in {counted(len(marks), 'epoch')}."
    return Figure(title, chart, change)


def _diagnostics(stage: str, entries: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """A panel for each number that an objective reports."""
    names = dict.fromkeys(name for entry in entries for name in entry if name not in NUMBERS)
    panels = []
    for name in names:
        if len(marks := _numbers(entries, name)) > 1:
            chart = lines(
                [Line(name, marks, Style(2))], f"{name} in {_title(stage)}, by epoch", x="epoch", y="", size=SMALL,
                marks=len(marks) < 15, x_ticks=_epochs(marks),
            )  # fmt: skip
            panels.append(Figure(name, chart))
    return panels


def _epochs(marks: Sequence[Point]) -> list[tuple[float, str]]:
    """Whole epochs only."""
    every = [int(mark.x) for mark in marks]
    step = max(1, -(-len(every) // 6))
    return [(epoch, str(epoch)) for epoch in dict.fromkeys([*every[::step]])]
