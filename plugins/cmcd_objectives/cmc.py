"""Cross-modality contrast as an objective."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cmcd_core import ConfigError, Encoder, Features, Objective, Widths

from .functional.contrast import Half, cmc_terms
from .functional.operands import unit
from .further import Queue, attach_further, further_candidates
from .means import Means
from .options import CmcOptions
from .space import Space, about, require_common_width
from .temperature import Temperature


class Cmc(Objective):
    """CMC (:func:`cmcd_objectives.functional.cmc`) with the target's head, the standardisation and the queue.

    The queue or bank holds source features: further wrong answers for the targets. The source is frozen, so they do
    not age.
    """

    def __init__(self, options: CmcOptions, widths: Widths) -> None:
        super().__init__()
        require_common_width("cmc", options.head_layers, widths)
        if options.queue and options.direction == "source_to_target":
            raise ConfigError(
                "objective.cmc.queue holds source features, and direction=source_to_target picks among targets",
                "Type -o objective.cmc.direction=both, or leave the queue out",
            )
        self.options = options
        self.space = Space("cmc", widths, options.standardise, layers=options.head_layers, hidden=options.head_hidden)
        self.temperature = Temperature(options.temperature, learnable=options.learnable_temperature)
        self.further = further_candidates(options.queue, widths.source)
        self.means = Means()

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation to the bank, and begin the queue or take the bank in for one."""
        attach_further("cmc", self.further, self.space, bank=bank, pairs=pairs)

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs."""
        a, b = self.space.source(source.pooled), self.space.target(target.pooled)
        pairs = about(source, target, group_aware=self.options.group_aware)
        further = self.further
        halves = cmc_terms(
            a,
            b,
            temperature=self.temperature(),
            direction=self.options.direction,
            group=pairs.group,
            weight=pairs.weight,
            queue=None if further is None else further.source,
            exclude=None if further is None else further.exclude(pairs.index, pairs.group),
        )
        if self.training and isinstance(further, Queue):
            further.remember(a, pairs.index, pairs.group)
        self._report(halves)
        return torch.stack([half.loss for half in halves.values()]).mean()

    @torch.no_grad()
    def _report(self, halves: dict[str, Half]) -> None:
        for direction, half in halves.items():
            self.means.add(**{f"r1_{direction}": half.hits})
        bound = torch.stack([half.log_candidates - half.loss for half in halves.values()]).mean()
        self.means.add(mutual_information_bound=bound)
        if self.options.learnable_temperature:
            self.means.add(temperature=self.temperature())

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides at unit length."""
        return unit(self.space.source(source.pooled)), unit(self.space.target(target.pooled))

    def after_step(self) -> None:
        """Enqueue the batch, after its loss; keep the learnt temperature in bounds."""
        self.temperature.clamp()
        if isinstance(self.further, Queue):
            self.further.enqueue()

    def diagnostics(self) -> Mapping[str, float]:
        """``r1_…``: share of a batch that picks its partner; ``mutual_information_bound``: log of the number of
        candidates minus the loss, in nats, which bounds I(source; target) from below (InfoNCE)."""
        return self.means.read()
