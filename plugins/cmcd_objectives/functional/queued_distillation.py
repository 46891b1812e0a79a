"""Relatives of CMD: self-supervised distillation against queues, a linear kernel as teacher, and dense tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .candidates import in_batch, log_softmax, on_rows, softmax, weighted_mean
from .operands import lift, paired, positive, similarity, unit
from .similarity_distillation import Queue, check_queue
from .tiled_distillation import Block, Plan, distil
from .tiles import InBatch, InQueue, in_tiles


def seed(
    a: Tensor, b: Tensor, *, queue: Tensor, temperature_source: float | Tensor, temperature_target: float | Tensor
) -> Tensor:
    """SEED: each target is compared with its own source and a queue, as that source is.

    With rows at unit length and Q the queue::

        p_i = softmax([<a_i, a_i>, <a_i, Q>] / temperature_source)
        q_i = softmax([<b_i, a_i>, <b_i, Q>] / temperature_target)
        loss = -(1/N) sum_i sum_j p_ij log q_ij

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        queue: (K, D) source features of past batches.
        temperature_source: Of p; .01 in the paper.
        temperature_target: Of q; .2 in the paper.

    Returns:
        Scalar in [H(p), inf); for temperature_source -> 0 it is InfoNCE with the source's features as keys.

    Raises:
        ValueError: Shapes do not match or a temperature is not positive.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(seed(a, b, queue=torch.eye(3), temperature_source=0.1, temperature_target=0.2).item(), 3)
        0.648

    Reference: Fang et al., "SEED: Self-supervised Distillation for Visual Representation" (ICLR 2021).
    """
    positive(temperature_source=temperature_source, temperature_target=temperature_target)
    lifted_a, lifted_b = paired(a, b)
    check_queue(queue, a.shape[1])
    if in_tiles(len(a), len(queue), temperature_source, temperature_target):
        blocks = (
            Block((0, 0), (1, 0), InBatch(own=True, others=False)),
            Block((0, 2), (1, 2), InQueue()),
        )
        return distil(Plan(blocks), temperature_source, temperature_target, a, b, queue.to(a.device)).loss.mean()
    a, b = unit(lifted_a), unit(lifted_b)
    queue = unit(lift(queue, a)).to(a)
    teacher = torch.cat([(a * a).sum(dim=1, keepdim=True), similarity(a, queue)], dim=1)
    student = torch.cat([(b * a).sum(dim=1, keepdim=True), similarity(b, queue)], dim=1)
    p = F.softmax(teacher / temperature_source, dim=1)
    return -(p * F.log_softmax(student / temperature_target, dim=1)).sum(dim=1).mean()


def compress(a: Tensor, b: Tensor, *, queue: Queue, temperature: float | Tensor) -> Tensor:
    """CompRess: similarities to a queue, source and target alike, compared by KL divergence.

    With rows at unit length, p_i = softmax(<a_i, Q_a> / temperature) and q_i = softmax(<b_i, Q_b> / temperature)::

        loss = (1/N) sum_i KL(p_i || q_i)

    Args:
        a: (N, D_a) source features.
        b: (N, D_b) target features.
        queue: (K, D) source features for both (the 1q variant), or the pair ((K, D_a), (K, D_b)) of past pairs (2q).
        temperature: Of both; .04 in the paper's code.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match or the temperature is not positive.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(compress(a, b, queue=torch.eye(3), temperature=0.1).item(), 3)
        0.245

    Reference: Koohpayegani et al., "CompRess: Self-Supervised Learning by Compressing Representations" (NeurIPS 2020).
    """
    positive(temperature=temperature)
    lifted_a, lifted_b = paired(a, b, same_width=not isinstance(queue, tuple))
    queue_a, queue_b = queue if isinstance(queue, tuple) else (queue, queue)
    check_queue(queue_a, a.shape[1])
    check_queue(queue_b, b.shape[1])
    if queue_a.shape[0] != queue_b.shape[0]:
        raise ValueError(f"queue must hold pairs: got {queue_a.shape[0]} and {queue_b.shape[0]} rows")
    if in_tiles(len(a), len(queue_a), temperature):
        plan = Plan((Block((0, 2), (1, 3), InQueue()),), divergence=True)
        return distil(plan, temperature, temperature, a, b, queue_a.to(a.device), queue_b.to(b.device)).loss.mean()
    a, b = lifted_a, lifted_b
    teacher = similarity(unit(a), unit(lift(queue_a, a)).to(a)) / temperature
    student = similarity(unit(b), unit(lift(queue_b, b)).to(b)) / temperature
    return _kl(teacher, student).mean()


def cwcl(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor,
    group: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Continuously weighted contrast, its weighted half: target anchors over sources.

    With rows at unit length and w_ij = (<a_i, a_j> + 1) / 2::

        loss = -(1/N) sum_i (1 / sum_j w_ij) sum_j w_ij log softmax_j(<b_i, a_j> / temperature)

    It is CMD with source anchors whose source softmax is a linear kernel instead. The published loss adds plain
    contrast in the other direction: ``cmc(…, direction="source_to_target")``.

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        temperature: Of the softmax.
        group: (N,) integers, equal where pairs share one source item; other rows of i's group leave both sums over j.
        weight: (N,) non-negative; the mean over anchors becomes a weighted one.

    Returns:
        Scalar in (0, inf); log N where all similarities are equal.

    Raises:
        ValueError: Shapes do not match, N = 1, or the temperature is not positive.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(cwcl(a, b, temperature=0.1).item(), 3)
        2.899

    Reference: Srinivasa et al., "CWCL: Cross-Modal Transfer with Continuously Weighted Contrastive Loss"
    (NeurIPS 2023).
    """
    positive(temperature=temperature)
    a, b = paired(a, b, least=2)
    a, b = unit(a), unit(b)
    allowed = in_batch(a, group, include_self=True)
    closeness = ((similarity(a, a) + 1) / 2).masked_fill(~allowed, 0.0)
    log_q = log_softmax(similarity(b, a) / temperature, allowed)
    rows = -(closeness * log_q).sum(dim=1) / closeness.sum(dim=1)
    return weighted_mean(rows, weight)


