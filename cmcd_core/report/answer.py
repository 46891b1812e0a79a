"""The answer that the report opens with: did distillation pay, and what did it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .evidence import Evidence
from .words import counted, duration, labels, listed, percent, points, span

OVER = ("scratch", "ssl-target", "untrained")
"""What the gain is taken over, the first that was measured."""
AGAINST: Mapping[str, str] = {
    "scratch": "training from scratch",
    "ssl-target": "self-supervision on the target alone",
    "untrained": "an untrained network",
}
PROTOCOLS: Mapping[str, str] = {
    "linear": "a linear head on the frozen {what}",
    "finetune": "the fine-tuned {what}",
    "knn": "nearest neighbours in the features of the {what}",
}


@dataclass(frozen=True)
class Answer:
    """What is said first.

    Attributes:
        headline: One line.
        deck: Sentences below it.
        verdict: ``"paid"``, ``"lost"``, ``"unclear"`` or ``"open"`` (nothing was compared).
        facts: (figure, what it is) of the strip below; the first is the largest.
        entry: The distilled encoder's evaluation that the headline is about; empty where there is none.
        comparison: Its paired difference.
    """

    headline: str
    deck: tuple[str, ...]
    verdict: str
    facts: tuple[tuple[str, str], ...] = ()
    entry: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Any] = field(default_factory=dict)


def answer(run: Evidence) -> Answer:
    """The run in plain words."""
    entry = headline_entry(run)
    if not entry:
        return _unmeasured(run)
    comparison = headline_comparison(run, entry)
    if not comparison:
        score = f"{percent(entry['metrics'][entry['primary']])} {entry['primary']} with {labels(entry)}"
        deck = ("Nothing was measured beside it, so whether distillation paid is open.", *_cost(run))
        return Answer(f"{_subject(run)} reaches {score}", deck, "open", _facts(run, entry, {}), entry)
    return _compared(run, entry, comparison)


def headline_entry(run: Evidence) -> Mapping[str, Any]:
    """The first task's first protocol, with the fewest labels; empty where nothing was evaluated."""
    own = [entry for entry in run.result.get("evaluations", ()) if entry["encoder"] == "distilled"]
    if not own:
        return {}
    first = own[0]
    alike = [e for e in own if all(e[key] == first[key] for key in ("task", "protocol", "data"))]
    fewest: Mapping[str, Any] = min(alike, key=lambda e: e["n_train"])
    return fewest


