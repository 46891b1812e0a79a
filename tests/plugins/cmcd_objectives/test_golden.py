"""Values of the reference implementations on fixed inputs."""

from __future__ import annotations

import pytest
import torch
from cmcd_objectives import functional as f

GOLDEN = {
    "cmc": (0.30895274946582474, lambda v: f.cmc(v.A, v.B, temperature=0.07)),
    "cmc scaled inputs": (0.30895274946582474, lambda v: f.cmc(3 * v.X, 0.2 * v.Y)),
    "cmd": (0.1667974601986938, lambda v: f.cmd(v.A, v.B)),
    "cmd source anchors": (
        0.18780549624317908,
        lambda v: f.cmd(v.A, v.B, anchors="source", temperature_source=0.07, temperature_target=0.07),
    ),
    "cmd self included": (
        1.9860823887037902,
        lambda v: f.cmd(v.A, v.B, include_self=True, temperature_source=1.0, temperature_target=1.0),
    ),
    "seed": (
        1.1438302701957306,
        lambda v: f.seed(v.A, v.B, queue=torch.cat([v.Q, -v.Q]), temperature_source=0.01, temperature_target=0.2),
    ),
    "rkd distances": (
        0.00490187838826995,
        lambda v: f.rkd(v.X, v.Y, distance_weight=1, angle_weight=0),
    ),
    "sp": (0.024382055488765327, lambda v: f.sp(v.X, v.Y)),
    "hint": (0.3495587813775829, lambda v: f.hint(v.X, v.Y)),
    "cosine": (0.3047955120399949, lambda v: f.cosine(v.A, v.B)),
    "vicreg": (16.65000174125484, lambda v: f.vicreg(v.X, v.Y)),
    "nt_xent": (1.5781404710538074, lambda v: f.nt_xent(v.A, v.B, temperature=0.5)),
    "cka": (1 - 0.9114204545643432, lambda v: f.cka(v.X, v.Y)),
}


def test_inputs(fixed):
    assert fixed.A[0, 0].item() == pytest.approx(0.3123359081080991, abs=1e-12)
    assert fixed.B[7, 15].item() == pytest.approx(0.18364431079777022, abs=1e-12)
    assert fixed.Q[11, 15].item() == pytest.approx(-0.3386406430548389, abs=1e-12)
    assert (fixed.A * fixed.B).sum(1).mean().item() == pytest.approx(0.6952044879600052, abs=1e-12)


@pytest.mark.parametrize("name", GOLDEN)
def test_float64(fixed, name):
    expected, compute = GOLDEN[name]
    assert compute(fixed).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", GOLDEN)
def test_float32(fixed, name):
    expected, compute = GOLDEN[name]
    narrow = type(fixed)(**{key: value.float() for key, value in vars(fixed).items()})
    value = compute(narrow)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_own_similarities_swamp_the_entropy(fixed):
    """At .07 with self included, hardly any uncertainty is left to distil: the reason for leaving self out."""
    loss = f.cmd(fixed.A, fixed.A, include_self=True)
    assert loss.item() == pytest.approx(0.0215, abs=5e-5)


def test_self_included_equals_clip_distillation(fixed):
    """Cross-entropy between the two Gram matrices, as CLIP distillation has it."""
    assert f.cmd(fixed.A, fixed.B, include_self=True).item() == pytest.approx(0.031431647038, abs=1e-11)
    p = (fixed.A @ fixed.A.T / 0.07).softmax(1)
    expected = -(p * (fixed.B @ fixed.B.T / 0.07).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(f.cmd(fixed.A, fixed.B, include_self=True), expected, atol=1e-12, rtol=0)
