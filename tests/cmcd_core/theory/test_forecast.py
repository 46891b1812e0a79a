"""A forecast: fitted on recorded runs, judged on data sets left out, refused where it would be a guess."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from cmcd_core.theory.forecast import (
    FEATURES,
    Forecast,
    Recorded,
    cases_of,
    features,
    forecast,
    left_out_errors,
    nearest_runs,
    recorded_runs,
)

Gain = Callable[[dict[str, float], int], float]
GAINS = (0.25, -0.3, -0.2, -0.15, 0.3, 0.1)
"""Of data sets, by nothing that a feature tells."""


def runs_of(gain: Gain, sets: int = 6, seed: int = 0) -> list[Recorded]:
    """Runs of so many data sets, that differ in what the target tells of the source; the outcome is ``gain``'s."""
    generator = np.random.default_rng(seed)
    runs = []
    for number in range(sets):
        told = generator.uniform(0.1, 0.6)
        for pairs in (100, 200, 400, 800):
            for labels in (5, 20):
                at = features(
                    pairs=pairs, labels=labels, classes=10, explained=told + generator.normal(0, 0.02),
                    partner_rank=0.5 + told / 2, dependence=told / 3,
                )  # fmt: skip
                runs.append(Recorded(f"set{number}", "clean", 0, at, 0.3 + gain(at, number), 0.3))
    return runs


def by_features(at: dict[str, float], number: int) -> float:
    return 0.4 * at["explained"] + 0.02 * (at["pairs"] - 8)


def by_data_set(at: dict[str, float], number: int) -> float:
    return GAINS[number]


def gain_at(runs: list[Recorded], **changed: float) -> Forecast:
    return forecast({**runs[0].features, **changed}, runs)[0]


def test_what_the_features_tell_is_foretold() -> None:
    runs = runs_of(by_features)
    new = {**runs[0].features, "explained": 0.3, "partner_rank": 0.65, "dependence": 0.1}
    found = forecast(new, runs)[0]
    assert found.verdict == "number"
    assert found.number is not None
    assert found.number.low < by_features(new, 0) < found.number.high
    assert found.number.chance == pytest.approx(1)
    assert found.error < 0.5 * found.constant_error
    assert (found.runs, found.data_sets) == (48, 6)


def test_most_left_out_runs_are_within_the_interval() -> None:
    runs = runs_of(by_features, sets=12)
    inside = []
    for run in runs:
        number = forecast(run.features, [other for other in runs if other.data != run.data])[0].number
        if number is not None:  # a data set at the edge of all others is refused
            inside.append(number.low <= run.distilled - run.scratch <= number.high)
    assert len(inside) > 0.5 * len(runs)
    assert np.mean(inside) >= 0.85


def test_a_forecast_no_better_than_a_constant_gives_no_number() -> None:
    found = gain_at(runs_of(by_data_set))
    assert found.error >= found.constant_error
    assert (found.verdict, found.number) == ("no better than a constant", None)
    assert found.recorded == pytest.approx((-0.3, -0.025, 0.3))
    assert found.error > 0.2


@pytest.mark.parametrize(("name", "value", "said"), [("pairs", 16.0, "pairs is 65536"), ("explained", -0.9, "-0.90")])
def test_unlike_what_was_recorded_is_refused(name: str, value: float, said: str) -> None:
    found = gain_at(runs_of(by_features), **{name: value})
    assert (found.verdict, found.number) == ("unlike the recorded runs", None)
    assert said in found.reasons[0]


def test_within_every_range_but_far_from_every_run_is_refused() -> None:
    runs = runs_of(by_features)
    told = [run.features["explained"] for run in runs]
    ranks = [run.features["partner_rank"] for run in runs]
    found = gain_at(runs, explained=max(told), partner_rank=min(ranks))  # recorded runs have both high or both low
    assert "standard deviations away" in found.reasons[0]


def test_the_error_is_of_data_sets_left_out_whole() -> None:
    runs = runs_of(by_data_set)
    cases = cases_of("gain", runs)
    assert cases is not None
    _, constant = left_out_errors(cases)
    own = np.array([name == "set0" for name in cases.data])
    assert constant[own] == pytest.approx(GAINS[0] - np.mean(GAINS[1:]))


def test_steps_are_between_runs_that_differ_in_one_count_only() -> None:
    runs = runs_of(by_features)
    pairs, labels = cases_of("more_pairs", runs), cases_of("more_labels", runs)
    assert pairs is not None
    assert labels is not None
    assert (len(pairs.y), len(labels.y)) == (6 * 2 * 3, 6 * 4)


def test_few_data_sets_are_not_enough() -> None:
    runs = runs_of(by_features, sets=2)
    assert cases_of("gain", runs) is None
    assert forecast(runs[0].features, runs) == []


def test_no_number_rests_on_fewer_than_five_data_sets() -> None:
    runs = runs_of(by_features, sets=4)
    found = forecast(runs[0].features, runs)[0]
    assert (found.verdict, found.number) == ("too few data sets", None)
    assert found.error < found.constant_error


def test_the_nearest_runs_come_first() -> None:
    runs = runs_of(by_features)
    assert nearest_runs(runs[5].features, runs, 3)[0] == runs[5]


def test_the_recorded_runs_that_come_with_cmcd_are_whole() -> None:
    runs = recorded_runs()
    assert len({run.data for run in runs}) >= 3
    for run in runs:
        assert set(run.features) == set(FEATURES)
        assert 0 <= run.distilled <= 1
        assert 0 <= run.scratch <= 1
    found = forecast(runs[0].features, runs)
    assert found[0].outcome == "gain"
    assert all(math.isfinite(one.error) and one.data_sets >= 3 for one in found)


@pytest.mark.parametrize("row", ["a,clean,0,100,5,10,x,0.5,0.1,0.4,0.3", "a,clean,0,100,5,10"])
def test_a_broken_table_names_its_line(row: str) -> None:
    head = "data,about,seed,pairs,labels,classes,explained,partner_rank,dependence,distilled,scratch"
    with pytest.raises(ValueError, match="line 2"):
        recorded_runs(f"{head}\n{row}\n")
