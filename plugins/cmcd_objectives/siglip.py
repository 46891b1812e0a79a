"""The sigmoid loss as an objective."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmcd_core import Encoder, Features, Objective, Widths

from .functional import siglip
from .functional.candidates import own_is_nearest
from .functional.operands import unit
from .means import Means
from .space import Space, about, require_common_width
from .state_options import SiglipOptions
from .temperature import Temperature

BIAS_BOUND = 100.0  # the largest scale: beyond it, no cosine could change a logit's sign


class Siglip(Objective):
    """SigLIP (:func:`cmcd_objectives.functional.siglip`) with the target's head, scale and bias learnt or fixed."""

    def __init__(self, options: SiglipOptions, widths: Widths) -> None:
        super().__init__()
        require_common_width("siglip", options.head_layers, widths)
        self.options = options
        self.space = Space(
            "siglip", widths, options.standardise, layers=options.head_layers, hidden=options.head_hidden
        )
        self.temperature = Temperature(1 / options.scale, learnable=options.learnable)
        self.bias = nn.Parameter(torch.tensor(options.bias)) if options.learnable else None
        self.means = Means()

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation to the bank."""
        self.space.standardise.fit("siglip", bank)

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs."""
        a, b = self.space.source(source.pooled), self.space.target(target.pooled)
        pairs = about(source, target, group_aware=self.options.group_aware)
        scale = 1 / self.temperature()
        bias = self.options.bias if self.bias is None else self.bias
        loss = siglip(a, b, scale=scale, bias=bias, group=pairs.group, weight=pairs.weight)
        with torch.no_grad():
            self.means.add(r1_target_to_source=own_is_nearest(unit(b), unit(a)))
            if self.options.learnable:
                self.means.add(scale=scale, bias=bias)
        return loss

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides at unit length."""
        return unit(self.space.source(source.pooled)), unit(self.space.target(target.pooled))

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep the learnt scale and bias in bounds."""
        self.temperature.clamp()
        if self.bias is not None:
            self.bias.clamp_(-BIAS_BOUND, BIAS_BOUND)

    def diagnostics(self) -> Mapping[str, float]:
        """``r1_target_to_source``: share of a batch whose most similar source is its own; ``scale`` and ``bias``
        where they are learnt."""
        return self.means.read()
