"""Objectives that are one formula of two batches of features, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcd_core import Encoder, Features, Objective, Widths
from cmcd_core.plugin import Options

from . import functional
from .functional.candidates import own_is_nearest
from .functional.operands import lift, unit
from .means import Means
from .space import About, OrthogonalHead, Space, about, require_common_width


@dataclass(frozen=True)
class Form:
    """A formula and the space in which it compares the sides.

    Attributes:
        loss: (source (N, D), target (N, D), options, what is known of the pairs) -> scalar.
        space: How a row is seen there: at ``"unit"`` length, ``"raw"``, ``"batch"``- or, on the source's side,
            ``"layer"``-normalised; None: relations within each side are compared, and there is no common space.
        batch_eps: Of the batch normalisation.
        uses_weights: Whether the pairs' weights change it; statistics of the batch take every pair alike.
    """

    loss: Callable[[Tensor, Tensor, Any, About], Tensor]
    space: Literal["unit", "raw", "batch", "layer"] | None
    batch_eps: float = 1e-5
    uses_weights: bool = False


def _cwcl(a: Tensor, b: Tensor, options: Any, pairs: About) -> Tensor:
    """The published loss::

        cwcl(a, b, temperature=t) + cmc(a, b, temperature=t, direction="source_to_target")

    The first half is of targets over sources, the second plain contrast of sources over targets.
    """
    about_pairs = {"group": pairs.group, "weight": pairs.weight}
    weighted = functional.cwcl(a, b, temperature=options.temperature, **about_pairs)
    return weighted + functional.cmc(a, b, temperature=options.temperature, direction="source_to_target", **about_pairs)


FORMS: Mapping[str, Form] = {
    "hint": Form(lambda a, b, o, p: o.scale * functional.hint(a, b, weight=p.weight), "raw", uses_weights=True),
    "l2": Form(lambda a, b, o, p: functional.l2(a, b, weight=p.weight), "unit", uses_weights=True),
    "cosine": Form(lambda a, b, o, p: functional.cosine(a, b, weight=p.weight), "unit", uses_weights=True),
    "unic": Form(lambda a, b, o, p: functional.unic(a, b, weight=p.weight), "raw", uses_weights=True),
    "vkd": Form(lambda a, b, o, p: functional.vkd(a, b, weight=p.weight), "layer", uses_weights=True),
    "cwcl": Form(_cwcl, "unit", uses_weights=True),
    "mmd": Form(lambda a, b, o, _: functional.mmd(a, b), "raw"),
    "vicreg": Form(lambda a, b, o, _: functional.vicreg(a, b), "raw"),
    "barlow_twins": Form(
        lambda a, b, o, _: functional.barlow_twins(a, b, off_diagonal_weight=o.off_diagonal_weight), "batch"
    ),
    "srd": Form(lambda a, b, o, _: o.scale * functional.srd(a, b), "batch", 1e-4),
    "rkd": Form(
        lambda a, b, o, _: functional.rkd(a, b, distance_weight=o.distance_weight, angle_weight=o.angle_weight), None
    ),
    "sp": Form(lambda a, b, o, _: o.scale * functional.sp(a, b), None),
    "pkt": Form(lambda a, b, o, _: o.scale * functional.pkt(a, b), None),
    "cka": Form(lambda a, b, o, _: functional.cka(a, b), None),
}


class Plain(Objective):
    """The formula ``name`` of :data:`FORMS`, with the target's head and the standardisation that its options have."""

    def __init__(self, name: str, options: Options, widths: Widths) -> None:
        super().__init__()
        self.name, self.options, self.form = name, options, FORMS[name]
        self.uses_weights = self.form.uses_weights
        self.group_aware: bool = getattr(options, "group_aware", False)
        self.space = self._make_space(widths)
        self.means = Means()
        # The loss normalises by the batch's own statistics; single rows need those of training.
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(widths.source, eps=self.form.batch_eps, affine=False)
            for _ in range(2 if self.form.space == "batch" else 0)
        )

    def _make_space(self, widths: Widths) -> Space:
        layers = getattr(self.options, "head_layers", 0)
        if layers is None:
            layers = int(widths.source != widths.target)
        hidden = getattr(self.options, "head_hidden", None)
        space = Space(self.name, widths, getattr(self.options, "standardise", "none"), layers=layers, hidden=hidden)
        if self.form.space == "layer":
            space.head = OrthogonalHead(widths.target, widths.source)
        elif self.form.space is not None:
            require_common_width(self.name, layers, widths)
        return space

    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation to the bank."""
        self.space.standardise.fit(self.name, bank)

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs."""
        a, b = self.space.source(source.pooled), self.space.target(target.pooled)
        if self.form.space is not None:
            self._note_statistics(a, b)
            self._report(a, b)
        return self.form.loss(a, b, self.options, about(source, target, group_aware=self.group_aware))

    @torch.no_grad()
    def _note_statistics(self, a: Tensor, b: Tensor) -> None:
        """Move the running statistics that :meth:`embed` needs, where the formula normalises by the batch's."""
        for norm, side in zip(self.norms, (a, b), strict=False):
            norm(lift(side))

    @torch.no_grad()
    def _report(self, a: Tensor, b: Tensor) -> None:
        a, b = lift(a), lift(b)
        centred_a, centred_b = unit(a - a.mean(dim=0)), unit(b - b.mean(dim=0))
        self.means.add(r1_target_to_source=own_is_nearest(centred_b, centred_a))

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides as the formula sees them, batch statistics replaced by their running means; None for relations."""
        a, b = self.space.source(source.pooled), self.space.target(target.pooled)
        match self.form.space:
            case None:
                return None
            case "unit":
                return unit(a), unit(b)
            case "layer":
                return F.layer_norm(a, a.shape[1:]), b
            case "batch":
                return self._normalised(0, a), self._normalised(1, b)
        return a, b

    def _normalised(self, side: int, x: Tensor) -> Tensor:
        norm = self.norms[side]
        assert isinstance(norm, nn.BatchNorm1d)
        return F.batch_norm(lift(x), norm.running_mean, norm.running_var, eps=norm.eps)

    def diagnostics(self) -> Mapping[str, float]:
        """``r1_target_to_source``: share of a batch whose most similar source, both sides centred, is its own; nothing
        where there is no common space."""
        return self.means.read()
