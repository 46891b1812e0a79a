"""The page that compares runs: where they differ, their scores and curves side by side, what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from .answer import answer
from .blocks import Block, Code, Figure, Figures, Folded, Section, Table
from .cautions import Caution, cautions
from .charts import Line, Point, Row, Style, cut, intervals, legend, lines, parts_of_whole
from .evidence import Evidence
from .groups import Group, Key, apart, common_keys, differing, grouped, way_of
from .origins import command
from .page import page
from .results import points_plain
from .words import (
    ALIKE,
    APART,
    STAGES,
    Headline,
    counted,
    duration,
    listed,
    percent,
    plain,
    points,
    short_name,
    span,
    sure,
)


def comparison_page(runs: Sequence[Evidence]) -> str:
    """One page over several runs."""
    groups = grouped(runs)
    keys = common_keys(groups)
    headline, deck, verdict = _opening(groups, keys)
    lead = _scores(groups, keys[0]) if keys else None
    ways = dict.fromkeys(f"{group.first.source} → {group.first.target}" for group in groups)
    return page(
        title=f"{headline} · comparison",
        kicker=[*ways, "comparison", counted(len(runs), "run")],
        headline=headline,
        verdict=verdict,
        deck=deck,
        facts=[],
        lead_figure=lead,
        cautions=_cautions(groups, keys),
        sections=list(_sections(groups, keys)),
        cmcd=str(groups[0].first.result.get("cmcd", "")),
    )


def _opening(groups: Sequence[Group], keys: Sequence[Key]) -> tuple[str, list[str], str]:
    """Headline, sentences and verdict."""
    if len(groups) == 1:
        return _one_group(groups[0])
    if not keys:
        return (
            f"{len(groups)} runs side by side",
            ["They share no task, protocol, label budget and data set to rank them by."],
            "open",
        )
    key = keys[0]
    best, second = sorted(groups, key=lambda group: -group.own[key].value)[:2]
    score, difference = best.own[key], apart(best, second, key)
    task, protocol, *_ = key
    said = f"{best.name} is ahead: {percent(score.value)} {score.metric}"
    where = (
        f"Task {task}, protocol {protocol}, {score.labels} ({score.n_train:,} in all), "
        f"{counted(score.n_test, 'test sample')}. Next is {second.name} with {percent(second.own[key].value)}."
    )
    if difference is None:
        why = (
            "The two see other modalities, or were measured on other samples or by other seeds, so the difference is "
            "not paired: it has no interval."
        )
        return said, [where, why], "open"
    value, ends = difference
    clear = ends[0] > 0
    headline = said if clear else f"No clear winner: {best.name} and {second.name} are within each other's reach"
    paired = f"The paired difference is {points(value)} points, with a 95 % interval of {span(ends)}."
    return headline, [where, paired], "paid" if clear else "unclear"


def _one_group(group: Group) -> tuple[str, list[str], str]:
    """Seeds of one configuration: the gain over scratch, if there is one."""
    seeds = f"{len(group.runs)} seeds of one configuration"
    if not group.gains:
        return seeds, ["Nothing was compared with training from scratch."], "open"
    key = next(key for key in common_keys([group]) if key in group.gains)
    value, ends = group.gains[key]
    verdict = "paid" if ends[0] > 0 else "lost" if ends[1] < 0 else "unclear"
    deck = [
        f"Task {key[0]}, protocol {key[1]}, {group.own[key].labels}: {percent(group.own[key].value)} against "
        f"{percent(group.scratch[key[0], *key[2:]].value)} from scratch.",
        f"95 % interval {span(ends)}, over seeds, test samples and label draws.",
    ]
    return f"{points(value)} points over training from scratch, {seeds}", deck, verdict


def _sections(groups: Sequence[Group], keys: Sequence[Key]) -> Iterator[Section]:
    yield from _differences(groups)
    yield from _results(groups, keys)
    yield from _costs(groups)
    yield from _distances(groups)
    if commands := [Code(command(run), run.name) for g in groups for run in g.runs if run.config]:
        yield Section("repeat", "Once more", "Each run has a report of its own, and this command repeats it.", commands)


def _differences(groups: Sequence[Group]) -> Iterator[Section]:
    """Only the keys that are not the same in all; the run folders and seeds besides."""
    rows = [
        ["seeds", *(", ".join(map(str, group.seeds)) for group in groups)],
        ["folder", *(listed([cut(run.name, 40) for run in group.runs]) for group in groups)],
    ]
    found = differing(groups)
    rows += [[key, *map(plain, values)] for key, values in found.items() if not key.startswith("plugins.")]
    machine = {"cmcd": [group.first.result.get("cmcd") for group in groups]}
    for name in ("python", "torch", "device", "precision", "cores", "threads"):
        machine[name] = [group.first.result.get("environment", {}).get(name) for group in groups]
    rows += [[name, *map(plain, values)] for name, values in machine.items() if len({str(v) for v in values}) > 1]
    lead = "All other keys of the configuration are the same." if len(groups) > 1 else "Nothing but the seed differs."
    heads = ["key", *(group.name for group in groups)]
    yield Section("differences", "Where they differ", lead, [Table("Configurations", heads, rows, words=len(heads))])


def _results(groups: Sequence[Group], keys: Sequence[Key]) -> Iterator[Section]:
    if not any(group.own for group in groups):
        return
    blocks: list[Block] = []
    curves = [curve for way in dict.fromkeys(map(way_of, keys)) if (curve := _curve(groups, way, keys))]
    gains = _gains(groups, keys[0]) if keys else None
    if figures := [*curves, *([gains] if gains else [])]:
        blocks.append(Figures(figures))
    blocks.append(_table(groups))
    lead = (
        "Bars and whiskers are 95 % intervals, over test samples and label draws, and over seeds where there are some."
    )
    yield Section("results", "Scores side by side", lead, blocks)


def _scores(groups: Sequence[Group], key: Key) -> Figure:
    """The distilled encoders under one budget."""
    rows = [
        Row(group.name, (own := group.own[key]).value, *own.interval, _style(number), percent(own.value))
        for number, group in enumerate(groups)
    ]
    first = groups[0].own[key]
    title = f"{first.metric} of the distilled encoders: {key[0]}, {key[1]}, {first.labels}"
    chart = intervals(rows, title, x=f"{first.metric} on the test split", say=lambda v: f"{v * 100:.0f} %")
    return Figure(
        title, chart, "Bars are 95 % intervals. Whether two differ is said by the paired difference, not by bars."
    )


def _gains(groups: Sequence[Group], key: Key) -> Figure | None:
    """Each group over scratch."""
    rows = [
        Row(group.name, value, *ends, _style(number), f"{points(value)}  [{span(ends)}]")
        for number, group in enumerate(groups)
        if key in group.gains
        for value, ends in [group.gains[key]]
    ]
    if not rows:
        return None
    title = f"Gain over training from scratch: {key[0]}, {key[1]}, {groups[0].own[key].labels}"
    chart = intervals(rows, title, x=f"points of {groups[0].own[key].metric}", say=points_plain, zero=True)
    return Figure(title, chart, "Right of zero the distilled encoder is better.")


def _curve(groups: Sequence[Group], way: tuple[str, str, str], keys: Sequence[Key]) -> Figure | None:
    """Label-efficiency curves over each other; None where there is one budget."""
    labels = [key for key in keys if way_of(key) == way]
    if len({groups[0].own[key].n_train for key in labels}) < 2:
        return None
    series = []
    for number, group in enumerate(groups):
        scores = [group.own[key] for key in labels]
        series.append(Line(group.name, [Point(s.n_train, s.value, *s.interval) for s in scores], _style(number)))
    every = groups[0].scratch
    if scratch := [every[key[0], *key[2:]] for key in labels if (key[0], *key[2:]) in every]:
        marks = [Point(s.n_train, s.value, *s.interval) for s in scratch]
        series.append(Line(f"scratch, of {groups[0].name}", marks, Style(11, 1, 2)))
    metric = groups[0].own[labels[0]].metric
    counts = sorted({groups[0].own[key].n_train for key in labels})
    several = len({key[-1] for key in keys}) > 1
    title = f"Label efficiency: {way[0]}, {way[1]}" + (f", {short_name(way[2])}" if several else "")
    chart = lines(
        series, title, x="labels, in all (log scale)", y=f"{metric} on the test split", log=True,
        x_ticks=[(count, f"{count:,}") for count in counts], say=lambda v: f"{v * 100:.0f} %",
    )  # fmt: skip
    return Figure(title, legend([(one.name, one.style) for one in series]) + chart)


def _table(groups: Sequence[Group]) -> Table:
    """Every budget of every group, and its difference to the first group."""
    rows: list[list[str]] = []
    strong, other = set(), groups[0]
    every = dict.fromkeys(key for group in groups for key in group.own)
    several = len({key[-1] for key in every}) > 1
    for key in sorted(every, key=lambda key: (way_of(key), max(g.own[key].n_train for g in groups if key in g.own))):
        there = [group for group in groups if key in group.own]
        best = max(group.own[key].value for group in there)
        for group in there:
            score = group.own[key]
            over = apart(group, other, key) if group is not other and key in other.own else None
            gain = group.gains.get(key)
            if score.value == best:
                strong.add(len(rows))
            rows.append(
                [
                    group.name,
                    *key[:3],
                    *([short_name(key[3])] if several else []),
                    percent(score.value),
                    f"{score.interval[0] * 100:.1f} to {score.interval[1] * 100:.1f}",
                    f"{points(gain[0])} [{span(gain[1])}]" if gain else "–",
                    f"{points(over[0])} [{span(over[1])}]" if over else "–",
                    f"{score.n_test:,}",
                ]
            )
    named = ["run", "task", "protocol", "labels", *(["data"] if several else [])]
    heads = [*named, "score", "95 % interval", "over scratch", f"over {other.name}", "tests"]
    title = "Distilled encoders; differences are paired, in points"
    return Table(title, heads, rows, words=len(named), strong=frozenset(strong))


def _costs(groups: Sequence[Group]) -> Iterator[Section]:
    """Seconds of each stage, means over seeds."""
    stages = list(dict.fromkeys(stage for g in groups for run in g.runs for stage in run.result.get("seconds", {})))
    if not stages:
        return
    spent = [{stage: group.mean(partial(_seconds, stage)) for stage in stages} for group in groups]
    rows = [[STAGES.get(stage, stage), *(duration(each[stage]) for each in spent)] for stage in stages]
    rows.append(["in all", *(duration(sum(each.values())) for each in spent)])
    for name, of in (("pairs", "pairs"), ("epochs of step 2", "epochs")):
        rows.append([name, *(plain(group.first.result.get("distill", {}).get(of)) for group in groups)])
    for side in ("source", "target"):
        counts = [group.first.parameters.get(side) for group in groups]
        rows.append([f"numbers in the {side} encoder", *(f"{count:,}" if count else "–" for count in counts)])
    named = [{STAGES.get(stage, stage): value for stage, value in each.items() if value > 0} for each in spent]
    figures = [
        Figure(f"{group.name}: {duration(sum(each.values()))}", parts_of_whole(each, f"Time of {group.name}", duration))
        for group, each in zip(groups, named, strict=True)
    ]
    table = Table("Cost, means over seeds", ["what", *(group.name for group in groups)], rows)
    lead = "Runs that shared a step, as those of `cmcd compare` do, found it done and paid little for it."
    yield Section("cost", "What they cost", lead, [table, Folded("Where the time went", [Figures(figures)])])


def _seconds(stage: str, run: Evidence) -> float:
    return float(run.result.get("seconds", {}).get(stage, 0.0))


def _distances(groups: Sequence[Group]) -> Iterator[Section]:
    rows = []
    for one in (*ALIKE, *APART):
        values = [_distance(group, one) for group in groups]
        if any(value != "–" for value in values):
            rows.append([one.words, *values])
    if rows:
        table = Table(
            "Held-out pairs after distillation, means over seeds", ["estimate", *(g.name for g in groups)], rows
        )
        lead = "Spaces of different objectives are different spaces: compare retrieval first."
        yield Section("distance", "How far apart the modalities are", lead, [table])


def _distance(group: Group, one: Headline) -> str:
    each = [sure((run.result.get("distance") or {}).get("after", ()), one) for run in group.runs]
    known = [value for value in each if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else "–"


def _cautions(groups: Sequence[Group], keys: Sequence[Key]) -> list[Caution]:
    """What makes the comparison unfair, then what is serious about each run."""
    found = []
    if len(groups) > 1:
        if keys and len({group.own[keys[0]].n_test for group in groups}) > 1:
            text = "Scores of other test samples are other scores: no difference is shown between them."
            title = "The number of test samples of the evaluation is not the same in all"
            found.append(Caution(title, text, serious=True))
        if not set.intersection(*(set(group.seeds) for group in groups)):
            text = "Other seeds draw other labels: differences are then not paired, and none is shown."
            found.append(Caution("The runs share no seed", text, serious=True))
        if any(len(group.runs) == 1 for group in groups):
            text = (
                "With one seed an interval knows nothing of how much seeds differ; `cmcd compare --seeds` runs several."
            )
            found.append(Caution("One seed", text))
    shared: dict[str, list[str]] = {}
    for group in groups:
        for one in cautions(group.first, answer(group.first)):
            if one.serious:
                shared.setdefault(one.title, []).append(group.name)
    for title, names in shared.items():
        which = "all of them" if len(names) == len(groups) > 1 else listed(names)
        found.append(Caution(title, f"True of {which}; the reports of the single runs say more."))
    return found


def _style(number: int) -> Style:
    return Style(number % 11, number % 4, (number // 4) % 4)
