"""Pairwise contrast: each item picks its partner among the others'."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .candidates import in_batch, log_softmax, mask, row_weights, with_queue
from .operands import lift, paired, positive, similarity, unit
from .similarity_distillation import Queue, check_queue

Direction = Literal["both", "target_to_source", "source_to_target"]


class Half(NamedTuple):
    """One direction of contrast: anchors against candidates."""

    loss: Tensor
    log_candidates: Tensor  # mean over anchors of log |C_i|, without gradient
    logits: Tensor  # (N, N + K), disallowed ones at the lowest finite value


def cmc(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    direction: Direction = "both",
    group: Tensor | None = None,
    weight: Tensor | None = None,
    queue: Queue | None = None,
) -> Tensor:
    """Cross-modality contrast: the CLIP loss with a locked source.

    With rows at unit length and s_ij = <a_i, b_j> / temperature::

        target_to_source = -(1/N) sum_j log softmax_i(s_.j)_j       each target picks its source
        source_to_target = -(1/N) sum_i log softmax_j(s_i.)_i       each source picks its target
        both             = their mean

    Only b is meant to learn: compute a without gradient.

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        temperature: Of the softmax.
        direction: Which way to contrast.
        group: (N,) integers, equal where pairs share one source item. Other rows of an anchor's group leave its
            denominator, in both directions: to a target they are copies of its own source; to a source they are
            further right answers, each of which is the positive of its own row and should not compete with this one.
        weight: (N,) non-negative; the mean over anchors becomes a weighted one.
        queue: (K, D) source features, further candidates of the target anchors (a frozen source's never go stale);
            or a pair ((K, D), (K', D)), the second being target features, further candidates of the source anchors.

    Returns:
        Scalar in (0, inf); log N where all similarities are equal, so that log N - loss bounds the mutual
        information of a and b from below (InfoNCE).

    Raises:
        ValueError: Shapes do not match, N = 1 without a queue, or the temperature is not positive.

    Reference: cross-modality contrastive distillation, arXiv 2405.03355, eq. (3), as reconstructed from public sources;
    Radford et al., "CLIP" (ICML 2021); Zhai et al., "LiT" (CVPR 2022).
    """
    halves = cmc_terms(a, b, temperature=temperature, direction=direction, group=group, weight=weight, queue=queue)
    return torch.stack([half.loss for half in halves.values()]).mean()


def cmc_terms(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    direction: Direction = "both",
    group: Tensor | None = None,
    weight: Tensor | None = None,
    queue: Queue | None = None,
    exclude: Tensor | None = None,
) -> dict[str, Half]:
    """The halves of :func:`cmc` by direction; ``exclude`` (N or 1, K) bool: source entries that are no candidates."""
    if direction not in ("both", "target_to_source", "source_to_target"):
        raise ValueError(f"direction must be both, target_to_source or source_to_target, got {direction!r}")
    positive(temperature=temperature)
    a, b = paired(a, b, least=1 if queue is not None else 2)
    a, b = unit(a), unit(b)
    source_queue, target_queue = _split(queue, a, b)
    if direction == "source_to_target" and queue is not None and target_queue is None:
        raise ValueError("a queue of source features serves target anchors: give a pair for source_to_target")

    allowed = in_batch(b, group, include_self=True)
    logits = similarity(b, a) / temperature
    halves = {}
    if direction != "source_to_target":
        further = None if source_queue is None else similarity(b, source_queue) / temperature
        halves["target_to_source"] = _half(logits, further, allowed, exclude, weight)
    if direction != "target_to_source":
        further = None if target_queue is None else similarity(a, target_queue) / temperature
        halves["source_to_target"] = _half(logits.T, further, allowed, None, weight)
    return halves


def _half(
    logits: Tensor, further: Tensor | None, allowed: Tensor, exclude: Tensor | None, weight: Tensor | None
) -> Half:
    """Cross-entropy of the diagonal among the batch's and the queue's candidates."""
    if further is not None:
        logits = torch.cat([logits, further], dim=1)
        allowed = with_queue(allowed, further.shape[1], exclude)
    rows = -log_softmax(logits, allowed).diagonal()
    share = row_weights(allowed, weight, rows)
    log_candidates = (share * allowed.sum(dim=1).to(rows.dtype).log()).sum()
    return Half((share * rows).sum(), log_candidates, mask(logits, allowed))


def _split(queue: Queue | None, a: Tensor, b: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The queue's unit-length source and target entries."""
    if queue is None:
        return None, None
    source_queue, target_queue = queue if isinstance(queue, tuple) else (queue, None)
    check_queue(source_queue, a.shape[1])
    if target_queue is not None:
        check_queue(target_queue, b.shape[1])
        target_queue = unit(lift(target_queue, b)).to(b)
    return unit(lift(source_queue, a)).to(a), target_queue


def nt_xent(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor,
    group: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """NT-Xent: each of 2N views picks its partner among all other views.

    With z the rows of a and b at unit length and u+ the partner of u::

        loss = -(1/2N) sum_u log( exp(<z_u, z_u+> / temperature) / sum_{v != u} exp(<z_u, z_v> / temperature) )

    Args:
        a: (N, D) first views.
        b: (N, D) second views; gradient flows into both.
        temperature: Of the softmax.
        group: (N,) integers, equal where pairs share one source item; other views of u's group leave its sum, its
            partner stays.
        weight: (N,) non-negative weight of each pair, for both of its views.

    Returns:
        Scalar in (0, inf); log(2N - 1) where all similarities are equal.

    Raises:
        ValueError: Shapes do not match, N = 1, or the temperature is not positive.

    Reference: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML 2020),
    eq. (1).
    """
    positive(temperature=temperature)
    a, b = paired(a, b, least=2)
    n = a.shape[0]
    views = torch.cat([unit(a), unit(b)])
    negatives = in_batch(a, group, include_self=False).repeat(2, 2)
    partner = torch.eye(2 * n, dtype=torch.bool, device=a.device).roll(n, dims=0)
    allowed = negatives | partner
    log_q = log_softmax(similarity(views, views) / temperature, allowed)
    rows = -torch.cat([log_q.diagonal(n), log_q.diagonal(-n)])
    share = row_weights(allowed, None if weight is None else weight.repeat(2), rows)
    return (share * rows).sum()


def siglip(a: Tensor, b: Tensor, *, scale: float | Tensor, bias: float | Tensor) -> Tensor:
    """Pairwise sigmoid loss: is this a pair or not, for each of the N x N combinations.

    With rows at unit length, y = +1 on the diagonal and -1 off it::

        loss = -(1/N) sum_ij log sigmoid( y_ij (scale <a_i, b_j> + bias) )

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        scale: Positive factor of the cosines; 10 is the usual start.
        bias: Offset; -10 is the usual start, so that negatives do not dominate the first steps.

    Returns:
        Scalar in (0, inf). The sum is divided by N, not N².

    Raises:
        ValueError: Shapes do not match or the scale is not positive.

    Reference: Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023).
    """
    positive(scale=scale)
    a, b = paired(a, b)
    logits = similarity(unit(a), unit(b)) * scale + bias
    sign = 2 * torch.eye(a.shape[0], dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(sign * logits).sum() / a.shape[0]
