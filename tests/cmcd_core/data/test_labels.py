"""Few labels: nested, stratified, and the same for everybody."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmcd_core import ConfigError, DataError
from cmcd_core.data.labels import label_subset

STRATA = st.lists(st.integers(0, 4), min_size=1, max_size=60)
COUNTS = st.integers(1, 20)
DRAWS = st.integers(0, 5)


@given(strata=STRATA, count=COUNTS, draw=DRAWS, seed=st.integers(0, 2**31 - 1))
def test_so_many_a_class(strata: list[int], count: int, draw: int, seed: int) -> None:
    chosen = label_subset(strata, str(count), draw=draw, seed=seed)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    there = Counter(strata)
    assert Counter(strata[i] for i in chosen) == {label: min(count, n) for label, n in there.items()}


@given(strata=STRATA, share=st.sampled_from(["1%", "10%", "12.5%", "25%", "50%", "100%"]), draw=DRAWS)
def test_a_share_of_each_class_and_at_least_one(strata: list[int], share: str, draw: int) -> None:
    chosen = label_subset(strata, share, draw=draw, seed=0)
    part = Fraction(share[:-1]) / 100
    wanted = {label: ceil(part * n) for label, n in Counter(strata).items()}
    assert Counter(strata[i] for i in chosen) == wanted


@pytest.mark.parametrize(("share", "count"), [("7%", 7), ("14%", 14), ("55%", 55)])
def test_a_share_is_not_rounded_up_by_a_rounding_error(share: str, count: int) -> None:
    assert len(label_subset([0] * 100, share, draw=0, seed=0)) == count


@given(strata=STRATA, few=COUNTS, more=COUNTS, draw=DRAWS, seed=st.integers(0, 99))
def test_subsets_are_nested(strata: list[int], few: int, more: int, draw: int, seed: int) -> None:
    small, big = (set(label_subset(strata, str(count), draw=draw, seed=seed).tolist()) for count in sorted((few, more)))
    assert small <= big


@given(strata=STRATA, few=st.integers(1, 100), more=st.integers(1, 100), draw=DRAWS)
def test_shares_are_nested(strata: list[int], few: int, more: int, draw: int) -> None:
    small, big = (set(label_subset(strata, f"{share}%", draw=draw, seed=1).tolist()) for share in sorted((few, more)))
    assert small <= big
    assert len(label_subset(strata, "100%", draw=draw, seed=1)) == len(strata)


@given(strata=STRATA, count=COUNTS, draw=DRAWS, seed=st.integers(0, 99))
def test_it_is_the_same_every_time(strata: list[int], count: int, draw: int, seed: int) -> None:
    one, other = (label_subset(strata, str(count), draw=draw, seed=seed) for _ in range(2))
    assert np.array_equal(one, other)
    np.random.seed(0)
    assert np.array_equal(one, label_subset(strata, str(count), draw=draw, seed=seed))


def test_draws_and_seeds_differ() -> None:
    strata = [i % 3 for i in range(300)]
    subsets = [
        tuple(label_subset(strata, "5", draw=draw, seed=seed).tolist()) for draw in range(4) for seed in range(4)
    ]
    assert len(set(subsets)) == len(subsets)


def test_every_sample_is_drawn_now_and_then() -> None:
    counts = Counter(i for draw in range(300) for i in label_subset([0] * 20, "5", draw=draw, seed=0).tolist())
    assert set(counts) == set(range(20))
    assert min(counts.values()) > 40
    assert max(counts.values()) < 115


def test_without_classes_it_is_so_many_in_all() -> None:
    assert len(label_subset([None] * 30, "5", draw=0, seed=0)) == 5
    assert len(label_subset([None] * 30, "10%", draw=0, seed=0)) == 3


def test_a_class_with_fewer_gives_all_it_has() -> None:
    chosen = label_subset([0, 0, 1, *[2] * 50], "5", draw=0, seed=0)
    assert {0, 1, 2} <= set(chosen.tolist())
    assert len(chosen) == 8


def test_nothing_labelled() -> None:
    with pytest.raises(DataError, match="no labelled training sample"):
        label_subset([], "5", draw=0, seed=0)


def test_what_is_no_budget() -> None:
    with pytest.raises(ConfigError, match="--labels 'five'"):
        label_subset([0, 1], "five", draw=0, seed=0)
