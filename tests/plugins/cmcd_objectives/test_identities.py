"""What theory says about CMD and CMC, exactly."""

from __future__ import annotations

import math

import pytest
import torch
from cmcd_objectives.functional import cmc, cmd, nt_xent
from cmcd_objectives.functional.similarity_distillation import cmd_terms
from hypothesis import given, settings
from hypothesis import strategies as st


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def rotation(d, seed=1):
    return torch.linalg.qr(randn(d, d, seed=seed))[0]


def distributions(a, b, tau_a=0.07, tau_b=0.07):
    """p and q of target anchors, self excluded, the diagonal 0."""
    own = torch.eye(a.shape[0], dtype=torch.bool)
    p = (unit(a) @ unit(a).T / tau_a).masked_fill(own, -torch.inf).softmax(1)
    q = (unit(b) @ unit(b).T / tau_b).masked_fill(own, -torch.inf).softmax(1)
    return p, q


def test_equal_sides_give_the_entropy_and_no_gradient():
    a = randn(8, 6)
    b = (2.5 * a).requires_grad_()
    loss = cmd(a, b)
    loss.backward()
    p, _ = distributions(a, a)
    entropy = -(p * p.clamp(min=1e-300).log()).sum(1).mean()
    torch.testing.assert_close(loss.detach(), entropy, atol=1e-12, rtol=0)
    assert b.grad.abs().max() < 1e-13


def test_loss_is_entropy_plus_divergence_and_never_below_entropy():
    a, b = randn(8, 6), randn(8, 3, seed=4)
    p, q = distributions(a, b)
    own = torch.eye(8, dtype=torch.bool)
    kl = (p * (p.log() - q.log())).masked_fill(own, 0).sum(1).mean()
    terms = cmd_terms(a, b)
    torch.testing.assert_close(terms.loss, terms.entropy + kl, atol=1e-12, rtol=0)
    assert terms.loss > terms.entropy


def test_gradient_formula_of_target_anchors():
    """dL/db_i = (1 / N tau) sum_j [(q_ij - p_ij) + (q_ji - p_ji)] b_j, then the Jacobian of the normalisation."""
    a, b, tau = randn(7, 5), unit(randn(7, 5, seed=2)), 0.1
    b.requires_grad_()
    cmd(a, b, temperature_source=0.2, temperature_target=tau).backward()
    p, q = distributions(a, b.detach(), 0.2, tau)
    raw = ((q - p) + (q - p).T) @ b.detach() / (7 * tau)
    projected = raw - (raw * b.detach()).sum(1, keepdim=True) * b.detach()
    torch.testing.assert_close(b.grad, projected, atol=1e-14, rtol=0)


def test_gradient_formula_in_the_logits():
    """With orthonormal sources, logits are the scaled coordinates of b: dL/dlogit_ij = (q_ij - p_ij) / N."""
    a = torch.eye(5, dtype=torch.float64)
    b = unit(randn(5, 5, seed=2)).requires_grad_()
    cmd(a, b, anchors="source", temperature_source=0.5, temperature_target=0.2).backward()
    p, q = (a / 0.5).softmax(1), (b.detach() / 0.2).softmax(1)
    raw = (q - p) / 5 / 0.2
    projected = raw - (raw * b.detach()).sum(1, keepdim=True) * b.detach()
    torch.testing.assert_close(b.grad, projected, atol=1e-14, rtol=0)


def test_rotation_invariance_of_target_anchors_only():
    a, b = randn(8, 6), randn(8, 6, seed=2)
    turned = b @ rotation(6).T
    torch.testing.assert_close(cmd(a, turned), cmd(a, b), atol=1e-12, rtol=0)
    assert abs(cmd(a, turned, anchors="source") - cmd(a, b, anchors="source")) > 0.1
    assert abs(cmc(a, turned) - cmc(a, b)) > 0.1


def test_a_rotated_teacher_is_a_minimum_of_cmd_and_not_of_cmc():
    a = randn(8, 6)
    b = (a @ rotation(6).T).requires_grad_()
    loss = cmd(a, b)
    loss.backward()
    assert b.grad.abs().max() < 1e-13
    torch.testing.assert_close(loss.detach(), cmd(a, a), atol=1e-12, rtol=0)
    assert cmc(a, b) > cmc(a, a) + 1


def test_source_anchors_with_a_cold_source_are_contrast():
    a, b = randn(8, 6), randn(8, 6, seed=2)
    cold = cmd(a, b, anchors="source", temperature_source=1e-4, temperature_target=0.2)
    torch.testing.assert_close(cold, cmc(a, b, temperature=0.2, direction="target_to_source"), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("include_self", "count"), [(False, 7), (True, 8)])
def test_a_collapsed_target_costs_log_of_the_candidates(include_self, count):
    collapsed = randn(1, 5).expand(8, 5)
    loss = cmd(randn(8, 6), collapsed, include_self=include_self)
    assert loss.item() == pytest.approx(math.log(count), abs=1e-12)


