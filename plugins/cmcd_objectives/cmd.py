"""Cross-modality distillation as an objective."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from cmcd_core import ConfigError, Encoder, Features, Objective, Widths

from .functional.operands import unit
from .functional.similarity_distillation import Queue as QueueFeatures
from .functional.similarity_distillation import cmd_terms
from .further import Queue, attach_further, further_candidates
from .means import Means
from .options import CmdOptions
from .space import Space, about, require_common_width
from .temperature import Temperature


class Cmd(Objective):
    """CMD (:func:`cmcd_objectives.functional.cmd`) with the target's head, the standardisation and the queue.

    With target anchors and a queue, past pairs are kept as (source, momentum encoder's target) features before the
    head; the head of the day maps the latter, without gradient, so that they age only as fast as that encoder does.
    """

    def __init__(self, options: CmdOptions, widths: Widths) -> None:
        super().__init__()
        within = options.anchors == "target"
        layers = options.head_layers if options.head_layers is not None else (2 if within else 1)
        _check(options, layers, widths)
        self.options = options
        self.within = within
        self.has_self = not within if options.include_self is None else options.include_self
        self.space = Space(
            "cmd", widths, options.standardise, layers=layers, hidden=options.head_hidden, out=options.head_width
        )
        start = options.temperature_target or (0.07 if within else 0.2)
        self.temperature = Temperature(start, learnable=options.learnable_temperature)
        self.further = further_candidates(options.queue, widths.source, widths.target if within else 0)
        if within and isinstance(self.further, Queue):
            self.needs = frozenset({"momentum"})
        self.means = Means()

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation to the bank, and begin the queue or take the bank in for one."""
        attach_further("cmd", self.further, self.space, bank=bank, pairs=pairs)

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs."""
        a, b = self.space.source(source.pooled), self.space.target(target.pooled)
        pairs = about(source, target, group_aware=self.options.group_aware)
        further = self.further
        terms = cmd_terms(
            a,
            b,
            temperature_source=self.options.temperature_source,
            temperature_target=self.temperature(),
            anchors=self.options.anchors,
            include_self=self.options.include_self,
            group=pairs.group,
            weight=pairs.weight,
            queue=self._candidates(),
            exclude=None if further is None else further.exclude(pairs.index, pairs.group),
        )
        if self.training and isinstance(further, Queue):
            further.remember(a, pairs.index, pairs.group, self._momentum(target))
        self._report(terms.loss.detach(), terms.entropy, terms.hits)
        return terms.loss

    def _candidates(self) -> QueueFeatures | None:
        """What the queue holds, in the common space."""
        if self.further is None:
            return None
        if not (self.within and isinstance(self.further, Queue)):
            return self.further.source
        with torch.no_grad():
            return self.further.source, self.space.target(self.further.target)

    def _momentum(self, target: Features) -> Tensor | None:
        if not self.within:
            return None
        if target.momentum is None:
            raise ValueError("cmd with target anchors and a queue needs the momentum encoder's features of the target")
        return target.momentum

    def _report(self, loss: Tensor, entropy: Tensor, hits: Tensor) -> None:
        self.means.add(entropy=entropy, kl=loss - entropy)
        if not self.within and self.has_self:
            self.means.add(r1_target_to_source=hits)
        if self.options.learnable_temperature:
            self.means.add(temperature=self.temperature())

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides at unit length; None for target anchors, which leave the target's rotation free."""
        if self.within:
            return None
        return unit(self.space.source(source.pooled)), unit(self.space.target(target.pooled))

    def after_step(self) -> None:
        """Enqueue the batch, after its loss; keep the learnt temperature in bounds."""
        self.temperature.clamp()
        if isinstance(self.further, Queue):
            self.further.enqueue()

    def diagnostics(self) -> Mapping[str, float]:
        """``entropy`` H(p), below which the loss cannot go; ``kl``, what is left to learn; ``tv_bound``
        sqrt(KL / 2), an upper bound on the mean total variation between p and q (Pinsker)."""
        means = dict(self.means.read())
        if "kl" in means:
            means["tv_bound"] = math.sqrt(max(means["kl"], 0.0) / 2)
        return means


def _check(options: CmdOptions, layers: int, widths: Widths) -> None:
    """Refuse what the two kinds of anchors cannot do."""
    if options.anchors == "target":
        if options.queue == "bank":
            raise ConfigError(
                "objective.cmd.queue=bank holds source features only, and target anchors need pairs",
                "Type -o objective.cmd.anchors=source, or give the queue a size",
            )
        return
    require_common_width("cmd", layers, widths)
    if options.head_width not in (None, widths.source):
        raise ConfigError(
            f"objective.cmd.head_width={options.head_width} is not the source's width {widths.source}, with which "
            "anchors=source compares the target",
            "Leave head_width out, or type -o objective.cmd.anchors=target",
        )