def headline_comparison(run: Evidence, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The gain over scratch; over what else there is, where scratch was not trained."""
    gains = gains_of(run, entry)
    order = [*OVER, *(name for name in gains if name != "source")]
    return next((gains[name] for name in order if name in gains), {})


def gains_of(run: Evidence, entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Each other encoder -> what the distilled one has over it where ``entry``, or a comparison, was measured."""
    same = ("task", "protocol", "labels", "data")
    every = run.result.get("comparisons", ())
    return {c["over"]: c for c in every if all(c[key] == entry[key] for key in same)}


def score_of(run: Evidence, entry: Mapping[str, Any], encoder: str) -> Mapping[str, Any]:
    """Another encoder's evaluation under the same task and labels."""
    for other in run.result.get("evaluations", ()):
        same = all(other[key] == entry[key] for key in ("task", "labels", "data", "modality"))
        if same and other["encoder"] == encoder and other["protocol"] in (entry["protocol"], "supervised"):
            return dict(other)
    return {}


def _compared(run: Evidence, entry: Mapping[str, Any], comparison: Mapping[str, Any]) -> Answer:
    low, high = comparison["interval"]
    against = AGAINST.get(comparison["over"], str(comparison["over"]))
    gain = points(comparison["difference"])
    verdict = "paid" if low > 0 else "lost" if high < 0 else "unclear"
    idle = low > 0 and not _above_untrained(run, comparison)
    verdict, taught = "unclear" if idle else verdict, "distill" in run.steps
    headline = {
        "paid": f"Distillation paid: {gain} points over {against}",
        "lost": f"Distillation did not pay: {gain} points against {against}",
        "unclear": f"No clear gain over {against}",
    }[verdict]
    if idle:
        headline = f"No clear gain: {gain} points over {against}, but an untrained network does as well"
    if not taught:
        headline = f"{_subject(run)}: {gain} points over {against}"
    metric, other = entry["primary"], score_of(run, entry, comparison["over"])
    whose = f"distilled {run.target} encoder" if taught else f"{run.target} encoder"
    what = PROTOCOLS.get(entry["protocol"], "{what}").format(what=whose)
    said = labels(entry)
    number = said if said.endswith("in all") else f"{said} ({entry['n_train']:,} in all)"
    sentence = f"With {number}, {what} reaches {percent(entry['metrics'][metric])} {metric} on "
    sentence += counted(entry["n_test"], "test sample")
    if other:
        sentence += f"; {against} reaches {percent(other['metrics'][metric])} with the same labels"
    interval = (
        f"The difference is {gain} points. Its 95 % interval, paired over test samples and label draws, is "
        f"{span((low, high))}{', which includes zero' if low <= 0 <= high else ''}."
    )
    deck = (f"{sentence}.", interval, *_further(run, entry, comparison), *_cost(run))
    return Answer(headline, deck, verdict, _facts(run, entry, comparison), entry, comparison)


def _above_untrained(run: Evidence, comparison: Mapping[str, Any]) -> bool:
    """A gain over scratch that random weights have too is none of distillation's."""
    other = gains_of(run, comparison).get("untrained")
    return other is None or bool(other["interval"][0] > 0)


def _further(run: Evidence, entry: Mapping[str, Any], comparison: Mapping[str, Any]) -> list[str]:
    """The same gain under the other label budgets."""
    alike = ("task", "protocol", "data", "over")
    gains = {c["labels"]: c for c in run.result["comparisons"] if all(c[key] == comparison[key] for key in alike)}
    own = {
        other["labels"]: other
        for other in run.result["evaluations"]
        if other["encoder"] == "distilled" and all(other[key] == entry[key] for key in alike[:3])
    }
    said = [
        f"{points(gains[budget]['difference'])} ({span(gains[budget]['interval'])}) with {labels(other)}"
        for budget, other in sorted(own.items(), key=lambda pair: pair[1]["n_train"])
        if budget != entry["labels"] and budget in gains
    ]
    return [f"Under the other budgets the difference is {listed(said)}."] if said else []


def _unmeasured(run: Evidence) -> Answer:
    if "distill" in run.steps:
        headline = f"{_subject(run)} is taught; what that is worth is not measured yet"
        advice = "No labels were evaluated, so this report cannot say whether distillation paid. "
        advice += "`cmcd evaluate` with labelled data says it."
    elif "pretrain" in run.steps:
        headline = f"Step 1 is done: there is a source encoder of {run.source}"
        advice = "Nothing is distilled yet. `cmcd distill` goes on from here."
    else:
        headline, advice = "Nothing was measured here", "The data served none of the tasks; the notes say why."
    return Answer(headline, (advice, *_cost(run)), "open", _facts(run, {}, {}))


def _subject(run: Evidence) -> str:
    return f"The {run.target} encoder"


def _cost(run: Evidence) -> list[str]:
    """Pairs and seconds."""
    taught, seconds = run.result.get("distill", {}), run.result.get("seconds", {})
    parts = []
    if taught.get("pairs"):
        parts.append(counted(int(taught["pairs"]), "unlabelled pair"))
    if "distill" in seconds:
        parts.append(f"{duration(seconds['distill'])} of distillation")
    if "pretrain" in seconds and not run.result.get("pretrain", {}).get("teacher"):
        parts.append(f"{duration(seconds['pretrain'])} of pretraining the source")
    elif run.result.get("pretrain", {}).get("teacher") and taught:
        parts.append("a pretrained teacher")
    if not parts:
        return []
    device = run.result.get("environment", {}).get("device", "")
    return [f"It cost {listed(parts)}{f', on {device}' if device else ''}."]


def _facts(run: Evidence, entry: Mapping[str, Any], comparison: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    facts: list[tuple[str, str]] = []
    if comparison:
        over = comparison["over"]
        facts.append((points(comparison["difference"]), f"points of {comparison['metric']} over {over}"))
    elif entry:
        facts.append((percent(entry["metrics"][entry["primary"]]), f"{entry['primary']} of the distilled encoder"))
    taught, seconds = run.result.get("distill", {}), run.result.get("seconds", {})
    if taught.get("pairs"):
        facts.append((f"{taught['pairs']:,}", "unlabelled pairs"))
    if entry:
        facts.append((f"{entry['n_train']:,}", "labels"))
        facts.append((f"{entry['n_test']:,}", "test samples"))
    if seconds:
        facts.append((duration(sum(seconds.values())), "in all"))
    return tuple(facts)
