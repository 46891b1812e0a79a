"""CompRess as an objective."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cmcd_core import Encoder, Features, Objective, Widths

from .functional.operands import unit
from .functional.similarity_distillation import Queue as QueueFeatures
from .functional.similarity_distillation import cmd_terms
from .further import Queue, one_group
from .means import Means
from .space import Space, about, require_common_width
from .state_options import CompressOptions


class Compress(Objective):
    """CompRess (:func:`cmcd_objectives.functional.compress`): similarities to past pairs agree.

    ``1q``: both sides are compared with past source features, at the start random directions as published. ``2q``: the
    source with past sources, the target with the momentum encoder's features of the same past targets; these are kept
    before the head, and the head of the day maps them. That queue starts empty: random pairs would be noise to match.
    The queue is no longer than one epoch, and an anchor's own past entries (and its group's) are no candidates.
    """

    def __init__(self, options: CompressOptions, widths: Widths) -> None:
        super().__init__()
        self.two = options.variant == "2q"
        layers = options.head_layers if options.head_layers is not None else int(not self.two)
        if not self.two:
            require_common_width("compress", layers, widths)
        self.options = options
        self.space = Space("compress", widths, options.standardise, layers=layers, hidden=options.head_hidden)
        self.queue = Queue(options.queue, widths.source, widths.target if self.two else 0)
        if self.two:
            self.needs = frozenset({"momentum"})
        self.means = Means()

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation to the bank, and size the queue."""
        self.space.standardise.fit("compress", bank)
        self.queue.begin(pairs, random=not self.two)

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs."""
        a, b = self.space.source(source.pooled), self.space.target(target.pooled)
        pairs = about(source, target, group_aware=self.options.group_aware)
        terms = cmd_terms(
            a,
            b,
            temperature_source=self.options.temperature,
            temperature_target=self.options.temperature,
            anchors="target" if self.two else "source",
            include_self=False,
            group=one_group(a),
            weight=pairs.weight,
            queue=self._candidates(),
            exclude=self.queue.exclude_own(pairs.index, pairs.group),
        )
        if self.training:
            self.queue.remember(a, pairs.index, pairs.group, self._momentum(target))
        self.means.add(entropy=terms.entropy)
        return terms.loss - terms.entropy

    def _candidates(self) -> QueueFeatures:
        """What the queue holds, in the space of its side."""
        if not self.two:
            return self.queue.source
        with torch.no_grad():
            return self.queue.source, self.space.target(self.queue.target)

    def _momentum(self, target: Features) -> Tensor | None:
        if not self.two:
            return None
        if target.momentum is None:
            raise ValueError("compress with variant=2q needs the momentum encoder's features of the target")
        return target.momentum

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides at unit length; None for 2q, which leaves the target's rotation free."""
        if self.two:
            return None
        return unit(self.space.source(source.pooled)), unit(self.space.target(target.pooled))

    def after_step(self) -> None:
        """Enqueue the batch, after its loss."""
        self.queue.enqueue()

    def diagnostics(self) -> Mapping[str, float]:
        """``entropy`` H(p) of the source's similarities: how many neighbours there are to match."""
        return self.means.read()
