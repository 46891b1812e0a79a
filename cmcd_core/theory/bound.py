"""A generalisation bound for a linear head on features, term by term.

A bound of this shape, for a head psi and a loss in [0, L]: with probability at least 1 - delta over m labelled samples,

    risk in the other modality <= empirical risk + 2 · complexity + 3 L sqrt(log(2/delta) / (2m)) + discrepancy

The first three terms bound the risk in the modality of the samples; the discrepancy, sup |R_P(psi) - R_Q(psi)| over the
heads considered, is at most L · TV(P, Q) where labels depend on the input through the features alone. It is our
derivation from textbook parts (Mohri, Rostamizadeh, Talwalkar, "Foundations of Machine Learning", 2018, theorem 3.3;
Ben-David et al., 2010), and no paper's theorem. Each term says whether it is computed or itself bounded; a sum with a
mere lower bound in it bounds nothing, and says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .complexity import Rademacher, massart, rademacher_linear, rademacher_multiclass
from .estimate import Estimate
from .paired_discrepancy import paired_discrepancy
from .ramp import LOSS_RANGE, RAMP_LIPSCHITZ, ramp_loss
from .samples import Array, Floats, Samples, array, positive

__all__ = [
    "LOSS_RANGE",
    "RAMP_LIPSCHITZ",
    "Bound",
    "Rademacher",
    "Term",
    "generalisation_bound",
    "massart",
    "paired_discrepancy",
    "rademacher_linear",
    "rademacher_multiclass",
    "ramp_loss",
]

Status = Literal["computed", "lower bound", "upper bound", "not evaluated"]


@dataclass(frozen=True)
class Term:
    """One summand.

    Args:
        name: What it is.
        value: At least zero; None: not evaluated.
        status: How ``value`` stands to what it is called.
        note: What it rests on.
    """

    name: str
    value: float | None
    status: Status
    note: str


@dataclass(frozen=True)
class Bound:
    """The terms and their sum.

    Args:
        terms: In the order of the formula.
        loss_range: L, above which no loss lies.
        confidence: 1 - delta of the deviation; a discrepancy holds at its own.
    """

    terms: tuple[Term, ...]
    loss_range: float
    confidence: float

    @property
    def total(self) -> float:
        """Sum of what was evaluated; never below the empirical risk, and not cut at L."""
        return sum(term.value for term in self.terms if term.value is not None)

    @property
    def vacuous(self) -> bool:
        """Whether the total says nothing: it is L or more, which every loss is below anyway."""
        return self.total >= self.loss_range

    @property
    def guaranteed(self) -> bool:
        """Whether the total is an upper bound, given what the notes ask: no term is a mere lower bound."""
        return all(term.status != "lower bound" for term in self.terms)


def generalisation_bound(
    features: Samples,
    targets: ArrayLike,
    weight: Samples,
    bias: ArrayLike | None = None,
    *,
    discrepancy: Estimate | None = None,
    norm: float | None = None,
    margin: float = 1.0,
    confidence: float = 0.95,
    draws: int = 200,
    seed: int = 0,
) -> Bound:
    """Bound of a linear head's ramp risk, hence of its error rate, from m labelled samples it may have been trained on.

    Complexity: of all heads of Frobenius norm at most B, by :func:`rademacher_multiclass`; a bias is one more column of
    the weight, on a feature that is always one. A trained head's own norm is no B that was there before the samples.
    With ``norm = None`` the bound holds for all norms at once: B is the power of two 2^j above the head's, and delta is
    shared out as delta · (2/3) / ((|j| + 1)(|j| + 2)), which adds up to delta over all j. What this costs is a term of
    its own.

    Args:
        features: (m, d), independent samples of one modality; the encoder must not have seen their labels.
        targets: (m,) integers in [0, K).
        weight: (K, d), K >= 2.
        bias: (K,) or None.
        discrepancy: To bound the risk in the *other* modality: of :func:`paired_discrepancy` for this head (its upper
            end counts), or of ``tv_lower_bound`` or ``class_discrepancy`` (their lower ends do: a head and labels exist
            whose risk changes that much; the upper end of ``class_discrepancy`` holds for two classes and one label
            only).
        norm: B, chosen before seeing the samples, the head's norm at most; None: see above.
        margin: Of the ramp, chosen before seeing the samples.
        confidence: 1 - delta, in (0, 1).
        draws: Of the signs in the complexity.
        seed: Of the signs.

    Returns:
        Terms "empirical risk", "complexity", "deviation", "norm after the fact", "discrepancy", "encoder".

    Raises:
        ValueError: Shapes do not match, confidence not in (0, 1), the head is longer than ``norm``, or the discrepancy
            is no difference of risks.

    Example:
        >>> x = np.array([[3.0, 0.0], [0.0, 3.0]] * 200)
        >>> bound = generalisation_bound(x, [0, 1] * 200, np.eye(2), norm=2.0)
        >>> [(term.name, term.status) for term in bound.terms][:3]
        [('empirical risk', 'computed'), ('complexity', 'upper bound'), ('deviation', 'computed')]
        >>> bound.terms[0].value, bound.vacuous
        (0.0, True)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    x, head = _with_bias(array(features, "features"), array(weight, "weight"), bias)
    risk = float(ramp_loss(x @ head.T, targets, margin=margin).mean())
    own = float(np.linalg.norm(head))
    if norm is not None and own > norm * (1 + 1e-9):
        raise ValueError(f"the head's norm {own:.4g} is above norm = {norm:.4g}: the bound is for heads within it")
    unit = rademacher_multiclass(x, len(head), 1.0, lipschitz=RAMP_LIPSCHITZ / margin, draws=draws, seed=seed)
    radius = own if norm is None else positive("norm", norm)
    terms = (
        Term("empirical risk", risk, "computed", f"ramp loss of margin {margin:g} on {len(x)} samples"),
        Term("complexity", 2 * radius * unit.safe, "upper bound", _span(unit, 2 * radius)),
        Term("deviation", _deviation(1 - confidence, len(x)), "computed", f"3 L sqrt(log(2/delta)/(2m)), m = {len(x)}"),
        _after_the_fact(own, unit, 1 - confidence, len(x)) if norm is None else _beforehand(radius),
        _discrepancy(discrepancy),
        Term(
            "encoder",
            None,
            "not evaluated",
            "nought where the encoder never saw these labels; else its class's complexity, which is not computable",
        ),
    )
    return Bound(terms, LOSS_RANGE, confidence)