def dense_cmd(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor,
    include_self: bool = False,
    valid: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """CMD among the tokens of one item: which places of a picture resemble each other?

    With tokens at unit length, each token t of item n an anchor, and the item's other tokens its candidates::

        loss = (1/NT) sum_nt KL( softmax(<a_nt, a_n.> / temperature) || softmax(<b_nt, b_n.> / temperature) )

    Args:
        a: (N, T, D_a) source tokens.
        b: (N, T, D_b) target tokens; the widths may differ.
        temperature: Of both.
        include_self: Whether a token is its own candidate (the published form; there its constant 1 takes most of the
            mass at low temperatures).
        valid: (N, T) bool; other tokens are neither anchors nor candidates.
        weight: (N,) non-negative; the mean over tokens becomes one weighted by item.

    Returns:
        Scalar in [0, inf). A token without any candidate drops out of the mean; if none has one, the loss is 0.

    Raises:
        ValueError: Shapes do not match, T = 1 without self, or the temperature is not positive.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(dense_cmd(a[None], b[None], temperature=0.1).item(), 3)
        0.043

    Reference: the local term of LightlyTrain's distillation (v3), a dense form of CMD.
    """
    positive(temperature=temperature)
    if a.ndim != 3 or b.ndim != 3 or a.shape[:2] != b.shape[:2] or a.shape[0] == 0:
        raise ValueError(f"a and b must be (N, T, D) of the same N and T: got {tuple(a.shape)} and {tuple(b.shape)}")
    tokens = a.shape[1]
    if tokens < (1 if include_self else 2):
        raise ValueError(f"needs at least two tokens an item, got {tokens}")
    a, b = unit(lift(a, b)), unit(lift(b, a))
    allowed = _pairs_of_tokens(a, valid, include_self=include_self)
    teacher, student = similarity(a, a) / temperature, similarity(b, b) / temperature
    p = softmax(teacher, allowed)
    rows = (p * (log_softmax(teacher, allowed) - log_softmax(student, allowed))).sum(dim=2)
    anchors = allowed.any(dim=2).to(rows.dtype)
    if weight is not None:
        anchors = anchors * on_rows(weight, rows[:, 0])[:, None]
    return weighted_mean(rows.flatten(), anchors.flatten())


def _pairs_of_tokens(like: Tensor, valid: Tensor | None, *, include_self: bool) -> Tensor:
    """(N, T, T) bool: may token t of item n be compared with its token u?"""
    count, tokens = like.shape[:2]
    if valid is None:
        valid = torch.ones(count, tokens, dtype=torch.bool, device=like.device)
    if valid.shape != (count, tokens):
        raise ValueError(f"valid must be ({count}, {tokens}): got {tuple(valid.shape)}")
    valid = valid.to(like.device)
    allowed = valid[:, :, None] & valid[:, None, :]
    return allowed if include_self else allowed & ~torch.eye(tokens, dtype=torch.bool, device=like.device)


def _kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) over the last axis."""
    log_p, log_q = F.log_softmax(teacher, dim=-1), F.log_softmax(student, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)
