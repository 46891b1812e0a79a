"""CMD: the target learns whom the source finds similar to whom."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .candidates import hits, in_batch, log_softmax, mask, on_batch, row_weights, softmax, with_queue
from .operands import lift, paired, positive, similarity, unit
from .tiled_distillation import Block, Plan, distil
from .tiles import InBatch, InQueue, in_tiles

Anchors = Literal["target", "source"]
Queue = Tensor | tuple[Tensor, Tensor]


class CmdTerms(NamedTuple):
    """CMD and what it is made of: ``loss`` = H(p) + KL(p || q)."""

    loss: Tensor
    entropy: Tensor  # H(p), without gradient
    logits: Tensor | None  # (N, N + K) of the target, disallowed ones at the lowest; None where computed in tiles
    hits: Tensor  # share of anchors whose best candidate in the batch is their own slot; 0 where that is none


def cmd(
    a: Tensor,
    b: Tensor,
    *,
    temperature_source: float | Tensor | None = None,
    temperature_target: float | Tensor | None = None,
    anchors: Anchors = "target",
    include_self: bool | None = None,
    group: Tensor | None = None,
    weight: Tensor | None = None,
    queue: Queue | None = None,
) -> Tensor:
    """Cross-modality distillation: cross-entropy between two similarity distributions.

    With rows at unit length and C_i the candidates of anchor i::

        p_ij = softmax_j in C_i (<a_i, a_j> / temperature_source)
        q_ij = softmax_j in C_i (<b_i, b_j> / temperature_target)      anchors="target"
        q_ij = softmax_j in C_i (<b_i, a_j> / temperature_target)      anchors="source"
        loss = -(1/N) sum_i sum_j p_ij log q_ij  =  H(p) + KL(p || q)

    ``anchors="target"`` compares within each modality: the widths may differ, and the loss does not change when b is
    rotated, so that it leaves cross-modal retrieval undetermined. ``anchors="source"`` compares targets with source
    features, as self-supervised distillation does, and fixes the rotation.

    Args:
        a: (N, D_a) source features.
        b: (N, D_b) target features; D_b = D_a for ``anchors="source"``.
        temperature_source: Of p; None: .07 (target anchors), .01 (source anchors).
        temperature_target: Of q; None: .07 (target anchors), .2 (source anchors).
        anchors: What the target is compared with.
        include_self: Whether i is in C_i; None: no for target anchors (there it is the constant 1), yes for source
            anchors (there it is the alignment signal).
        group: (N,) integers, equal where pairs share one source item; other rows of i's group leave C_i.
        weight: (N,) non-negative; the mean over anchors becomes a weighted one.
        queue: Further candidates of every anchor: for target anchors a pair ((K, D_a), (K, D_b)), for source anchors
            (K, D_a) source features.

    Returns:
        Scalar in [H(p), inf); log |C_i| where all of b are equal. An anchor without any candidate drops out of the
        mean; if none has one, the loss is 0.

    Raises:
        ValueError: Shapes do not match, N = 1 without a queue, or a temperature is not positive.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(cmd(a, b).item(), 3)
        0.316

    Reference: cross-modality contrastive distillation, arXiv 2405.03355, eq. (2), as reconstructed from public sources;
    Fang et al., "SEED: Self-supervised Distillation" (ICLR 2021), for source anchors.
    """
    return cmd_terms(
        a,
        b,
        temperature_source=temperature_source,
        temperature_target=temperature_target,
        anchors=anchors,
        include_self=include_self,
        group=group,
        weight=weight,
        queue=queue,
    ).loss


def cmd_terms(
    a: Tensor,
    b: Tensor,
    *,
    temperature_source: float | Tensor | None = None,
    temperature_target: float | Tensor | None = None,
    anchors: Anchors = "target",
    include_self: bool | None = None,
    group: Tensor | None = None,
    weight: Tensor | None = None,
    queue: Queue | None = None,
    exclude: Tensor | None = None,
) -> CmdTerms:
    """:func:`cmd` with its parts; ``exclude`` (N or 1, K) bool marks queue entries that are no candidates."""
    if anchors not in ("target", "source"):
        raise ValueError(f'anchors must be "target" or "source", got {anchors!r}')
    within = anchors == "target"
    tau_a = (0.07 if within else 0.01) if temperature_source is None else temperature_source
    tau_b = (0.07 if within else 0.2) if temperature_target is None else temperature_target
    positive(temperature_source=tau_a, temperature_target=tau_b)
    lifted_a, lifted_b = paired(a, b, same_width=not within, least=1 if queue is not None else 2)
    queue_a, queue_b = _split(queue, a, b, within=within)
    own = not within if include_self is None else include_self
    n = a.shape[0]
    if in_tiles(n, n + queue_a.shape[0], tau_a, tau_b):
        batch = InBatch(own=own, group=on_batch(group, b))
        return _in_tiles((a, b, queue_a, queue_b), (tau_a, tau_b), batch, InQueue(exclude), weight, within=within)

    a, b = unit(lifted_a), unit(lifted_b)
    allowed = with_queue(in_batch(b, group, include_self=own), queue_a.shape[0], exclude)
    source_candidates = torch.cat([a, unit(lift(queue_a, a)).to(a)])
    candidates = torch.cat([b, unit(lift(queue_b, b)).to(b)]) if within else source_candidates
    source_logits = similarity(a, source_candidates) / tau_a
    target_logits = similarity(b, candidates) / tau_b

    p = softmax(source_logits, allowed)
    rows = -(p * log_softmax(target_logits, allowed)).sum(dim=1)
    share = row_weights(allowed.sum(dim=1), weight, rows)
    masked = mask(target_logits, allowed)
    with torch.no_grad():
        entropy = -(share * (p * log_softmax(source_logits, allowed)).sum(dim=1)).sum()
        hit = hits(masked) if own else rows.new_zeros(())
    return CmdTerms((share * rows).sum(), entropy, masked, hit)


def _in_tiles(
    operands: tuple[Tensor, Tensor, Tensor, Tensor],
    temperatures: tuple[float | Tensor, float | Tensor],
    batch: InBatch,
    further: InQueue,
    weight: Tensor | None,
    *,
    within: bool,
) -> CmdTerms:
    """CMD of large batches; ``operands`` are a, b and their queues."""
    a, b, queue_a, queue_b = operands
    blocks = (
        Block((0, 0), (1, 1) if within else (1, 0), batch),
        Block((0, 2), (1, 3) if within else (1, 2), further),
    )
    loss, entropy, hit = distil(Plan(blocks), *temperatures, a, b, queue_a.to(a.device), queue_b.to(b.device))
    share = row_weights(batch.count(a) + further.count(a, queue_a), weight, loss)
    return CmdTerms((share * loss).sum(), (share.detach() * entropy).sum(), None, hit.float().mean())


def _split(queue: Queue | None, a: Tensor, b: Tensor, *, within: bool) -> tuple[Tensor, Tensor]:
    """The queue's source and target entries; empty where there are none."""
    if queue is None:
        return a.new_empty(0, a.shape[1]), b.new_empty(0, b.shape[1])
    if within != isinstance(queue, tuple):
        kind = "a pair (queue_a, queue_b)" if within else "one tensor of source features"
        raise ValueError(f"queue must be {kind} for anchors={'target' if within else 'source'!r}")
    queue_a, queue_b = queue if isinstance(queue, tuple) else (queue, b.new_empty(0, b.shape[1]))
    check_queue(queue_a, a.shape[1])
    check_queue(queue_b, b.shape[1])
    if within and queue_a.shape[0] != queue_b.shape[0]:
        raise ValueError(f"queue must hold pairs: got {queue_a.shape[0]} and {queue_b.shape[0]} rows")
    return queue_a, queue_b


def check_queue(queue: Tensor, width: int) -> None:
    """A queue is (K, width)."""
    if queue.ndim != 2 or queue.shape[1] != width:
        raise ValueError(f"queue must be (K, {width}): got {tuple(queue.shape)}")
