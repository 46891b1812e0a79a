"""Several frozen encoders as one: their standardised features side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .encoder import Encoder, Features, write_encoder


class SideBySide(Encoder):
    """Pooled features of several encoders of one input, each dimension at mean 0 and deviation 1, concatenated.

    A wide encoder thus weighs more than a narrow one, by its width.

    Args:
        members: The encoders; all take the same number of channels.
        mean, std: (D,) statistics of the concatenated features, from training samples.
    """

    def __init__(self, members: Sequence[Encoder], mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.channels = members[0].channels
        self.dim = sum(member.dim for member in members)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())

    def forward(self, x: Tensor) -> Features:
        pooled = torch.cat([member(x).pooled.float() for member in self.members], dim=1)
        return Features(pooled=(pooled - self.mean) / self.std)

    def save(self, folder: str | Path) -> Path:
        """Each member in a folder of its own (``teacher-1``, …), the statistics beside them."""
        folder, names = Path(folder), []
        for number, member in enumerate(self.members, start=1):
            assert isinstance(member, Encoder)
            names.append(f"teacher-{number}")
            member.save(folder / names[-1])
        note = "several encoders side by side: cmcd_core.load_encoder puts them together"
        config = {"architecture": None, "cmcd": {**self.card, "members": names, "foreign": True, "note": note}}
        return write_encoder(folder, config, {"mean": self.mean, "std": self.std})
