"""Pairwise contrast: each item picks its partner among the others'."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .candidates import hits, in_batch, log_softmax, mask, on_batch, row_weights, weighted_mean, with_queue
from .operands import lift, paired, positive, similarity, unit
from .similarity_distillation import Queue, check_queue
from .tiled_contrast import Block, Picked, Plan, contrast, sigmoid_contrast
from .tiles import InBatch, InQueue, in_tiles

Direction = Literal["both", "target_to_source", "source_to_target"]


class Half(NamedTuple):
    """One direction of contrast: anchors against candidates."""

    loss: Tensor
    log_candidates: Tensor  # mean over anchors of log |C_i|, without gradient
    logits: Tensor | None  # (N, N + K), disallowed ones at the lowest finite value; None where computed in tiles
    hits: Tensor  # share of anchors whose best candidate in the batch is their partner


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

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(cmc(a, b).item(), 3)
        0.045

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
    lifted_a, lifted_b = paired(a, b, least=1 if queue is not None else 2)
    source_queue, target_queue = _split(queue, a, b)
    if direction == "source_to_target" and queue is not None and target_queue is None:
        raise ValueError("a queue of source features serves target anchors: give a pair for source_to_target")
    n, extra = a.shape[0], max(len(q) if q is not None else 0 for q in (source_queue, target_queue))
    if in_tiles(n, n + extra, temperature):
        return _in_tiles(a, b, source_queue, target_queue, temperature, direction, group, weight, exclude)

    a, b = unit(lifted_a), unit(lifted_b)
    allowed = in_batch(b, group, include_self=True)
    logits = similarity(b, a) / temperature
    halves = {}
    if direction != "source_to_target":
        further = None if source_queue is None else similarity(b, unit(lift(source_queue, a)).to(a)) / temperature
        halves["target_to_source"] = _half(logits, further, allowed, exclude, weight)
    if direction != "target_to_source":
        further = None if target_queue is None else similarity(a, unit(lift(target_queue, b)).to(b)) / temperature
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
    masked = mask(logits, allowed)
    loss, log_candidates = _means(rows, allowed.sum(dim=1), weight)
    return Half(loss, log_candidates, masked, hits(masked.detach()))


def _means(rows: Tensor, candidates: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weighted means over anchors of their losses and of the logarithms of their numbers of candidates."""
    share = row_weights(candidates, weight, rows)
    return (share * rows).sum(), (share * candidates.to(rows.dtype).log()).sum()


def _in_tiles(
    a: Tensor,
    b: Tensor,
    source_queue: Tensor | None,
    target_queue: Tensor | None,
    temperature: float | Tensor,
    direction: Direction,
    group: Tensor | None,
    weight: Tensor | None,
    exclude: Tensor | None,
) -> dict[str, Half]:
    """The halves, for large batches."""
    batch, operands = InBatch(own=True, group=on_batch(group, b)), [a, b]
    targets, sources = direction != "source_to_target", direction != "target_to_source"
    x, y = (1, 0) if targets else (0, 1)
    blocks = [Block(x, y, batch, both=direction == "both", paired=True)]
    anchors = {}
    for name, place, wanted, queue, left_out in (
        ("target_to_source", 1, targets, source_queue, exclude),
        ("source_to_target", 0, sources, target_queue, None),
    ):
        if not wanted:
            continue
        further = InQueue(left_out)
        anchors[name] = (place, batch.count(b) + further.count(b, queue))
        if queue is not None:
            blocks.append(Block(place, len(operands), further))
            operands.append(queue.to(a.device))
    places = tuple(place for place, _ in anchors.values())
    picked = contrast(Plan(places, tuple(blocks)), temperature, *operands)
    halves = {}
    for name, (place, candidates) in anchors.items():
        surprise, hit = picked[place]
        halves[name] = Half(*_means(surprise, candidates, weight), None, hit.float().mean())
    return halves


