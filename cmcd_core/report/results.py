"""The section of results: every encoder under every label budget, the label-efficiency curve, the paired gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .answer import Answer
from .blocks import Block, Figure, Figures, Folded, Section, Table
from .charts import Line, Point, Row, Style, intervals, legend, lines
from .evidence import Evidence
from .words import budget, labels, listed, meaning, percent, points, rank, span

COLOURS: Mapping[str, tuple[int, int]] = {
    "distilled": (0, 0), "scratch": (1, 1), "ssl-target": (2, 2), "source": (3, 3), "untrained": (11, 0),
}  # fmt: skip
"""Colour and form of each encoder's marks, the same in all charts; other objectives follow."""
DASHED = {"finetune": 1, "knn": 2}
Entry = Mapping[str, Any]


def style_of(entry: Entry, others: Sequence[str]) -> Style:
    """An encoder has its colour and form, a protocol its dashes."""
    name = entry["encoder"]
    colour, form = COLOURS.get(name, (4 + others.index(name) % 4, 2 + others.index(name)) if name in others else (4, 2))
    return Style(colour, form, DASHED.get(entry["protocol"], 0), hollow=name == "untrained")


def headline_figure(run: Evidence, found: Answer) -> Figure | None:
    """Under the headline's task and labels: each encoder with its interval."""
    if not found.entry:
        return None
    same = ("task", "labels", "data", "modality")
    protocols = (found.entry["protocol"], "supervised")
    every = [e for e in run.result["evaluations"] if all(e[key] == found.entry[key] for key in same)]
    shown = sorted((e for e in every if e["protocol"] in protocols), key=lambda e: rank(e["encoder"]))
    rows = [_row(entry, _others(run), _named(entry, every)) for entry in shown]
    metric = found.entry["primary"]
    title = f"{metric} of each encoder on {run.target}, {labels(found.entry)}"
    caption = "Bars are 95 % intervals over test samples and label draws. " + " ".join(
        f"{name[0].upper()}{name[1:]}: {meaning(name)}." for name in dict.fromkeys(e["encoder"] for e in shown)
    )
    chart = intervals(rows, title, x=f"{metric} on the test split", say=lambda v: f"{v * 100:.0f} %")
    return Figure(title, chart, caption)


def results(run: Evidence, found: Answer) -> Iterator[Section]:
    """Nothing where nothing was evaluated."""
    entries = run.result.get("evaluations", ())
    if not entries:
        return
    blocks: list[Block] = []
    for task, data in dict.fromkeys((e["task"], e["data"]) for e in entries):
        own = [e for e in entries if (e["task"], e["data"]) == (task, data)]
        gains = [c for c in run.result.get("comparisons", ()) if (c["task"], c["data"]) == (task, data)]
        where = f"{task}, {data}" if len({(e["task"], e["data"]) for e in entries}) > 1 else task
        figures = [figure for figure in (_curve(run, own, where), _gains(run, own, gains, where)) if figure]
        if figures:
            blocks.append(Figures(figures))
        blocks.append(Folded(f"All scores: {where}", [_table(own, where), *_own_metrics(own, where)]))
    draws = max(entry["draws"] for entry in entries)
    lead = (
        f"Each score is the mean over up to {draws} label draws. All encoders see the same labelled samples and the "
        "same test samples, so that their differences are paired."
    )
    yield Section("labels", "What few labels are worth", lead, blocks)


def _curve(run: Evidence, entries: Sequence[Entry], where: str) -> Figure | None:
    """The label-efficiency curve; None where there is one budget."""
    on_target = [e for e in entries if e["modality"] == run.target or e["encoder"] == "distilled"]
    budgets = sorted({(e["n_train"], e["labels"]) for e in on_target})
    if len({count for count, _ in budgets}) < 2:
        return None
    series = []
    kinds = dict.fromkeys((e["encoder"], e["protocol"]) for e in sorted(on_target, key=lambda e: rank(e["encoder"])))
    for encoder, protocol in kinds:
        own = sorted(
            (e for e in on_target if (e["encoder"], e["protocol"]) == (encoder, protocol)), key=lambda e: e["n_train"]
        )
        marks = [Point(e["n_train"], e["metrics"][e["primary"]], *e["intervals"][e["primary"]]) for e in own]
        series.append(Line(_named(own[0], on_target), marks, style_of(own[0], _others(run))))
    metric = on_target[0]["primary"]
    title = f"Label efficiency: {where}"
    chart = lines(
        series, title, x="labels, in all (log scale)", y=f"{metric} on the test split", log=True,
        x_ticks=[(count, f"{count:,}") for count in sorted({count for count, _ in budgets})],
        say=lambda v: f"{v * 100:.0f} %",
    )  # fmt: skip
    caption = "Whiskers are 95 % intervals. The further left a line is high, the less labelling it asks for."
    return Figure(title, legend([(one.name, one.style) for one in series]) + chart, caption)


