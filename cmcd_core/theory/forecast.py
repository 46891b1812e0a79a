"""What distillation will bring, from what can be measured before any training, by runs that were recorded.

A ridge regression on a handful of features. How well it does is measured by leaving one data set out at a time, and
every forecast carries that error; it gives no number where the error is not surely smaller than that of a constant
guess, nor for data unlike all that were recorded.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import Literal

import numpy as np

from .samples import Floats

FEATURES: Mapping[str, str] = {
    "pairs": "log2 of the number of pairs",
    "labels": "log2 of the labels a class",
    "classes": "log2 of the number of classes",
    "explained": "share of the source features' variance that a map of the plain target inputs explains, held out",
    "partner_rank": "share of other source items that the same map puts farther away than the partner, held out",
    "dependence": "unbiased linear CKA of source features and plain target inputs",
}
"""What a forecast rests on, and what each is."""
OUTCOMES: Mapping[str, str] = {
    "gain": "accuracy of the distilled encoder's linear head less that of training from scratch",
    "more_pairs": "what twice the pairs add to the distilled accuracy",
    "more_labels": "what twice the labels add to the distilled accuracy",
}
PENALTY = 0.1
"""Of the ridge regression on standardised features, as a share of the weight of all runs."""
MARGIN = 0.05
"""A feature may leave the recorded range by so much of its width."""
COVERAGE = 0.9
"""Share of the recorded runs that lay within the interval, each forecast from the other data sets."""
LEAST, ENOUGH = 3, 5
"""Data sets whose errors, left out one at a time, are worth a mention; and on which a number may rest."""
Verdict = Literal["number", "too few data sets", "no better than a constant", "unlike the recorded runs"]


@dataclass(frozen=True)
class Recorded:
    """One recorded run at one label budget.

    Attributes:
        data: Its data set, which is left out as a whole.
        about: What was done to the data: "clean", "noise 0.4", "shuffle 0.67" …
        seed: Of the run.
        features: A value of each of ``FEATURES``.
        distilled, scratch: Accuracies in [0, 1].
    """

    data: str
    about: str
    seed: int
    features: Mapping[str, float]
    distilled: float
    scratch: float


@dataclass(frozen=True)
class Cases:
    """What an outcome is fitted on: (n, features) and (n,), and each row's data set."""

    x: Floats
    y: Floats
    data: tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """A value in accuracy, its interval, and the share of the recorded errors with which it stays above 0."""

    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Forecast:
    """One outcome, foretold or not.

    Attributes:
        outcome: A key of ``OUTCOMES``.
        verdict: Whether there is a number, and if not why.
        number: None where there is none.
        error, constant_error: Mean absolute error of the forecast, and of guessing the mean of the other data sets,
            over data sets left out one at a time.
        runs, data_sets: How many it rests on.
        reasons: What is outside of what was recorded.
        recorded: Smallest, middle and largest outcome among the recorded runs.
    """

    outcome: str
    verdict: Verdict
    number: Number | None
    error: float
    constant_error: float
    runs: int
    data_sets: int
    reasons: tuple[str, ...]
    recorded: tuple[float, float, float]


def recorded_runs(text: str | None = None) -> list[Recorded]:
    """The runs that come with cmcd, or those of another table of the same columns.

    Args:
        text: A CSV table: data, about, seed, pairs, labels, classes, explained, partner_rank, dependence, distilled,
            scratch, counts as they are; other columns are passed over.

    Raises:
        ValueError: A column is missing, or a value is no number.
    """
    text = text if text is not None else (files(__package__) / "recorded_runs.csv").read_text(encoding="utf-8")
    runs = []
    for number, row in enumerate(csv.DictReader(text.splitlines()), start=2):
        try:
            values = {name: float(row[name]) for name in FEATURES}
            accuracies = (float(row["distilled"]), float(row["scratch"]))
            runs.append(Recorded(row["data"], row["about"], int(row["seed"]), features(**values), *accuracies))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"line {number} of the recorded runs: {error!r}") from error
    return runs


