"""Batches made by another thread are the same ones, and nothing of it stays behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from cmcd_core.stages.ahead import ahead

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_the_same_batches_in_the_same_order_from_one_other_thread() -> None:
    makers = []

    def batches(epoch: int) -> Iterator[tuple[int, int]]:
        for number in range(5):
            makers.append((threading.get_ident(), torch.get_num_threads()))
            yield epoch, number

    assert list(ahead(batches, CPU)(3)) == [(3, number) for number in range(5)]
    assert len(set(makers)) == 1
    assert makers[0] != (threading.get_ident(), 2)
    assert makers[0][1] == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_one_batch_early_and_no_more() -> None:
    made: list[int] = []
    batches = ahead(lambda epoch: (made.append(number) or number for number in range(9)), CPU)(0)
    seen = next(batches)
    batches.close()
    assert seen == 0
    assert len(made) <= 2


@pytest.mark.usefixtures("two_threads")
def test_what_making_one_raises_is_raised_where_it_would_have_been_used() -> None:
    def batches(epoch: int) -> Iterator[int]:
        yield 0
        raise ValueError("the second")

    early = ahead(batches, CPU)(0)
    assert next(early) == 0
    threads = threading.active_count()
    with pytest.raises(ValueError, match="the second"):
        next(early)
    assert threading.active_count() < threads


def test_nothing_changes_on_one_core_or_an_accelerator(two_threads: None) -> None:
    def batches(epoch: int) -> Iterator[int]:
        yield from range(3)

    assert ahead(batches, torch.device("cuda")) is batches
    torch.set_num_threads(1)
    assert ahead(batches, CPU) is batches
