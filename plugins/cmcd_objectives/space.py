"""The space in which source and target are compared: standardised source features, the target's head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from cmcd_core import ConfigError, Features, Widths

from .functional.operands import full_precision, lift
from .options import Standardisation
from .standardise import Standardise


class Space(nn.Module):
    """Maps each side there. Without a head the target gets the source's map, if the widths agree: a target that
    equals the source before it then equals it after it too."""

    def __init__(
        self,
        name: str,
        widths: Widths,
        standardise: Standardisation,
        *,
        layers: int,
        hidden: int | None,
        out: int | None = None,
    ) -> None:
        super().__init__()
        _require_layers(name, layers, hidden, out)
        self.standardise = Standardise(standardise, widths.source)
        self.head = make_head(layers, widths.target, hidden or widths.target, out or widths.source)
        self.same_width = widths.source == widths.target

    def source(self, pooled: Tensor) -> Tensor:
        """(N, D_a) -> (N, D_a), standardised."""
        mapped: Tensor = self.standardise(pooled)
        return mapped

    def target(self, pooled: Tensor) -> Tensor:
        """(N, D_b) -> (N, D), through the head."""
        if self.head is not None:
            mapped: Tensor = self.head(pooled)
            return mapped
        return self.source(pooled) if self.same_width else pooled

    @torch.no_grad()
    def bank(self, features: Features) -> Tensor:
        """The cached source features (M, D_a) there, on this module's device."""
        device = next(iter([*self.buffers(), *self.parameters()]), features.pooled).device
        return self.source(features.pooled.to(device)).float()


def _require_layers(name: str, layers: int, hidden: int | None, out: int | None) -> None:
    """A width of what the head of objective ``name`` does not have would be left aside without a word."""
    if hidden is not None and layers != 2:
        raise ConfigError(
            f"objective.{name}.head_hidden={hidden} is the hidden width of a head of two layers, and this has {layers}",
            f"Type -o objective.{name}.head_layers=2, or leave head_hidden out",
        )
    if out is not None and layers == 0:
        raise ConfigError(
            f"objective.{name}.head_width={out} is the output width of the target's head, and there is none",
            f"Type -o objective.{name}.head_layers=2, or leave head_width out",
        )


def make_head(layers: int, width: int, hidden: int, out: int) -> nn.Module | None:
    """None, a linear map, or an MLP of two layers."""
    if layers == 0:
        return None
    if layers == 1:
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))


class OrthogonalHead(nn.Module):
    """A linear map with orthonormal rows or columns, whichever are fewer, and no bias: angles survive it."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = orthogonal(nn.Linear(width, out, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) -> (N, out), in float32 at least: the map is a matrix exponential or a product of reflections."""
        with full_precision(x):
            mapped: Tensor = self.linear(lift(x))
        return mapped


def require_common_width(name: str, layers: int, widths: Widths) -> None:
    """Without a head the encoders must agree on their width, where objective ``name`` compares them."""
    if layers == 0 and widths.target != widths.source:
        raise ConfigError(
            f"{name}: the target's width {widths.target} is not the source's {widths.source}, and there is no head "
            "between them",
            f"Type -o objective.{name}.head_layers=1",
        )


@dataclass(frozen=True)
class About:
    """What is known of a batch's pairs beside their features."""

    index: Tensor | None
    group: Tensor | None
    weight: Tensor | None


def about(source: Features, target: Features, *, group_aware: bool) -> About:
    """The source's word, or else the target's, on the batch's device."""
    group = _either(source.group, target.group, target.pooled) if group_aware else None
    return About(
        _either(source.index, target.index, target.pooled),
        group,
        _either(source.weight, target.weight, target.pooled),
    )


def _either(first: Tensor | None, second: Tensor | None, like: Tensor) -> Tensor | None:
    chosen = second if first is None else first
    return None if chosen is None else chosen.to(like.device)
