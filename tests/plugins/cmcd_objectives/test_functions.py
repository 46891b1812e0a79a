"""The other formulas against slow, obvious loops, and their refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cmcd_objectives import functional as f


def unit(x):
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def smooth_l1(x):
    return np.where(np.abs(x) < 1, 0.5 * x * x, np.abs(x) - 0.5)


def batch_norm(x, eps):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps)


def squared_distance(x, y):
    return float(((x - y) ** 2).sum())


def mean_kernel(x, y, kernel):
    return np.mean([[kernel(squared_distance(p, q)) for q in y] for p in x])


def slow_siglip(a, b, scale, bias):
    a, b = unit(a), unit(b)
    total = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            sign = 1 if i == j else -1
            total += math.log(1 + math.exp(-sign * (scale * a[i] @ b[j] + bias)))
    return total / len(a)


def slow_seed(a, b, queue, tau_a, tau_b):
    a, b, queue = unit(a), unit(b), unit(queue)
    rows = []
    for x, y in zip(a, b, strict=True):
        keys = np.vstack([x, queue])
        rows.append(-(softmax(keys @ x / tau_a) * np.log(softmax(keys @ y / tau_b))).sum())
    return np.mean(rows)


def slow_compress(a, b, queue_a, queue_b, tau):
    a, b, queue_a, queue_b = unit(a), unit(b), unit(queue_a), unit(queue_b)
    rows = []
    for x, y in zip(a, b, strict=True):
        p, q = softmax(queue_a @ x / tau), softmax(queue_b @ y / tau)
        rows.append((p * np.log(p / q)).sum())
    return np.mean(rows)


def slow_cwcl(a, b, tau):
    a, b = unit(a), unit(b)
    rows = []
    for i in range(len(a)):
        w = (a @ a[i] + 1) / 2
        rows.append(-(w * np.log(softmax(a @ b[i] / tau))).sum() / w.sum())
    return np.mean(rows)


def slow_dense_cmd(a, b, tau, include_self):
    a, b = unit(a), unit(b)
    rows = []
    for item in range(a.shape[0]):
        for t in range(a.shape[1]):
            others = [s for s in range(a.shape[1]) if include_self or s != t]
            p = softmax(a[item, others] @ a[item, t] / tau)
            q = softmax(b[item, others] @ b[item, t] / tau)
            rows.append((p * np.log(p / q)).sum())
    return np.mean(rows)


def slow_rkd(a, b, distance_weight, angle_weight):
    n = len(a)

    def distances(x):
        d = np.array([[math.sqrt(squared_distance(p, q)) for q in x] for p in x])
        return d / d[d > 0].mean()

    def angles(x):
        out = np.zeros((n, n, n))
        for j in range(n):
            for i in range(n):
                for k in range(n):
                    u, v = x[i] - x[j], x[k] - x[j]
                    size = np.linalg.norm(u) * np.linalg.norm(v)
                    out[j, i, k] = u @ v / size if size else 0
        return out

    return (
        distance_weight * smooth_l1(distances(a) - distances(b)).mean()
        + angle_weight * smooth_l1(angles(a) - angles(b)).mean()
    )


def slow_pkt(a, b):
    def kernel(x):
        k = (unit(x) @ unit(x).T + 1) / 2
        return k / k.sum(1, keepdims=True)

    p, q = kernel(a), kernel(b)
    return (p * np.log((p + 1e-7) / (q + 1e-7))).mean()


def slow_cka(a, b):
    a, b = a - a.mean(0), b - b.mean(0)
    norm = np.linalg.norm
    return 1 - norm(a.T @ b) ** 2 / (norm(a.T @ a) * norm(b.T @ b))


def slow_mmd(a, b):
    def kernel(d2):
        return sum(math.exp(-(10.0**g) * d2) for g in range(-3, 4))

    return mean_kernel(a, a, kernel) + mean_kernel(b, b, kernel) - 2 * mean_kernel(a, b, kernel)


def slow_cs(a, b, sigma):
    def log_mean(x, y):
        return math.log(mean_kernel(x, y, lambda d2: math.exp(-d2 / (2 * sigma**2))))

    return log_mean(a, a) + log_mean(b, b) - 2 * log_mean(a, b)


def slow_vicreg(a, b):
    d = a.shape[1]
    loss = 25 * ((a - b) ** 2).mean()
    for x in (a, b):
        loss += 25 / 2 * np.maximum(0, 1 - np.sqrt(x.var(0, ddof=1) + 1e-4)).mean()
        covariance = np.cov(x.T)
        loss += (covariance[~np.eye(d, dtype=bool)] ** 2).sum() / d
    return loss


def slow_barlow_twins(a, b, weight):
    c = batch_norm(a, 1e-5).T @ batch_norm(b, 1e-5) / len(a)
    own = np.eye(len(c), dtype=bool)
    return ((c[own] - 1) ** 2).sum() + weight * (c[~own] ** 2).sum()


def slow_vkd(a, b):
    normed = (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-5)
    return smooth_l1(b - normed).mean()


def slow_coral(a, b):
    return ((a.mean(0) - b.mean(0)) ** 2).mean() + ((np.cov(a.T) - np.cov(b.T)) ** 2).mean()


def slow_sp(a, b):
    return ((unit(a @ a.T) - unit(b @ b.T)) ** 2).sum() / len(a) ** 2


def slow_cc(a, b):
    gap = np.abs(a - b)
    return np.mean([gap[i] @ gap[i + 1] for i in range(len(gap) - 1)])


# name: (function of (a, b, queue), twin of the same, do the widths have to agree)
TWINS = {
    "siglip": (
        lambda a, b, q: f.siglip(a, b, scale=10, bias=-2.71),
        lambda a, b, q: slow_siglip(a, b, 10, -2.71),
        True,
    ),
    "seed": (
        lambda a, b, q: f.seed(a, b, queue=q, temperature_source=0.1, temperature_target=0.2),
        lambda a, b, q: slow_seed(a, b, q, 0.1, 0.2),
        True,
    ),
    "compress 1q": (
        lambda a, b, q: f.compress(a, b, queue=q, temperature=0.1),
        lambda a, b, q: slow_compress(a, b, q, q, 0.1),
        True,
    ),
    "compress 2q": (
        lambda a, b, q: f.compress(a, b, queue=(q, q.flip(0)), temperature=0.1),
        lambda a, b, q: slow_compress(a, b, q, q[::-1], 0.1),
        True,
    ),
    "cwcl": (lambda a, b, q: f.cwcl(a, b, temperature=0.1), lambda a, b, q: slow_cwcl(a, b, 0.1), True),
    "hint": (lambda a, b, q: f.hint(a, b), lambda a, b, q: ((a - b) ** 2).mean(), True),
    "l2": (
        lambda a, b, q: f.l2(a, b),
        lambda a, b, q: np.mean([np.linalg.norm(x - y) for x, y in zip(unit(a), unit(b), strict=True)]),
        True,
    ),
    "cosine": (lambda a, b, q: f.cosine(a, b), lambda a, b, q: np.mean(1 - (unit(a) * unit(b)).sum(1)), True),
    "unic": (
        lambda a, b, q: f.unic(a, b),
        lambda a, b, q: 0.5 * np.mean(1 - (unit(a) * unit(b)).sum(1)) + 0.5 * smooth_l1(a - b).mean(),
        True,
    ),
    "socket": (lambda a, b, q: f.socket(a, b), lambda a, b, q: math.sqrt(((a - b) ** 2).sum()), True),
    "srd": (
        lambda a, b, q: f.srd(a, b),
        lambda a, b, q: math.log(((batch_norm(a, 1e-4) - batch_norm(b, 1e-4)) ** 4).sum()),
        True,
    ),
    "vkd": (lambda a, b, q: f.vkd(a, b), lambda a, b, q: slow_vkd(a, b), True),
    "rkd": (lambda a, b, q: f.rkd(a, b), lambda a, b, q: slow_rkd(a, b, 25, 50), False),
    "sp": (lambda a, b, q: f.sp(a, b), lambda a, b, q: slow_sp(a, b), False),
    "pkt": (lambda a, b, q: f.pkt(a, b), lambda a, b, q: slow_pkt(a, b), False),
    "cc": (lambda a, b, q: f.cc(a, b), lambda a, b, q: slow_cc(a, b), True),
    "cka": (lambda a, b, q: f.cka(a, b), lambda a, b, q: slow_cka(a, b), False),
    "mmd": (lambda a, b, q: f.mmd(a, b), lambda a, b, q: slow_mmd(a, b), True),
    "coral": (lambda a, b, q: f.coral(a, b), lambda a, b, q: slow_coral(a, b), True),
    "cs": (lambda a, b, q: f.cs(a, b, sigma=1.5), lambda a, b, q: slow_cs(a, b, 1.5), True),
    "vicreg": (lambda a, b, q: f.vicreg(a, b), lambda a, b, q: slow_vicreg(a, b), True),
    "barlow_twins": (
        lambda a, b, q: f.barlow_twins(a, b),
        lambda a, b, q: slow_barlow_twins(a, b, 0.0051),
        True,
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_twin(pairs, name):
    function, twin, same_width = TWINS[name]
    for b in [pairs.b] if same_width else [pairs.b, pairs.wide]:
        value = function(pairs.a, b, pairs.queue)
        assert value.ndim == 0
        assert value.item() == pytest.approx(
            twin(pairs.a.numpy(), b.numpy(), pairs.queue.numpy()), abs=1e-12, rel=1e-10
        )


@pytest.mark.parametrize("include_self", [False, True])
def test_dense_cmd(pairs, include_self):
    a, b = pairs.a.view(2, 3, 5), pairs.wide.view(2, 3, 9)
    value = f.dense_cmd(a, b, temperature=0.3, include_self=include_self)
    with pytest.raises(ValueError, match="valid must be"):
        f.dense_cmd(a, b, temperature=0.3, valid=torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="weight must be"):
        f.dense_cmd(a, b, temperature=0.3, weight=torch.ones(7))
    assert value.item() == pytest.approx(slow_dense_cmd(a.numpy(), b.numpy(), 0.3, include_self), abs=1e-12)


@pytest.mark.parametrize("name", TWINS)
def test_gradcheck(pairs, name):
    function = TWINS[name][0]
    b = pairs.b[:5, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: function(pairs.a[:5, :4], t, pairs.queue[:, :4]), (b,))


@pytest.mark.parametrize("name", TWINS)
def test_equal_and_zero_features_have_a_finite_gradient(pairs, name):
    function = TWINS[name][0]
    for b in (pairs.a.float(), torch.zeros(6, 5)):
        b = b.clone().requires_grad_()
        loss = function(pairs.a.float(), b, pairs.queue.float())
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(b.grad).all()


@pytest.mark.parametrize(
    "name", sorted(set(TWINS) - {"srd", "siglip", "seed", "cwcl", "vicreg", "barlow_twins", "vkd", "compress 2q"})
)
def test_equal_features_cost_nothing(pairs, name):
    """Of the distances; the others have a floor of their own."""
    assert TWINS[name][0](pairs.a, pairs.a, pairs.queue).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", TWINS)
def test_refusals(pairs, name):
    function, _, same_width = TWINS[name]
    with pytest.raises(ValueError, match="must be"):
        function(pairs.a[0], pairs.b[0], pairs.queue)
    if name not in ("mmd", "coral", "cs"):  # two samples, not pairs
        with pytest.raises(ValueError, match="same pairs"):
            function(pairs.a, pairs.b[:4], pairs.queue)
    if same_width and name != "compress 2q":
        with pytest.raises(ValueError, match=r"same width|\(M, D\)"):
            function(pairs.a, pairs.wide, pairs.queue)


@pytest.mark.parametrize("name", ["cwcl", "rkd", "cc", "cka", "coral", "vicreg", "barlow_twins", "srd"])
def test_one_pair_is_refused_where_undefined(pairs, name):
    with pytest.raises(ValueError, match="at least 2"):
        TWINS[name][0](pairs.a[:1], pairs.b[:1], pairs.queue)


def test_values_out_of_range_are_refused(pairs):
    a, b, queue = pairs.a, pairs.b, pairs.queue
    for call in (
        lambda: f.seed(a, b, queue=queue, temperature_source=0, temperature_target=1),
        lambda: f.seed(a, b, queue=queue, temperature_source=1, temperature_target=-1),
        lambda: f.compress(a, b, queue=queue, temperature=0),
        lambda: f.cwcl(a, b, temperature=0),
        lambda: f.siglip(a, b, scale=0, bias=0),
        lambda: f.cs(a, b, sigma=0),
        lambda: f.dense_cmd(a[None], b[None], temperature=0),
    ):
        with pytest.raises(ValueError, match="must be positive"):
            call()
    with pytest.raises(ValueError, match="two tokens"):
        f.dense_cmd(a[:, None], b[:, None], temperature=1)
    with pytest.raises(ValueError, match=r"\(N, T, D\)"):
        f.dense_cmd(a, b, temperature=1)
    with pytest.raises(ValueError, match="hold pairs"):
        f.compress(a, b, queue=(queue, queue[:2]), temperature=1)
    with pytest.raises(ValueError, match="queue must be"):
        f.seed(a, b, queue=pairs.queue_wide, temperature_source=1, temperature_target=1)


def test_relatives_of_cmd(pairs):
    """SEED with a queue is source-anchored CMD of one pair; a cold SEED is contrast; CWCL's other half is CMC's."""
    a, b, queue = pairs.a, pairs.b, pairs.queue
    seed = f.seed(a, b, queue=queue, temperature_source=0.1, temperature_target=0.2)
    one_by_one = [
        f.cmd(a[i : i + 1], b[i : i + 1], anchors="source", temperature_source=0.1, temperature_target=0.2, queue=queue)
        for i in range(6)
    ]
    torch.testing.assert_close(seed, torch.stack(one_by_one).mean(), atol=1e-12, rtol=0)
    dense = f.dense_cmd(a[None], b[None], temperature=0.07)
    torch.testing.assert_close(dense, f.cmd(a, b) - f.cmd(a, a), atol=1e-12, rtol=0)


def test_two_samples_need_not_be_pairs(pairs):
    for function in (f.mmd, f.coral, lambda a, b: f.cs(a, b, sigma=1)):
        assert function(pairs.a, pairs.b[:4]) > 0
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        torch.testing.assert_close(function(pairs.a, pairs.b[order]), function(pairs.a, pairs.b))


def test_relational_functions_ignore_rotations_and_scales(pairs):
    turn = torch.linalg.qr(pairs.queue_wide.new_tensor(np.random.default_rng(0).normal(size=(5, 5))))[0]
    for function in (f.rkd, f.cka):
        assert function(pairs.a, 3 * pairs.a @ turn).item() == pytest.approx(0, abs=1e-12)
    for function in (f.sp, f.pkt):
        assert function(pairs.a, pairs.a @ turn).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", sorted(f.__all__))
def test_docstrings_say_what_a_user_needs_and_their_examples_run(name: str) -> None:
    import doctest

    function = getattr(f, name)
    text = function.__doc__
    for part in ("Args:", "Returns:", "Raises:", "Example:", "Reference:"):
        assert part in text, part
    [test] = doctest.DocTestFinder(recurse=False).find(function, name, globs={"torch": torch, name: function})
    told: list[str] = []
    failed, tried = doctest.DocTestRunner().run(test, out=told.append)
    assert tried == 3
    assert not failed, "".join(told)
