"""Where something is off: what a reader should know before believing a number of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .answer import Answer, gains_of, score_of
from .evidence import Evidence
from .words import counted, percent, points, span

SMALL_TEST = 200
"""Test samples below which an interval is wide and a score says little."""
FEW_PAIRS = 200
FEW_DRAWS = 3
TOLD_APART = 0.95
"""A total variation of at least this says only that the modalities can be told apart."""
DOUBTFUL = 0.05
"""Pairs that shuffled ones match as often as this look shuffled."""


@dataclass(frozen=True)
class Caution:
    """One thing to know; ``serious`` where it puts the answer itself in doubt."""

    title: str
    text: str
    serious: bool = False


def cautions(run: Evidence, found: Answer) -> list[Caution]:
    """The serious ones first."""
    every = [*_gain(run, found), *_pairs(run), *_measure(run), *_learning(run), *_distance(run), *_lost(run)]
    return sorted(every, key=lambda caution: not caution.serious)


def _gain(run: Evidence, found: Answer) -> Iterator[Caution]:
    """The distilled encoder beside those that it should beat."""
    if found.comparison and found.comparison["interval"][0] <= 0 and "distill" in run.steps:
        text = (
            f"The difference to {found.comparison['over']} is {points(found.comparison['difference'])} points "
            f"({span(found.comparison['interval'])}). More pairs, more epochs, a better teacher or another objective "
            "may change that; so may fewer labels, as many labels are what training from scratch does well with."
        )
        if (found.comparison["over"], found.entry["protocol"]) == ("scratch", "linear"):
            text += " That trained every weight, where this is a linear head: --protocol finetune is like with like."
        yield Caution(f"The distilled encoder is not clearly above {found.comparison['over']}", text, serious=True)
    for other in run.result.get("comparisons", ()):
        if other["over"] == "untrained" and found.comparison.get("over") != "untrained" and other["interval"][0] <= 0:
            text = (
                f"For {other['task']} ({other['protocol']}, label budget {other['labels']}) the distilled encoder is "
                f"{points(other['difference'])} points above the same network with random weights "
                f"({span(other['interval'])}). It may have learnt nothing that this task needs."
            )
            yield Caution("Not above an untrained network", text, serious=True)
            break
    if found.entry:
        yield from _teacher(run, found.entry)
        yield from _copied(run, found.entry)


def _copied(run: Evidence, entry: Mapping[str, Any]) -> Iterator[Caution]:
    """A copy of a teacher owes something to the teacher that scratch has not, step 2 or no."""
    if run.start.get("init") != "source":
        return
    gain = gains_of(run, entry).get("source")
    tuned = ", fine-tuned in the same way" if entry["protocol"] == "finetune" else ""
    if gain is None:
        text = (
            "A part of what it has over scratch comes with the teacher's weights, its bigger network and bigger "
            f"pictures, whatever step 2 did. `--baseline source` measures the teacher itself on {run.target}{tuned}."
        )
        yield Caution("The student began as a copy of the teacher", text)
    elif gain["interval"][0] <= 0:
        text = (
            f"The student began as a copy of it, and is {points(gain['difference'])} points above it "
            f"({span(gain['interval'])}){tuned}. What it has over scratch may come with the teacher's weights, not "
            "from step 2."
        )
        yield Caution(f"Not clearly above the teacher on {run.target}", text, serious=True)


def _teacher(run: Evidence, entry: Mapping[str, Any]) -> Iterator[Caution]:
    """A student seldom knows more than its teacher."""
    teacher = score_of(run, {**entry, "modality": run.source}, "source")
    scratch = score_of(run, entry, "scratch")
    metric = entry["primary"]
    if teacher and scratch and run.source != run.target and teacher["metrics"][metric] <= scratch["metrics"][metric]:
        given = "teacher" in run.result.get("pretrain", {})
        text = (
            f"On {run.source} itself the source encoder reaches {percent(teacher['metrics'][metric])} {metric} with "
            f"the same labels, and training from scratch on {run.target} {percent(scratch['metrics'][metric])}. There "
            f"is little to hand down: try {'another' if given else 'a pretrained'} teacher."
        )
        yield Caution("The source encoder knows little of this task", text)


def _pairs(run: Evidence) -> Iterator[Caution]:
    """What step 2 learnt from."""
    places = [str(run.result.get("data")), *map(str, run.result.get("data_of", {}).values())]
    if "demo" in places:
        text = "The scenes are generated, and the defaults were adjusted to them: what works here need not elsewhere."
        yield Caution("This is demo data", text)
    pairing = run.pairing
    if pairing.get("kind") == "label":
        text = (
            "The data set pairs two things of one class, not two views of one thing. What the target learns is then "
            "close to the labels themselves, and the gain says less about unlabelled pairs."
        )
        yield Caution("The pairs were made with labels", text, serious=True)
    p = pairing.get("p")
    if isinstance(p, float) and p > DOUBTFUL:
        text = (
            f"{counted(pairing['tested'], 'training pair')} go together no better than shuffled ones do (p = {p:.2f}, "
            "of how they look from afar). Look at the pictures of pairs below: are two columns in another order? Faint "
            "relations can be missed here, and pairs by label look like this too."
        )
        yield Caution("The pairs look shuffled", text, serious=pairing.get("kind") != "label")
    count = run.result.get("distill", {}).get("pairs")
    if isinstance(count, int) and count < FEW_PAIRS:
        yield Caution(f"Only {counted(count, 'pair')}", "Distillation lives on pairs: a few hundred are a thin diet.")
    items = pairing.get("source_items")
    if items and count and items < count / 1.5:
        text = f"The {count:,} pairs show {items:,} different items of {run.source}: fewer lessons than they look."
        yield Caution("Several pairs share one source item", text)


def _measure(run: Evidence) -> Iterator[Caution]:
    """How far the scores can be trusted."""
    own = [entry for entry in run.result.get("evaluations", ()) if entry["encoder"] == "distilled"]
    if not own:
        return
    tests, draws = min(entry["n_test"] for entry in own), min(_drawn(entry) for entry in own)
    if tests < SMALL_TEST:
        text = "Believe the intervals, not the points: with so few, a handful of samples moves a score by points."
        yield Caution(f"Only {counted(tests, 'test sample')}", text)
    if draws < FEW_DRAWS:
        text = (
            "Which samples are labelled can move a score more than anything else; more `--label-draws` average it out."
        )
        yield Caution(f"Only {counted(draws, 'label draw')}", text)


def _drawn(entry: Mapping[str, Any]) -> int:
    """Label subsets; a budget that takes all labels has but one, and needs no more."""
    return FEW_DRAWS if entry["labels"] == "100%" else int(entry["draws"])


def _learning(run: Evidence) -> Iterator[Caution]:
    """Losses that did not fall, and partners that are not found."""
    for stage, title in (("pretrain", "step 1"), ("distill", "step 2")):
        losses = [line["loss"] for line in run.log.get(stage, ()) if isinstance(line.get("loss"), int | float)]
        if len(losses) > 1 and losses[-1] >= losses[0]:
            text = f"It was {losses[0]:.3g} after the first epoch and is {losses[-1]:.3g} after the last."
            yield Caution(f"The loss of {title} did not fall", text, serious=stage == "distill")
    rank = run.arrays.get("after_rank_target")
    if rank is not None and len(rank) >= 2:
        middle, count = float(np.median(rank)), len(rank)
        if middle > 0.4 * count:
            text = (
                f"The median rank of a sample's own partner among {count} is {middle:.0f}, and {(count + 1) / 2:.0f} "
                "by chance. What the map below shows is then no common space."
            )
            yield Caution("Partners are not found in the common space", text)


def _distance(run: Evidence) -> Iterator[Caution]:
    """Bounds that say nothing."""
    after = {(e["name"], e["centred"]): e for e in run.result.get("distance", {}).get("after", ())}
    apart = [after.get(("tv_lower_bound", centred)) for centred in (False, True)]
    told = [e for e in apart if e and e["low"] is not None and e["low"] >= TOLD_APART]
    upper = after.get(("class_discrepancy", True)) or after.get(("class_discrepancy", False))
    vacuous = upper is not None and upper["high"] is not None and upper["high"] >= 1
    if told or vacuous:
        parts = []
        if told:
            said = "even with each modality's mean taken away" if told[-1]["centred"] else "by their means, usually"
            parts.append(f"a classifier tells the two modalities apart ({said}), as it nearly always does")
        if vacuous:
            parts.append("the upper bound for linear heads is 1, which every difference is below anyway")
        text = (
            f"{' and '.join(parts)}. A bound on the target's error from these is vacuous: retrieval and CKA say more."
        )
        yield Caution("The distance guarantees nothing here", text[0].upper() + text[1:])


def _lost(run: Evidence) -> Iterator[Caution]:
    if run.lost:
        yield Caution(
            "Some files of the run cannot be read", "; ".join(run.lost) + ". What they would show is left out."
        )
