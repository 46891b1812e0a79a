"""Encoders and what they return."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import write_json, write_tensors


@dataclass(frozen=True, kw_only=True)
class Features:
    """What an encoder says about a batch of N samples.

    Attributes:
        pooled: (N, D) one vector a sample, as the backbone gives it: not normalised.
        dense: (N, D', h, w) map before pooling; both sides are pooled by the core to one (h, w).
        pyramid: Maps of earlier stages, fine to coarse; the dense map is the stage after them.
        momentum: (N, D) of the EMA encoder; target only.
        index: (N,) positions in the training set.
        group: (N,) equal where pairs share one source item: no negatives of each other.
        valid: (N, h, w) share of valid pixels under each dense cell, in [0, 1].
        weight: (N,) trust in each pair.
    """

    pooled: Tensor
    dense: Tensor | None = None
    pyramid: tuple[Tensor, ...] | None = None
    momentum: Tensor | None = None
    index: Tensor | None = None
    group: Tensor | None = None
    valid: Tensor | None = None
    weight: Tensor | None = None


class Encoder(nn.Module):
    """A network from (N, C, H, W) in [0, 1] to :class:`Features`; it normalises its input itself.

    Attributes:
        dim: Width D of the pooled features.
        dense_dim: Channels D' of the dense map; 0 where there is none.
        pyramid_dims: Channels of each map of the pyramid; empty where there is none.
        channels: Channels C of the input.
        arguments: What ``Modality.encoder`` was called with, JSON-ready; the core sets it.
        card: Modality, options, size and plugin, JSON-ready; the core sets it. Both travel in config.json.
    """

    dim: int
    dense_dim: int = 0
    pyramid_dims: tuple[int, ...] = ()
    channels: int

    def __init__(self) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {}
        self.card: dict[str, Any] = {}

    @abstractmethod
    def forward(self, x: Tensor) -> Features:
        """(N, C, H, W) in [0, 1] -> Features."""

    def save(self, folder: str | Path) -> Path:
        """Write config.json and model.safetensors into ``folder`` (made if need be), each atomically.

        An encoder that is not a :class:`TimmEncoder` is loaded again by its modality's plugin; config.json says so.
        """
        config = {
            "architecture": None,
            "cmcd": {
                **self.card,
                "arguments": self.arguments,
                "foreign": True,
                "note": "not a timm architecture: cmcd_core.load_encoder rebuilds it through its modality's plugin",
            },
        }
        return write_encoder(Path(folder), config, self.state_dict())


def write_encoder(folder: Path, config: dict[str, Any], state: dict[str, Tensor]) -> Path:
    """Write an encoder's two files; a crash leaves either the old or the new file, never half of one."""
    write_tensors(folder / "model.safetensors", state)
    write_json(folder / "config.json", config)
    return folder


@torch.inference_mode()
def pooled(encoder: Encoder, batches: Iterable[Tensor]) -> Tensor:
    """(N, D) features of all batches as the encoder pools them, float32 on the CPU."""
    return torch.cat([encoder(batch).pooled.float().cpu() for batch in batches])
