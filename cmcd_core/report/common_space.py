"""The sections of the common space: the joint map of both modalities, and what is retrieved for what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .blocks import Block, Figure, Figures, Section, Sheet, Strip, Tile, address_of
from .charts import CLASSES, Line, Point, Style, joint_map, legend, lines
from .evidence import Evidence
from .words import counted, percent

WAYS = {"pca": "PCA", "tsne": "t-SNE"}
WHEN = {"before": "Before distillation", "after": "After distillation"}
OTHER = {"source": "target", "target": "source"}


def joint(run: Evidence) -> Iterator[Section]:
    """Maps before and after; nothing where none was made."""
    if "after_pca" not in run.arrays:
        return
    names = [str(name) for name in run.space.get("classes") or ()]
    figures = [_map(run, way, when, names) for way in WAYS for when in WHEN if f"{when}_{way}" in run.arrays]
    count = len(run.arrays["key"])
    lead = (
        f"{counted(count, 'held-out pair')} in {run.space.get('space', 'common')} space, both modalities on one map. "
        f"Rings are of {run.source}, discs of {run.target}, and a line links each pair: the shorter the lines, the "
        "better partners meet. Each modality's mean is taken away first: the offset between them would hide the rest."
    )
    blocks: list[Block] = [_key(run, names), Figures(figures, "medium")]
    yield Section("map", "Both modalities on one map", lead, blocks)


def _map(run: Evidence, way: str, when: str, names: list[str]) -> Figure:
    title = f"{WHEN[when]}, {WAYS[way]}"
    chart = joint_map(
        run.arrays[f"{when}_{way}"], [str(key) for key in run.arrays["key"]], run.arrays["class"], names,
        _modalities(run), f"{title}: {run.source} and {run.target}",
    )  # fmt: skip
    caption = "Neighbourhoods mean something here; distances between islands do not."
    if way == "pca":
        explained = sum(run.space.get("explained", {}).get(when, ()))
        caption = f"These two directions show {percent(explained)} of the variance."
    return Figure(title, chart, caption)


def _key(run: Evidence, names: list[str]) -> Figures:
    """What rings, discs and colours are."""
    coloured = 0 < len(names) <= CLASSES
    first, second = _modalities(run)
    entries = [(first, Style(11 if coloured else 0, hollow=True)), (second, Style(11 if coloured else 1))]
    if coloured:
        kinds = [int(kind) for kind in np.unique(run.arrays["class"]) if 0 <= kind < len(names)]
        entries += [(names[kind], Style(kind)) for kind in kinds]
    return Figures([Figure("", legend(entries, lines=False))], "wide")


def retrieval(run: Evidence) -> Iterator[Section]:
    """How often the partner is among the nearest, and what is found for some samples."""
    blocks: list[Block] = []
    figures = [figure for side in ("target", "source") if (figure := _recall(run, side))]
    if figures:
        blocks.append(Figures(figures))
    for side in ("target", "source"):
        if strips := [_strip(run, row) for row in run.retrieval.get("queries", ()) if row["side"] == side]:
            asked, found = getattr(run, side), getattr(run, OTHER[side])
            title = f"{asked} asks, {found} answers"
            caption = (
                "First the query, then the nearest of the other modality. Framed: the query's own partner. Queries are "
                "evenly spaced over the split, not picked."
            )
            blocks.append(Sheet(title, caption, strips))
    if blocks:
        among = run.retrieval.get("among") or len(run.arrays.get("after_rank_target", ()))
        split = run.retrieval.get("split") or run.space.get("split", "")
        lead = (
            f"For each sample, the other modality's {among:,} samples of the {split} split, nearest first, by cosine."
        )
        yield Section("retrieval", "Does one modality find the other?", lead, blocks)


def _recall(run: Evidence, side: str) -> Figure | None:
    """Share of samples whose partner is among the k nearest, over k."""
    if f"after_rank_{side}" not in run.arrays:
        return None
    series = []
    for when, style in (("after", Style(0)), ("before", Style(1, 1, 1))):
        ranks = run.arrays[f"{when}_rank_{side}"]
        steps = np.unique(np.geomspace(1, len(ranks), 30).round().astype(int))
        series.append(Line(when, [Point(int(k), float((ranks <= k).mean())) for k in steps], style))
    count = len(run.arrays[f"after_rank_{side}"])
    if count < 2:
        return None
    by_chance = [Point(int(k), int(k) / count) for k in np.unique(np.geomspace(1, count, 30).round().astype(int))]
    series.append(Line("by chance", by_chance, Style(11, 2, 2)))
    asked, found = getattr(run, side), getattr(run, OTHER[side])
    title = f"{asked} finds its {found}"
    chart = lines(
        series, f"{title}: share whose partner is among the k nearest", x=f"k nearest, of {count:,} (log scale)",
        y="partner is among them", log=True, say=lambda v: f"{v * 100:.0f} %", marks=False, zero=True,
    )  # fmt: skip
    first = float((run.arrays[f"after_rank_{side}"] <= 1).mean())
    middle = float(np.median(run.arrays[f"after_rank_{side}"]))
    caption = (
        f"After distillation the partner is the very nearest for {percent(first)}; its median rank is {middle:.0f}."
    )
    key = legend([(one.name, Style(one.style.colour, one.style.form, one.style.dashes)) for one in series])
    return Figure(title, key + chart, caption)


def _strip(run: Evidence, row: Mapping[str, Any]) -> Strip:
    asked, other = getattr(run, row["side"]), getattr(run, OTHER[row["side"]])
    tiles = [_tile(run, row["picture"], f"query: {asked} of {row['query']}", [str(row["query"])], "query")]
    for one in row["found"]:
        words = [f"{one['cosine']:.2f}", "its partner" if one["own"] else ""]
        mark = "own" if one["own"] else ""
        tiles.append(_tile(run, one["picture"], f"found: {other} of {one['key']}", list(filter(None, words)), mark))
    return Strip(f"partner at rank {row['rank']}", tiles)


def _tile(run: Evidence, name: str, alt: str, words: list[str], mark: str) -> Tile:
    return Tile(address_of(run.picture(name), run.path), alt, words, mark)


def _modalities(run: Evidence) -> tuple[str, str]:
    if run.source == run.target:
        return f"{run.source} (source)", f"{run.target} (target)"
    return run.source, run.target
