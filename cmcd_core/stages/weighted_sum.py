"""Several objectives as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..interfaces.encoder import Encoder, Features
from ..interfaces.objective import Objective


class WeightedSum(Objective):
    """``0.5*cmc + cmd``: several objectives as one.

    Args:
        terms: (weight, key, objective) of each summand; ``key`` prefixes its diagnostics.
    """

    def __init__(self, terms: Sequence[tuple[float, str, Objective]]) -> None:
        super().__init__()
        self.terms = [(weight, key) for weight, key, _ in terms]
        self.parts = nn.ModuleList(objective for _, _, objective in terms)
        self.needs = frozenset().union(*(objective.needs for _, _, objective in terms))

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        for _, objective in self._items():
            objective.attach(source, target, bank=bank, pairs=pairs, steps=steps)

    def forward(self, source: Features, target: Features) -> Tensor:
        losses = []
        for (weight, key), objective in zip(self.terms, self.parts, strict=True):
            loss: Tensor = objective(source, target)
            if loss.ndim:
                raise ConfigError(f"objective {key!r} returned shape {tuple(loss.shape)}, expected a scalar")
            losses.append(weight * loss)
        return torch.stack(losses).sum()

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """The first common space that a term has."""
        spaces = (objective.embed(source, target) for _, objective in self._items())
        return next((space for space in spaces if space is not None), None)

    def after_step(self) -> None:
        for _, objective in self._items():
            objective.after_step()

    def diagnostics(self) -> Mapping[str, float]:
        return {f"{key}.{name}": value for key, part in self._items() for name, value in part.diagnostics().items()}

    def without_weights(self) -> list[str]:
        """Keys of the terms that take every pair alike, whatever its weight."""
        return [key for key, part in self._items() if not part.uses_weights]

    def _items(self) -> list[tuple[str, Objective]]:
        pairs = zip(self.terms, self.parts, strict=True)
        return [(key, part) for (_, key), part in pairs if isinstance(part, Objective)]
