"""A modality under test, and what it makes of raw data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..interfaces.encoder import Encoder
from ..interfaces.modality import Modality
from .findings import Skipped, Subject, once, raised, require
from .raws import Taken, copies, generated, taken
from .views import BATCH, SIZE, batched


@dataclass
class ModalitySubject(Subject):
    """A modality, and what it makes of some samples.

    Attributes:
        before: The raw data as they were before the modality saw them.
    """

    before: list[Taken] = field(default_factory=list)

    @once
    def built(self) -> Modality:
        """The modality."""
        modality = self.part.build(self.options)
        require(
            isinstance(modality, Modality), f"build returns a {type(modality).__name__}", "Return a cmcd_core.Modality."
        )
        channels = getattr(modality, "channels", None)
        require(
            isinstance(channels, int) and not isinstance(channels, bool) and channels >= 1,
            f"channels is {channels!r}",
            "Set it to the number of channels that encode gives.",
        )
        return modality  # type: ignore[no-any-return]

    @once
    def raws(self) -> Sequence[Taken]:
        """What the caller gave, or generated raw data that decode takes."""
        modality, refusals = self.built, []
        if self.samples is not None:
            require(len(self.samples) > 0, "samples are given, but none of this modality")
            given = [taken(raw) for raw in self.samples]
            self.before = copies(given)
            return given
        for kind, items in generated():
            self.before = copies(items)
            try:
                for item in items:
                    modality.decode(item)
            except Exception as error:
                refusals.append(f"{kind}: {raised(error, self.plugin.module)}")
            else:
                return items
        name = self.part.name
        raise Skipped(
            f"no sample: decode takes none of the {len(refusals)} kinds of raw data that were generated "
            f"({refusals[0]}; …)",
            f"Pass samples={{{name!r}: [...]}} to check_plugin, or --sample FILE to `cmcd plugins check`.",
        )

    @once
    def decoded(self) -> list[Tensor]:
        """(C, H, W) each."""
        out = [self.built.decode(raw) for raw in self.raws]
        for x in out:
            require(isinstance(x, Tensor), f"decode returns a {type(x).__name__}", "Return a torch.Tensor.")
            require(x.ndim == 3 and min(x.shape) > 0, f"decode gives shape {tuple(x.shape)}", "Return (C, H, W).")
            require(x.dtype == torch.float32, f"decode gives {x.dtype}", "Return .float().")
            require(bool(torch.isfinite(x).all()), "decode gives NaN or infinite values", "Replace them, or refuse.")
        return out

    @once
    def batch(self) -> Tensor:
        """(N, C, H, W) at one size."""
        return batched(self.built, self.decoded)

    @once
    def encoded(self) -> Tensor:
        """(N, channels, H, W)."""
        return self.built.encode(self.batch.clone())

    @once
    def ready(self) -> Tensor:
        """(N, channels, H, W) for an encoder; noise where there is no sample of a picture."""
        try:
            return self.encoded
        except Skipped:
            if not self.built.spatial:
                raise
            return torch.rand(BATCH, self.built.channels, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    @once
    def network(self) -> Encoder:
        """Its encoder, labelled as a run would."""
        encoder = self.built.encoder()
        require(
            isinstance(encoder, Encoder), f"encoder() returns a {type(encoder).__name__}", "Return a cmcd_core.Encoder."
        )
        encoder.arguments = {"architecture": None}
        encoder.card = {
            "modality": f"{self.plugin.name}:{self.part.name}",
            "options": self.options.model_dump(mode="json"),
            "size": SIZE,
        }
        return encoder
