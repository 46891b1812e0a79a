"""NT-Xent as an objective, between two modalities or two views of one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cmcd_core import Encoder, Features, Objective, Widths

from .functional.contrast import nt_xent_terms
from .functional.operands import unit
from .means import Means
from .options import NtXentOptions
from .space import Space, about, require_common_width


class NtXent(Objective):
    """NT-Xent (:func:`cmcd_objectives.functional.nt_xent`). Both sides carry gradient if they were given with one, so
    that two views of one encoder can be trained by it."""

    def __init__(self, options: NtXentOptions, widths: Widths) -> None:
        super().__init__()
        layers = int(widths.source != widths.target) if options.head_layers is None else options.head_layers
        require_common_width("nt_xent", layers, widths)
        self.options = options
        self.space = Space("nt_xent", widths, options.standardise, layers=layers, hidden=options.head_hidden)
        self.means = Means()

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation to the bank."""
        self.space.standardise.fit("nt_xent", bank)

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs."""
        a, b = self.space.source(source.pooled), self.space.target(target.pooled)
        pairs = about(source, target, group_aware=self.options.group_aware)
        loss, hits = nt_xent_terms(a, b, temperature=self.options.temperature, group=pairs.group, weight=pairs.weight)
        self.means.add(r1_target_to_source=hits)
        return loss

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides at unit length."""
        return unit(self.space.source(source.pooled)), unit(self.space.target(target.pooled))

    def diagnostics(self) -> Mapping[str, float]:
        """``r1_target_to_source``: share of a batch whose most similar source is its own, leaving out its group's."""
        return self.means.read()
