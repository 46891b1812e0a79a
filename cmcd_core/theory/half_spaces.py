"""The half-space that two samples fill most differently."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from .classifiers import logistic, standard
from .samples import Floats

RANDOM = 30
"""Random directions that are tried beside the logistic one and the difference of means."""
ASCENDED = 4
"""How many of the best are climbed from."""
SHARPER = (1.0, 2.0, 2.0, 2.0, 2.0)
"""By how much each climb's half-space is sharper than what the one before ended with."""


def best_half_space(a: Floats, b: Floats, generator: np.random.Generator) -> float:
    """The largest |share of a - share of b| inside one half-space that a search finds, in [0, 1].

    Along a direction the best threshold is exact (the statistic of Kolmogorov and Smirnov). Directions climb a smoothed
    difference of shares that is sharpened step by step. The exact maximum is NP-hard to find: this is at most it.
    """
    centre, scale = standard(a, b)
    a, b = (a - centre) / scale, (b - centre) / scale
    best = 0.0
    for start in _starts(a, b, generator):
        for direction in _climb(a, b, start):
            best = max(best, abs(_threshold(a @ direction, b @ direction)[0]))
            if best == 1:
                return best
    return best


def _starts(a: Floats, b: Floats, generator: np.random.Generator) -> list[Floats]:
    """The most promising directions, (d,) each."""
    known = [logistic(a, b)[:-1], logistic(a, b, 1e-4)[:-1], b.mean(axis=0) - a.mean(axis=0)]
    tried = [*known, *generator.standard_normal((RANDOM, a.shape[1]))] if a.shape[1] > 1 else [np.ones(1)]
    return sorted(tried, key=lambda direction: -abs(_threshold(a @ direction, b @ direction)[0]))[:ASCENDED]


def _threshold(u: Floats, v: Floats) -> tuple[float, float]:
    """Share of u at or below a threshold minus that of v, where it is largest in size; and the threshold."""
    both = np.concatenate([u, v])
    order = np.argsort(both)
    values = both[order]
    of_u = order < len(u)
    difference = np.cumsum(of_u) / len(u) - np.cumsum(~of_u) / len(v)
    difference[:-1][values[1:] == values[:-1]] = 0  # no threshold parts equal values
    place = int(np.argmax(np.abs(difference[:-1])))
    return float(difference[place]), float(values[place : place + 2].mean())


def _climb(a: Floats, b: Floats, direction: Floats) -> Iterator[Floats]:
    """The direction, then better ones."""
    yield direction
    u, v = a @ direction, b @ direction
    difference, threshold = _threshold(u, v)
    spread = float(np.concatenate([u, v]).std()) or 1.0
    weight = np.append(direction, -threshold) * np.sign(difference) / spread

    def loss(weight: Floats) -> tuple[float, Floats]:
        share_a, share_b = expit(a @ weight[:-1] + weight[-1]), expit(b @ weight[:-1] + weight[-1])
        pull_a, pull_b = share_a * (1 - share_a) / len(a), share_b * (1 - share_b) / len(b)
        slope = np.append(pull_a @ a - pull_b @ b, pull_a.sum() - pull_b.sum())
        return float(share_a.mean() - share_b.mean()), slope

    for sharper in SHARPER:
        weight = minimize(
            loss, weight * sharper, jac=True, method="L-BFGS-B", options={"maxiter": 100, "gtol": 1e-8, "ftol": 1e-10}
        ).x
        yield weight[:-1]
