"""Do the pairs belong together? A permutation test on what two views look like from afar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .finding import Finding, warning
from .look import Afar, Looked, Seen
from .opened import Opened

LEAST = 60
MOST = 2000
PERMUTATIONS = 199
COMPONENTS = 12
DOUBTFUL = 0.05


@dataclass(frozen=True)
class Pairing:
    """How far two modalities' views go together in training.

    Attributes:
        pairs: Independent pairs that were tested: one a source item.
        statistic: Mean squared correlation of the two sides' principal components.
        chance: Its mean over shuffled pairs.
        p: Share of shufflings that go together as well as the pairs do; None: too few pairs to tell.
    """

    first: str
    second: str
    pairs: int
    statistic: float
    chance: float
    p: float | None


def pairings(opened: Opened, looked: Looked) -> list[Pairing]:
    """The test for every two modalities of the training split."""
    found = []
    for first, second in combinations(sorted(opened.modalities), 2):
        both = _independent(looked, first, second)
        a, b = (features([pair[side] for pair in both]) if both else np.empty((0, 1)) for side in (0, 1))
        found.append(Pairing(first, second, len(both), *together(a, b)))
    return found


def shuffled(found: list[Pairing]) -> Iterator[Finding]:
    """Pairs that go together no better than shuffled ones."""
    for pairing in found:
        if pairing.p is not None and pairing.p > DOUBTFUL:
            text = (
                f"the {pairing.pairs} pairs of {pairing.first} and {pairing.second} go together no better than "
                f"shuffled ones do (p = {pairing.p:.2f}, of how they look from afar)"
            )
            advice = "Look at the contact sheet: are two columns in another order? Faint relations can be missed here."
            yield warning("pairing", text, advice)


def features(views: Sequence[Seen | Afar]) -> np.ndarray:
    """n views -> (n, 128 + 2 · channels): light, edges and colours from afar, each kind of equal variance in all."""
    cells = [view.thumb.astype(np.float64).reshape(8, 2, 8, 2).mean((1, 3)).ravel() for view in views]
    kinds = [np.stack(cells), np.stack([view.edges.ravel() for view in views]), np.stack([v.colours for v in views])]
    centred = [kind - kind.mean(0) for kind in map(np.float64, kinds)]
    return np.hstack([kind / max(float(np.linalg.norm(kind)), 1e-12) for kind in centred])


def together(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float, float | None]:
    """(n, d) and (n, e) features of n pairs -> the statistic, its mean by chance, and p.

    Both sides are reduced to uncorrelated components, so that the one which varies most (overall brightness) does not
    drown the others; what is compared is the mean of their squared correlations, and of shuffled pairs.
    """
    if len(a) < LEAST:
        return float("nan"), float("nan"), None
    a, b = components(a), components(b)
    if not (a.shape[1] and b.shape[1]):
        return float("nan"), float("nan"), None
    rng = np.random.default_rng(seed)
    statistic = _statistic(a, b)
    by_chance = [_statistic(a, b[rng.permutation(len(b))]) for _ in range(PERMUTATIONS)]
    p = (1 + sum(value >= statistic for value in by_chance)) / (1 + PERMUTATIONS)
    return statistic, float(np.mean(by_chance)), p


def components(x: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, at most 12) principal components, each of unit length."""
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return np.ascontiguousarray(u[:, :COMPONENTS][:, s[:COMPONENTS] > 1e-6 * max(float(s[0]), 1e-12)])


def _statistic(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a.T @ b).mean())


def _independent(looked: Looked, first: str, second: str) -> list[tuple[Seen, Seen]]:
    """Training pairs, each item once: five sketches of one photo are one observation. At most MOST, evenly spaced."""
    a, b = dict(looked.seen("train", first)), dict(looked.seen("train", second))
    used: set[str] = set()
    pairs = []
    for at in sorted(a.keys() & b.keys()):
        items = {a[at].content, b[at].content}
        if not items & used:
            used |= items
            pairs.append((a[at], b[at]))
    return pairs if len(pairs) <= MOST else [pairs[i * len(pairs) // MOST] for i in range(MOST)]