def _split(queue: Queue | None, a: Tensor, b: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The queue's source and target entries."""
    source_queue, target_queue = queue if isinstance(queue, tuple) else (queue, None)
    if source_queue is not None:
        check_queue(source_queue, a.shape[1])
    if target_queue is not None:
        check_queue(target_queue, b.shape[1])
    return source_queue, target_queue


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

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(nt_xent(a, b, temperature=0.5).item(), 3)
        0.947

    Reference: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML 2020),
    eq. (1).
    """
    return nt_xent_terms(a, b, temperature=temperature, group=group, weight=weight)[0]


def nt_xent_terms(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor,
    group: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`nt_xent`, and the share of b's rows whose best candidate among a's is their partner."""
    positive(temperature=temperature)
    lifted_a, lifted_b = paired(a, b, least=2)
    n = a.shape[0]
    if in_tiles(2 * n, 2 * n, temperature):
        return _views_in_tiles(a, b, temperature, group, weight)
    views = torch.cat([unit(lifted_a), unit(lifted_b)])
    negatives = in_batch(a, group, include_self=False).repeat(2, 2)
    partner = torch.eye(2 * n, dtype=torch.bool, device=a.device).roll(n, dims=0)
    allowed = negatives | partner
    logits = similarity(views, views) / temperature
    log_q = log_softmax(logits, allowed)
    rows = -torch.cat([log_q.diagonal(n), log_q.diagonal(-n)])
    loss, _ = _means(rows, allowed.sum(dim=1), None if weight is None else weight.repeat(2))
    return loss, hits(mask(logits.detach(), allowed)[n:])


def _views_in_tiles(
    a: Tensor, b: Tensor, temperature: float | Tensor, group: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """:func:`nt_xent_terms`, for large batches: contrast both ways, with an anchor's own side as further candidates."""
    partners, own_side = (InBatch(own=own, group=on_batch(group, a)) for own in (True, False))
    blocks = (
        Block(1, 0, partners, both=True, paired=True),
        Block(0, 0, own_side, both=True),
        Block(1, 1, own_side, both=True),
    )
    picked: list[Picked] = list(contrast(Plan((0, 1), blocks), temperature, a, b).values())
    rows = torch.cat([one.surprise for one in picked])
    candidates = (partners.count(a) + own_side.count(a)).repeat(2)
    loss, _ = _means(rows, candidates, None if weight is None else weight.repeat(2))
    return loss, picked[1].hit.float().mean()


def siglip(
    a: Tensor,
    b: Tensor,
    *,
    scale: float | Tensor,
    bias: float | Tensor,
    group: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Pairwise sigmoid loss: is this a pair or not, for each of the N x N combinations.

    With rows at unit length, y = +1 on the diagonal and -1 off it::

        loss = -(1/N) sum_ij log sigmoid( y_ij (scale <a_i, b_j> + bias) )

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        scale: Positive factor of the cosines; 10 is the usual start.
        bias: Offset; -10 is the usual start, so that negatives do not dominate the first steps.
        group: (N,) integers, equal where pairs share one source item; combinations of two rows of one group are left
            out.
        weight: (N,) non-negative; the mean over rows i becomes a weighted one.

    Returns:
        Scalar in (0, inf). The sum is divided by N, not N².

    Raises:
        ValueError: Shapes do not match or the scale is not positive.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(siglip(a, b, scale=10.0, bias=-10.0).item(), 3)
        1.047

    Reference: Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023).
    """
    positive(scale=scale)
    lifted_a, lifted_b = paired(a, b)
    if in_tiles(len(a), len(a), scale, bias):
        batch = InBatch(own=True, group=on_batch(group, a))
        return weighted_mean(sigmoid_contrast(a, b, scale, bias, batch), weight)
    logits = similarity(unit(lifted_a), unit(lifted_b)) * scale + bias
    sign = 2 * torch.eye(a.shape[0], dtype=logits.dtype, device=logits.device) - 1
    allowed = in_batch(a, group, include_self=True)
    rows = -F.logsigmoid(sign * logits).masked_fill(~allowed, 0.0).sum(dim=1)
    return weighted_mean(rows, weight)
