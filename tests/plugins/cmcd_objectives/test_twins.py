"""cmd, cmc and nt_xent against slow, obvious loops, option by option."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from cmcd_objectives.functional import cmc, cmd, nt_xent


def cos(x, y):
    return float(np.dot(x, y) / math.sqrt(np.dot(x, x) * np.dot(y, y)))


def log_softmax(logits):
    top = max(logits)
    total = top + math.log(sum(math.exp(v - top) for v in logits))
    return [v - total for v in logits]


def weighted_mean(values, weights):
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def slow_cmd(a, b, tau_a, tau_b, anchors, include_self, group, weight, queue):
    n = len(a)
    rows, weights = [], []
    for i in range(n):
        p_logits, q_logits = [], []
        for j in range(n):
            if j == i and not include_self:
                continue
            if j != i and group is not None and group[j] == group[i]:
                continue
            p_logits.append(cos(a[i], a[j]) / tau_a)
            q_logits.append(cos(b[i], b[j] if anchors == "target" else a[j]) / tau_b)
        if queue is not None:
            for k in range(len(queue[0])):
                p_logits.append(cos(a[i], queue[0][k]) / tau_a)
                q_logits.append(cos(b[i], queue[1][k] if anchors == "target" else queue[0][k]) / tau_b)
        if not p_logits:
            continue
        log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
        rows.append(-sum(math.exp(lp) * lq for lp, lq in zip(log_p, log_q, strict=True)))
        weights.append(1.0 if weight is None else weight[i])
    return weighted_mean(rows, weights)


def slow_cmc(a, b, tau, direction, group, weight, queue_a, queue_b):
    def half(anchors, candidates, further):
        rows = []
        for i in range(len(anchors)):
            logits = [cos(anchors[i], candidates[i]) / tau]
            for j in range(len(candidates)):
                if j != i and (group is None or group[j] != group[i]):
                    logits.append(cos(anchors[i], candidates[j]) / tau)
            logits += [cos(anchors[i], x) / tau for x in further]
            rows.append(-log_softmax(logits)[0])
        return weighted_mean(rows, [1.0] * len(rows) if weight is None else weight)

    to_source, to_target = half(b, a, queue_a), half(a, b, queue_b)
    return {"target_to_source": to_source, "source_to_target": to_target, "both": (to_source + to_target) / 2}[
        direction
    ]


def slow_nt_xent(a, b, tau, group, weight):
    views = [(i, x) for i, x in enumerate(a)] + [(i, x) for i, x in enumerate(b)]
    rows, weights = [], []
    for u, (i, x) in enumerate(views):
        positive, logits = None, []
        for v, (j, y) in enumerate(views):
            if v == u:
                continue
            if i == j:
                positive = cos(x, y) / tau
            elif group is None or group[i] != group[j]:
                logits.append(cos(x, y) / tau)
        rows.append(-log_softmax([positive, *logits])[0])
        weights.append(1.0 if weight is None else weight[i])
    return weighted_mean(rows, weights)


def chosen(pairs, grouped, weighted):
    group = pairs.group if grouped else None
    weight = pairs.weight if weighted else None
    return group, weight


def numbers(x):
    return None if x is None else x.numpy()


BOTH = (False, True)


@pytest.mark.parametrize(
    ("anchors", "include_self", "grouped", "weighted", "queued"),
    list(product(["target", "source"], BOTH, BOTH, BOTH, BOTH)),
)
def test_cmd(pairs, anchors, include_self, grouped, weighted, queued):
    group, weight = chosen(pairs, grouped, weighted)
    b, queue_b = (pairs.wide, pairs.queue_wide) if anchors == "target" else (pairs.b, pairs.queue_b)
    queue = ((pairs.queue, queue_b) if anchors == "target" else pairs.queue) if queued else None
    value = cmd(
        pairs.a, b, temperature_source=0.3, temperature_target=0.5, anchors=anchors, include_self=include_self,
        group=group, weight=weight, queue=queue,
    )  # fmt: skip
    expected = slow_cmd(
        pairs.a.numpy(), b.numpy(), 0.3, 0.5, anchors, include_self, numbers(group), numbers(weight),
        (pairs.queue.numpy(), queue_b.numpy()) if queued else None,
    )  # fmt: skip
    assert value.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("direction", "grouped", "weighted", "queued"),
    [
        case
        for case in product(["both", "target_to_source", "source_to_target"], BOTH, BOTH, ["none", "source", "pair"])
        if (case[0], case[3]) != ("source_to_target", "source")  # refused, see test_refusals
    ],
)
def test_cmc(pairs, direction, grouped, weighted, queued):
    group, weight = chosen(pairs, grouped, weighted)
    queue = {"none": None, "source": pairs.queue, "pair": (pairs.queue, pairs.queue_b[:3])}[queued]
    value = cmc(pairs.a, pairs.b, temperature=0.2, direction=direction, group=group, weight=weight, queue=queue)
    expected = slow_cmc(
        pairs.a.numpy(), pairs.b.numpy(), 0.2, direction, numbers(group), numbers(weight),
        [] if queue is None else pairs.queue.numpy(), pairs.queue_b[:3].numpy() if queued == "pair" else [],
    )  # fmt: skip
    assert value.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("grouped", "weighted"), list(product(BOTH, BOTH)))
def test_nt_xent(pairs, grouped, weighted):
    group, weight = chosen(pairs, grouped, weighted)
    value = nt_xent(pairs.a, pairs.b, temperature=0.4, group=group, weight=weight)
    expected = slow_nt_xent(pairs.a.numpy(), pairs.b.numpy(), 0.4, numbers(group), numbers(weight))
    assert value.item() == pytest.approx(expected, abs=1e-12)


FUNCTIONS = {
    "cmd target": lambda a, b, **o: cmd(a, b, **o),
    "cmd target self": lambda a, b, **o: cmd(a, b, include_self=True, **o),
    "cmd source": lambda a, b, **o: cmd(a, b, anchors="source", **o),
    "cmc": lambda a, b, **o: cmc(a, b, **o),
    "nt_xent": lambda a, b, **o: nt_xent(a, b, temperature=0.3, **o),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_distinct_groups_and_unit_weights_change_nothing(pairs, name):
    function = FUNCTIONS[name]
    plain = function(pairs.a, pairs.b)
    assert torch.equal(function(pairs.a, pairs.b, group=torch.tensor([9, 4, -1, 7, 0, 2])), plain)
    weighted = function(pairs.a, pairs.b, weight=torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(weighted, plain, atol=1e-15, rtol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_permuting_the_batch_changes_nothing_permuting_b_does(pairs, name):
    function, order = FUNCTIONS[name], torch.tensor([3, 0, 5, 1, 4, 2])
    plain = function(pairs.a, pairs.b)
    torch.testing.assert_close(function(pairs.a[order], pairs.b[order]), plain, atol=1e-12, rtol=0)
    assert function(pairs.a, pairs.b[order]) > plain + 1e-3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradcheck(name):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    b = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    group = torch.tensor([0, 1, 0, 2, 3])
    assert torch.autograd.gradcheck(lambda t: FUNCTIONS[name](a, t), (b,))
    assert torch.autograd.gradcheck(lambda t: FUNCTIONS[name](a, t, group=group), (b,))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_batch_of_one_group_is_finite(pairs, name):
    """No anchor has another item to be told from; cmd without self has no candidate at all."""
    b = pairs.b.clone().requires_grad_()
    loss = FUNCTIONS[name](pairs.a, b, group=torch.zeros(6, dtype=torch.int64))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert b.grad.abs().max() < 1e-12


def test_an_anchor_without_candidates_drops_out(pairs):
    """Of four rows of one group and two others, the four compare with two, and the mean is over all that can."""
    group = torch.tensor([0, 0, 1, 1, 1, 1])
    assert cmd(pairs.a, pairs.b, group=group).item() == pytest.approx(
        slow_cmd(pairs.a.numpy(), pairs.b.numpy(), 0.07, 0.07, "target", False, group.numpy(), None, None)
    )
    assert cmd(pairs.a, pairs.b, weight=torch.zeros(6)).item() == 0


def test_cmc_is_zero_gradient_between_group_mates(pairs):
    """Two sketches of one photo do not push each other away."""
    a = torch.eye(4, dtype=torch.float64)[[0, 0, 1, 2]]
    b = a.clone().requires_grad_()
    group = torch.tensor([0, 0, 1, 2])
    with_group, without = cmc(a, b, group=group, temperature=0.05), cmc(a, b, temperature=0.05)
    assert with_group < 1e-7
    assert without > 0.3


def test_refusals(pairs):
    a, b, one = pairs.a, pairs.b, slice(0, 1)
    for call in (cmd, cmc, lambda *x: nt_xent(*x, temperature=0.1)):
        with pytest.raises(ValueError, match="at least 2 pairs"):
            call(a[one], b[one])
        with pytest.raises(ValueError, match="same pairs"):
            call(a, b[:4])
        with pytest.raises(ValueError, match=r"\(N, D\)"):
            call(a[0], b[0])
    for call in (cmc, lambda *x: cmd(*x, anchors="source"), lambda *x: nt_xent(*x, temperature=0.1)):
        with pytest.raises(ValueError, match="same width"):
            call(a, pairs.wide)
    for value in (0, -1.0, float("nan")):
        for call in (
            lambda v: cmd(a, b, temperature_source=v),
            lambda v: cmd(a, b, temperature_target=v),
            lambda v: cmc(a, b, temperature=v),
            lambda v: nt_xent(a, b, temperature=v),
        ):
            with pytest.raises(ValueError, match="must be positive"):
                call(value)
    with pytest.raises(ValueError, match="anchors"):
        cmd(a, b, anchors="both")
    with pytest.raises(ValueError, match="direction"):
        cmc(a, b, direction="up")
    with pytest.raises(ValueError, match="pair"):
        cmd(a, b, queue=pairs.queue)
    with pytest.raises(ValueError, match="one tensor"):
        cmd(a, b, anchors="source", queue=(pairs.queue, pairs.queue))
    with pytest.raises(ValueError, match="hold pairs"):
        cmd(a, b, queue=(pairs.queue, pairs.queue[:2]))
    with pytest.raises(ValueError, match="queue must be"):
        cmc(a, b, queue=pairs.queue_wide)
    with pytest.raises(ValueError, match="give a pair"):
        cmc(a, b, direction="source_to_target", queue=pairs.queue)
    with pytest.raises(ValueError, match="group must be"):
        cmc(a, b, group=torch.zeros(3))
    with pytest.raises(ValueError, match="weight must be"):
        cmd(a, b, weight=torch.ones(3))
    assert cmc(a[one], b[one], queue=pairs.queue, direction="target_to_source") > 0
    assert cmd(a[one], b[one], queue=(pairs.queue, pairs.queue_b)) > 0