def features(
    *, pairs: float, labels: float, classes: float, explained: float, partner_rank: float, dependence: float
) -> dict[str, float]:
    """Counts and measurements -> the features of a forecast: counts as their log2."""
    counts = {"pairs": pairs, "labels": labels, "classes": classes}
    logs = {name: math.log2(max(1.0, value)) for name, value in counts.items()}
    return {**logs, "explained": explained, "partner_rank": partner_rank, "dependence": dependence}


def forecast(at: Mapping[str, float], runs: Sequence[Recorded]) -> list[Forecast]:
    """Every outcome for data with these features.

    Args:
        at: What :func:`features` returns.
        runs: What it is fitted on.

    Returns:
        One an outcome that is known of three data sets or more, in the order of ``OUTCOMES``.

    Example:
        >>> told = {"explained": 0.2, "partner_rank": 0.8, "dependence": 0.1}
        >>> runs = [
        ...     Recorded(name, "clean", 0, features(pairs=n, labels=5, classes=9, **told), 0.4 + n / 2000, 0.4)
        ...     for name in "abcde"
        ...     for n in (200, 400)
        ... ]
        >>> gain = forecast(features(pairs=400, labels=5, classes=9, **told), runs)[0]
        >>> gain.outcome, gain.verdict, round(gain.number.value, 1)
        ('gain', 'number', 0.2)
    """
    return [_forecast_one(outcome, at, cases) for outcome in OUTCOMES if (cases := cases_of(outcome, runs)) is not None]


def cases_of(outcome: str, runs: Sequence[Recorded]) -> Cases | None:
    """The rows that an outcome is fitted on; None where fewer than ``LEAST`` data sets have any."""
    rows = (
        [(run, run.distilled - run.scratch) for run in runs]
        if outcome == "gain"
        else _steps(runs, outcome.removeprefix("more_"))
    )
    if len({run.data for run, _ in rows}) < LEAST:
        return None
    x = np.array([[run.features[name] for name in FEATURES] for run, _ in rows])
    return Cases(x, np.array([y for _, y in rows]), tuple(run.data for run, _ in rows))


def _steps(runs: Sequence[Recorded], count: str) -> list[tuple[Recorded, float]]:
    """A run, and what its accuracy gained a doubling of ``count`` up to the next run that differs in nothing else."""
    others = [name for name in ("pairs", "labels", "classes") if name != count]
    groups: dict[tuple[object, ...], list[Recorded]] = {}
    for run in runs:
        groups.setdefault((run.data, run.about, run.seed, *(run.features[name] for name in others)), []).append(run)
    rows = []
    for group in groups.values():
        group.sort(key=lambda run: run.features[count])
        for few, many in pairwise(group):
            if (doublings := many.features[count] - few.features[count]) > 0:
                rows.append((few, (many.distilled - few.distilled) / doublings))
    return rows


def _forecast_one(outcome: str, at: Mapping[str, float], cases: Cases) -> Forecast:
    point = np.array([at[name] for name in FEATURES])
    residuals, constant = left_out_errors(cases)
    shares = _shares(cases.data)
    error, constant_error = float(shares @ np.abs(residuals)), float(shares @ np.abs(constant))
    reasons = unlike(point, cases)
    verdict: Verdict = "number"
    if reasons:
        verdict = "unlike the recorded runs"
    elif not surely_smaller(np.abs(residuals), np.abs(constant), cases.data):
        verdict = "no better than a constant"
    elif len(set(cases.data)) < ENOUGH:
        verdict = "too few data sets"
    number = None
    if verdict == "number":
        value = float(_fit(cases.x, cases.y, shares)(point[None])[0])
        reach = _quantile(np.abs(residuals), shares, COVERAGE)
        number = Number(value, value - reach, value + reach, float(shares @ (value + residuals > 0)))
    ends = (float(cases.y.min()), float(np.median(cases.y)), float(cases.y.max()))
    return Forecast(
        outcome, verdict, number, error, constant_error, len(cases.y), len(set(cases.data)), reasons, ends
    )  # fmt: skip


