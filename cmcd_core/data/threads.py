"""Threads that decode: each computes on one core."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def one_core_each(count: int) -> Iterator[ThreadPoolExecutor]:
    """``count`` threads for work that is spread over them already: torch would start further ones for each."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=_compute_alone) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # threads that begin later take the number that was set last


def _compute_alone() -> None:
    torch.get_num_threads()  # a thread takes over torch's number when it is first asked, and would forget its own then
    torch.set_num_threads(1)
