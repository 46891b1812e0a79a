"""A number with its interval, and which side of the truth it is on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["lower bound", "plug-in", "upper on a class", "exact"]


@dataclass(frozen=True)
class Estimate:
    """What an estimator says of two laws from samples of them.

    Args:
        name: Of the estimator.
        value: Its point estimate.
        low: Lower end of a 95 % interval (or of the confidence asked for) of the laws' own quantity; None: there is
            none.
        high: Its upper end; None: there is none.
        direction: What is guaranteed.
            ``"lower bound"``: the quantity is at least ``low``; nothing is known above.
            ``"upper on a class"``: it is at most ``high``, for the class of heads that the estimator names and no
            other. ``"plug-in"``: neither side; value and interval have a bias that shrinks with n.
            ``"exact"``: a statistic of the samples themselves, computed in full; the interval is for new samples.
        n: How many samples the value rests on, after any cap: held-out samples of a classifier (both sides together),
            pairs or queries of what compares pairs, else rows of the smaller side.
        p_value: Of the hypothesis that both laws are one, where the estimator tests it.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    direction: Direction
    n: int
    p_value: float | None = None