def _gains(run: Evidence, entries: Sequence[Entry], gains: Sequence[Entry], where: str) -> Figure | None:
    """Paired differences of the distilled encoder to each other one."""
    if not gains:
        return None
    sizes = {e["labels"]: (e["n_train"], budget(e)) for e in entries}
    ways = list(dict.fromkeys(c["protocol"] for c in gains))
    several = len(ways) > 1
    rows = []
    for gain in sorted(gains, key=lambda c: (rank(c["over"]), ways.index(c["protocol"]), sizes[c["labels"]][0])):
        name = f"over {gain['over']}, {sizes[gain['labels']][1]}" + (f", {gain['protocol']}" if several else "")
        style = style_of({"encoder": gain["over"], "protocol": ""}, _others(run))
        low, high = gain["interval"]
        shown = f"{points(gain['difference'])}  [{span((low, high))}]"
        rows.append(Row(name, gain["difference"], low, high, style, shown))
    title = f"Gain of the distilled encoder: {where}"
    chart = intervals(rows, title, x=f"points of {gains[0]['metric']}", say=points_plain, zero=True)
    caption = "Right of zero the distilled encoder is better. A bar that crosses zero settles nothing."
    return Figure(title, chart, caption)


def points_plain(value: float) -> str:
    """A tick of differences, in points."""
    return "0" if abs(value) < 1e-12 else points(value).removesuffix(".0")


def _table(entries: Sequence[Entry], where: str) -> Table:
    ordered = sorted(entries, key=lambda e: (e["n_train"], rank(e["encoder"]), e["protocol"]))
    rows = []
    for entry in ordered:
        low, high = entry["intervals"][entry["primary"]]
        score = percent(entry["metrics"][entry["primary"]])
        ends = f"{low * 100:.1f} to {high * 100:.1f}"
        words = [entry["encoder"], entry["modality"], entry["protocol"], budget(entry)]
        numbers = [score, ends, f"{entry['n_train']:,}", f"{entry['n_test']:,}", str(entry["draws"])]
        rows.append([*words, *numbers])
    metric = listed(list(dict.fromkeys(e["primary"] for e in entries)))
    heads = ["encoder", "sees", "protocol", "labels", metric, "95 % interval", "labels in all", "tests", "draws"]
    strong = frozenset(number for number, entry in enumerate(ordered) if entry["encoder"] == "distilled")
    return Table(f"{metric}, {where}", heads, rows, words=4, strong=strong)


def _own_metrics(entries: Sequence[Entry], where: str) -> Iterator[Table]:
    """The other metrics of the task, of the distilled encoder."""
    own = sorted((e for e in entries if e["encoder"] == "distilled"), key=lambda e: (e["protocol"], e["n_train"]))
    names = [name for entry in own for name in entry["metrics"] if name != entry["primary"]]
    if not names:
        return
    rows = []
    for name in dict.fromkeys(names):
        cells = [percent(e["metrics"][name]) if name in e["metrics"] else "–" for e in own]
        rows.append([name, *cells])
    heads = ["metric", *(f"{entry['protocol']}, {budget(entry)}" for entry in own)]
    yield Table(f"Other metrics of the distilled encoder, {where}", heads, rows)


def _row(entry: Entry, others: Sequence[str], name: str) -> Row:
    value, (low, high) = entry["metrics"][entry["primary"]], entry["intervals"][entry["primary"]]
    return Row(name, value, low, high, style_of(entry, others), percent(value))


def _named(entry: Entry, among: Sequence[Entry]) -> str:
    """The protocol is told where it is needed to tell two apart."""
    if entry["protocol"] == "supervised" or len({e["protocol"] for e in among} - {"supervised"}) < 2:
        return str(entry["encoder"])
    return f"{entry['encoder']}, {entry['protocol']}"


def _others(run: Evidence) -> list[str]:
    """Encoders that have no colour of their own: other objectives."""
    every = [entry["encoder"] for entry in run.result.get("evaluations", ())]
    return [name for name in dict.fromkeys(every) if name not in COLOURS]