def left_out_errors(cases: Cases) -> tuple[Floats, Floats]:
    """(n,) outcome less its forecast from the other data sets, and less their mean."""
    residuals, constant = np.zeros(len(cases.y)), np.zeros(len(cases.y))
    names = np.array(cases.data)
    for name in dict.fromkeys(cases.data):
        out, kept = names == name, names != name
        shares = _shares(names[kept].tolist())
        residuals[out] = cases.y[out] - _fit(cases.x[kept], cases.y[kept], shares)(cases.x[out])
        constant[out] = cases.y[out] - shares @ cases.y[kept]
    return residuals, constant


def surely_smaller(errors: Floats, others: Floats, data: Sequence[str]) -> bool:
    """Whether (n,) errors are smaller than others by more than a standard error over data sets: with a handful of data
    sets, smaller alone happens by luck every other time."""
    names = np.array(data)
    less = np.array([float((others - errors)[names == name].mean()) for name in dict.fromkeys(data)])
    return bool(less.mean() > less.std(ddof=1) / math.sqrt(len(less)))


def unlike(point: Floats, cases: Cases) -> tuple[str, ...]:
    """Why a forecast at (features,) would be a guess: which features leave the recorded range, or that no recorded
    run is as near as the recorded data sets are to one another."""
    low, high = cases.x.min(0), cases.x.max(0)
    room = MARGIN * (high - low)
    outside = [
        f"{name} is {_told(name, value)}, recorded were {_told(name, least)} to {_told(name, most)}"
        for name, value, least, most, more in zip(FEATURES, point, low, high, room, strict=True)
        if not least - more <= value <= most + more
    ]
    if outside:
        return tuple(outside)
    scale = _scale(cases.x)
    names = np.array(cases.data)
    apart = _apart(cases.x / scale, cases.x / scale)
    usual = max(float(apart[names == name][:, names != name].min(1).max()) for name in set(cases.data))
    nearest = float(_apart(point[None] / scale, cases.x / scale).min())
    if nearest <= usual:
        return ()
    return (
        f"the nearest recorded run is {nearest:.1f} standard deviations away; "
        f"between recorded data sets it is {usual:.1f} at most",
    )


def nearest_runs(at: Mapping[str, float], runs: Sequence[Recorded], count: int = 6) -> list[Recorded]:
    """The recorded runs most like these features, nearest first."""
    x = np.array([[run.features[name] for name in FEATURES] for run in runs])
    scale = _scale(x)
    apart = _apart(np.array([[at[name] for name in FEATURES]]) / scale, x / scale)[0]
    return [runs[index] for index in np.argsort(apart, kind="stable")[:count]]


def _told(name: str, value: float) -> str:
    return f"{2**value:.0f}" if name in ("pairs", "labels", "classes") else f"{value:.2f}"


def _fit(x: Floats, y: Floats, shares: Floats) -> Callable[[Floats], Floats]:
    """Weighted ridge regression on standardised features; the constant is free."""
    mean, scale, centre = shares @ x, _scale(x), float(shares @ y)
    standard = (x - mean) / scale
    gram = (standard * shares[:, None]).T @ standard + PENALTY * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, (standard * shares[:, None]).T @ (y - centre))
    return lambda new: np.asarray(centre + (new - mean) / scale @ weights)


def _shares(data: Sequence[str]) -> Floats:
    """(n,) weights that add up to 1, each data set with the same share."""
    counts = {name: data.count(name) for name in set(data)}
    return np.array([1 / (len(counts) * counts[name]) for name in data])


def _scale(x: Floats) -> Floats:
    std = x.std(0)
    return np.where(std > 1e-9, std, 1.0)


def _apart(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.sqrt(np.square(a[:, None] - b[None]).sum(2)))


def _quantile(values: Floats, shares: Floats, share: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(shares[order])
    return float(values[order][min(len(values) - 1, int(np.searchsorted(reached, share - 1e-12)))])