def _with_bias(x: Array, weight: Array, bias: ArrayLike | None) -> tuple[Floats, Floats]:
    """The bias as one more column of the weight, and a feature that is always one."""
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"weight must be (K, {x.shape[1]}): got {weight.shape}")
    x, weight = np.asarray(x, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    if bias is None:
        return x, weight
    column = np.asarray(bias, dtype=np.float64)
    if column.shape != (len(weight),):
        raise ValueError(f"bias must be ({len(weight)},): got {column.shape}")
    return np.column_stack([x, np.ones(len(x))]), np.column_stack([weight, column])


def _deviation(delta: float, m: int) -> float:
    return 3 * LOSS_RANGE * math.sqrt(math.log(2 / delta) / (2 * m))


def _span(unit: Rademacher, scale: float) -> str:
    return f"2 x complexity at the head class's norm; closed form {scale * unit.lower:.4g} to {scale * unit.upper:.4g}"


def _beforehand(norm: float) -> Term:
    return Term("norm after the fact", 0.0, "computed", f"nought: B = {norm:.4g} was chosen beforehand")


def _after_the_fact(own: float, unit: Rademacher, delta: float, m: int) -> Term:
    """What it costs that the norm is read off the head: B rounded up to a power of two, and a share of delta."""
    power = math.ceil(math.log2(own)) if own > 0 else 0
    share = delta * (2 / 3) / ((abs(power) + 1) * (abs(power) + 2))
    rounded = 2 * (2.0**power - own) * unit.safe
    dearer = _deviation(share, m) - _deviation(delta, m)
    note = f"union over norms: B = 2^{power} for the head's {own:.4g}, and delta = {share:.3g}"
    return Term("norm after the fact", rounded + dearer, "computed", note)


def _discrepancy(estimate: Estimate | None) -> Term:
    if estimate is None:
        note = "the bound is for the modality of the samples"
        return Term("discrepancy", None, "not evaluated", note)
    if estimate.name == "paired_discrepancy" and estimate.high is not None:
        note = "from pairs, for every head of this norm and any labels"
        return Term("discrepancy", estimate.high, "upper bound", note)
    if estimate.name in ("tv_lower_bound", "class_discrepancy") and estimate.low is not None:
        note = f"lower end of {estimate.name}: the total is no upper bound"
        return Term("discrepancy", LOSS_RANGE * estimate.low, "lower bound", note)
    raise ValueError(
        f"{estimate.name} is no difference of risks: take paired_discrepancy, tv_lower_bound or class_discrepancy"
    )
