"""SEED as an objective."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cmcd_core import Encoder, Features, Objective, Widths

from .functional.operands import unit
from .functional.similarity_distillation import cmd_terms
from .further import Queue, one_group
from .means import Means
from .space import Space, about, require_common_width
from .state_options import SeedOptions


class Seed(Objective):
    """SEED (:func:`cmcd_objectives.functional.seed`): source and target are compared with the item's own source feature
    and with a queue of past ones, which starts with random directions.

    As published, but for two things that small training sets call for: the queue is no longer than one epoch, and an
    anchor's own past entries (and its group's) are no candidates, or they would share the mass of its own source.
    """

    def __init__(self, options: SeedOptions, widths: Widths) -> None:
        super().__init__()
        require_common_width("seed", options.head_layers, widths)
        self.options = options
        self.space = Space("seed", widths, options.standardise, layers=options.head_layers, hidden=options.head_hidden)
        self.queue = Queue(options.queue, widths.source)
        self.means = Means()

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation to the bank, and size the queue."""
        self.space.standardise.fit("seed", bank)
        self.queue.begin(pairs, random=True)

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs."""
        a, b = self.space.source(source.pooled), self.space.target(target.pooled)
        pairs = about(source, target, group_aware=self.options.group_aware)
        terms = cmd_terms(
            a,
            b,
            temperature_source=self.options.temperature_source,
            temperature_target=self.options.temperature_target,
            anchors="source",
            include_self=True,
            group=one_group(a),
            weight=pairs.weight,
            queue=self.queue.source,
            exclude=self.queue.exclude_own(pairs.index, pairs.group),
        )
        if self.training:
            self.queue.remember(a, pairs.index, pairs.group)
        self.means.add(entropy=terms.entropy, kl=terms.loss.detach() - terms.entropy)
        return terms.loss

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides at unit length."""
        return unit(self.space.source(source.pooled)), unit(self.space.target(target.pooled))

    def after_step(self) -> None:
        """Enqueue the batch, after its loss."""
        self.queue.enqueue()

    def diagnostics(self) -> Mapping[str, float]:
        """``entropy`` H(p), below which the loss cannot go; ``kl``, what is left to learn."""
        return self.means.read()
