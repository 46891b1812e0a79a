"""The same numbers as other libraries, where they compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from cmcd_core.theory.classifiers import logistic
from cmcd_core.theory.distance import energy_distance, sliced_wasserstein2


def test_sliced_wasserstein_is_the_square_of_pot_s(shifted: Any) -> None:
    ot = pytest.importorskip("ot")
    a, b = shifted(300, 5, 1.0)
    directions = np.random.default_rng(0).standard_normal((64, 5))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for other in (b, b[:170]):
        root = ot.sliced_wasserstein_distance(a, other, projections=directions.T)
        assert sliced_wasserstein2(a, other, projections=64, seed=0).value == pytest.approx(float(root) ** 2)


def test_energy_distance_is_that_of_scipy_s_distances(shifted: Any) -> None:
    a, b = shifted(120, 5, 1.0)
    b = b[:70]
    expected = 2 * cdist(a, b).mean() - cdist(a, a).mean() - cdist(b, b).mean()
    assert energy_distance(a, b).value == pytest.approx(expected)


def test_energy_distance_is_the_square_of_scipy_s_in_one_dimension(shifted: Any) -> None:
    a, b = shifted(120, 1, 1.0)
    root = stats.energy_distance(a[:, 0], b[:70, 0])
    assert energy_distance(a, b[:70]).value == pytest.approx(root**2)


def test_logistic_regression_is_scikit_learn_s(shifted: Any) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    a, b = shifted(150, 4, 1.0)
    weight = logistic(a, b)
    theirs = linear_model.LogisticRegression(C=1.0, tol=1e-8).fit(
        np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    )
    assert weight[:-1] == pytest.approx(theirs.coef_[0], abs=1e-3)
    assert weight[-1] == pytest.approx(theirs.intercept_[0], abs=1e-3)
