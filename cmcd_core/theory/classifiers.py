"""Classifiers that tell two samples apart: a linear one and nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from .pairwise import squared_distances
from .samples import Floats

Rule = Callable[[Floats], NDArray[np.bool_]]
"""(n, d) rows -> (n,), true where a row is taken for one of b."""


def linear(a: Floats, b: Floats) -> Rule:
    """Logistic regression with a ridge of 1/n, on features of mean spread one: scale and rotation do not matter."""
    centre, scale = standard(a, b)
    weight = logistic((a - centre) / scale, (b - centre) / scale)

    def rule(x: Floats) -> NDArray[np.bool_]:
        return np.asarray((x - centre) / scale @ weight[:-1] + weight[-1] > 0)

    return rule


def neighbours(a: Floats, b: Floats) -> Rule:
    """Vote of the √n nearest training rows, an odd number of them."""
    z = np.concatenate([a, b])
    k = 2 * (math.isqrt(len(z)) // 2) + 1

    def rule(x: Floats) -> NDArray[np.bool_]:
        votes = [
            np.count_nonzero(np.argpartition(squared, k - 1, axis=1)[:, :k] >= len(a), axis=1)
            for _, squared in squared_distances(x, z)
        ]
        return np.asarray(2 * np.concatenate(votes) > k)

    return rule


def standard(a: Floats, b: Floats) -> tuple[Floats, float]:
    """Centre (d,) of both samples together, and the root of their mean variance."""
    z = np.concatenate([a, b])
    centre = z.mean(axis=0)
    return centre, float(np.sqrt(np.square(z - centre).mean())) or 1.0


def logistic(a: Floats, b: Floats, strength: float = 1.0) -> Floats:
    """(d + 1,) weight and offset of a score that is high for b.

    They minimise mean log(1 + exp(±score)) + strength · ‖weight‖² / (2n).
    """
    z, sign = np.concatenate([a, b]), np.repeat([-1.0, 1.0], [len(a), len(b)])
    ridge = strength / len(z)

    def loss(weight: Floats) -> tuple[float, Floats]:
        margin = sign * (z @ weight[:-1] + weight[-1])
        pull = -sign * expit(-margin) / len(z)
        value = np.logaddexp(0, -margin).mean() + ridge / 2 * (weight[:-1] @ weight[:-1])
        return float(value), np.append(pull @ z + ridge * weight[:-1], pull.sum())

    start = np.zeros(z.shape[1] + 1)
    found: Floats = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return found