def test_closed_forms_of_contrast():
    n, tau = 6, 0.5
    same = randn(1, 8).expand(n, 8)
    assert cmc(same, same, temperature=tau).item() == pytest.approx(math.log(n), abs=1e-12)
    assert nt_xent(same, same, temperature=tau).item() == pytest.approx(math.log(2 * n - 1), abs=1e-12)
    axes = torch.eye(2 * n, dtype=torch.float64)
    assert cmc(axes[:n], axes[n:], temperature=tau).item() == pytest.approx(math.log(n), abs=1e-12)
    aligned = math.log(1 + (n - 1) * math.exp(-1 / tau))
    assert cmc(axes[:n], axes[:n], temperature=tau).item() == pytest.approx(aligned, abs=1e-12)
    simplex = torch.eye(n, dtype=torch.float64) - 1 / n
    minimum = math.log(1 + (n - 1) * math.exp(-(n / (n - 1)) / tau))
    assert cmc(simplex, simplex, temperature=tau).item() == pytest.approx(minimum, abs=1e-12)
    assert minimum < aligned


def test_both_directions_are_averaged():
    a, b = randn(8, 6), randn(8, 6, seed=2)
    halves = [cmc(a, b, direction=d) for d in ("target_to_source", "source_to_target")]
    torch.testing.assert_close(cmc(a, b), sum(halves) / 2, atol=1e-14, rtol=0)
    torch.testing.assert_close(cmc(b, a, direction="target_to_source"), halves[1], atol=1e-14, rtol=0)


features = st.tuples(st.integers(2, 9), st.integers(1, 6), st.integers(0, 10_000))


@settings(max_examples=40)
@given(features, st.floats(0.02, 5))
def test_pinsker_certificate(shape, tau):
    n, d, seed = shape
    a, b = randn(n, d, seed=seed), randn(n, d, seed=seed + 1)
    terms = cmd_terms(a, b, temperature_source=tau, temperature_target=tau)
    p, q = distributions(a, b, tau, tau)
    variation = 0.5 * (p - q).abs().sum(1).mean()
    assert variation <= math.sqrt(max((terms.loss - terms.entropy).item(), 0) / 2) + 1e-9


@settings(max_examples=40)
@given(features, st.floats(1e-2, 1e2))
def test_scale_does_not_matter_and_range_holds(shape, scale):
    n, d, seed = shape
    a, b = randn(n, d, seed=seed), randn(n, d, seed=seed + 1)
    for function in (cmd, cmc, lambda x, y: cmd(x, y, anchors="source")):
        torch.testing.assert_close(function(a, scale * b), function(a, b), atol=1e-9, rtol=1e-9)
        assert function(a, b) >= 0


@settings(max_examples=30)
@given(st.integers(2, 8), st.integers(0, 10_000), st.floats(1, 1e4), st.booleans())
def test_finite_in_float32_at_low_temperature(n, seed, scale, zero):
    a, b = randn(n, 7, seed=seed).float(), scale * randn(n, 7, seed=seed + 1).float()
    if zero:
        b[0] = 0
    b.requires_grad_()
    cold = {"temperature_source": 1e-3, "temperature_target": 1e-3}
    for loss in (
        cmd(a, b, **cold),
        cmd(a, b, anchors="source", **cold),
        cmd(a, b, group=torch.arange(n) // 2, **cold),
        cmc(a, b, temperature=1e-3),
        nt_xent(a, b, temperature=1e-3),
    ):
        (gradient,) = torch.autograd.grad(loss, b)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_half_precision_is_lifted():
    a, b = randn(8, 6).bfloat16(), randn(8, 6, seed=2).bfloat16()
    for function in (cmd, cmc):
        torch.testing.assert_close(function(a, b), function(a.float(), b.float()))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(function(a.float(), b.float()), function(a.float(), b.float()).float())
            inside = function(a.float(), b)
        torch.testing.assert_close(inside, function(a.float(), b.float()))


def test_a_linear_student_at_a_random_rotation():
    """CMD with target anchors never finds the rotation, so that retrieval fails; contrast finds it."""
    source = randn(64, 8).float()
    recall = {}
    for name, loss in {"cmd": cmd, "cmc": cmc}.items():
        student = rotation(8, seed=5).float().clone().requires_grad_()
        optimiser = torch.optim.Adam([student], lr=1e-2)
        for _ in range(600):
            optimiser.zero_grad()
            loss(source, source @ student.T).backward()
            optimiser.step()
        best = (unit(source @ student.detach().T) @ unit(source).T).argmax(1)
        recall[name] = (best == torch.arange(64)).float().mean().item()
    assert recall["cmc"] == 1.0
    assert recall["cmd"] <= 0.05
