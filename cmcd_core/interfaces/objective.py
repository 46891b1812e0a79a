"""Distillation objectives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from .encoder import Encoder, Features


class Objective(nn.Module):
    """A loss between the frozen source's and the target's features of one batch of pairs.

    Its heads, temperatures and queues are its own parameters and buffers: the core optimises the former and saves
    both.

    Attributes:
        needs: What the core must compute beyond pooled features: ``"dense"``, ``"pyramid"``, ``"momentum"``.
        uses_weights: Whether the pairs' weights change the loss. Where they do not, a run on pairs of different
            weights says so.
    """

    needs: frozenset[str] = frozenset()
    uses_weights: bool = True

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Called once, before the optimiser is made and before a checkpoint's state is loaded.

        Args:
            source: The frozen encoder; an objective must not keep it as a submodule.
            target: The encoder that learns.
            bank: Cached source features, the training pairs first, unpaired source rows after them; memory-mapped.
            pairs: How many training pairs there are.
            steps: How many optimiser steps the run takes.
        """
        return

    @abstractmethod
    def forward(self, source: Features, target: Features) -> Tensor:
        """Scalar loss of a batch; ``source`` carries no gradient."""

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides in the common space, (N, D) each, for distances and retrieval; None where there is none."""
        return None

    def after_step(self) -> None:
        """Called after each optimiser step: queues, schedules."""
        return

    def diagnostics(self) -> Mapping[str, float]:
        """Means since the last call, logged each epoch."""
        return {}
