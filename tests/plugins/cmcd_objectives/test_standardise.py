"""Standardisation fitted on the bank."""

from __future__ import annotations

import math

import pytest
import torch
from cmcd_objectives import standardise as module
from cmcd_objectives.standardise import Standardise, cosine_basis, equalising_rotation, hadamard, phi_s

from cmcd_core import ConfigError, Features


def crowded(rows, width, seed=0):
    """All-positive, correlated features, as a convolutional network pools them."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.rand(width, width, generator=generator, dtype=torch.float64) ** 4
    return torch.rand(rows, width, generator=generator, dtype=torch.float64) @ mix + 3


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 12, 48, 64, 100, 257])
def test_phi_s_gives_every_dimension_variance_one(width):
    x = crowded(600, width)
    mean, matrix = phi_s(x)
    y = (x - mean) @ matrix.T
    torch.testing.assert_close(y.var(dim=0), torch.ones(width, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(width, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("width", [5, 8, 48])
def test_phi_s_keeps_the_shape(width):
    """W is a rotation times one number: all distances scale alike."""
    x = crowded(300, width)
    mean, matrix = phi_s(x)
    before, after = torch.pdist(x), torch.pdist((x - mean) @ matrix.T)
    ratio = after / before
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), atol=1e-10, rtol=1e-10)


def test_phi_s_of_fewer_rows_than_dimensions():
    x = crowded(10, 24)
    mean, matrix = phi_s(x)
    variance = ((x - mean) @ matrix.T).var(dim=0)
    torch.testing.assert_close(variance, torch.ones(24, dtype=torch.float64), atol=1e-10, rtol=0)


@pytest.mark.parametrize("width", [3, 6, 7, 31])
@pytest.mark.parametrize("spectrum", ["flat", "spike", "decay"])
def test_equalising_rotation_is_orthogonal(width, spectrum):
    index = torch.arange(width, dtype=torch.float64)
    variances = {"flat": torch.ones_like(index), "spike": (index == 0).double(), "decay": 0.5**index}[spectrum]
    rotation = equalising_rotation(variances)
    eye = torch.eye(width, dtype=torch.float64)
    torch.testing.assert_close(rotation @ rotation.T, eye, atol=1e-12, rtol=0)
    diagonal = (rotation * variances @ rotation.T).diagonal()
    torch.testing.assert_close(diagonal, variances.mean().expand(width), atol=1e-13, rtol=0)


def test_hadamard_and_cosine_basis():
    for width in (1, 2, 16):
        matrix = hadamard(width)
        torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, 1 / math.sqrt(width)))
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(width, dtype=torch.float64))
    for width in (3, 10):
        matrix = cosine_basis(width)
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(width, dtype=torch.float64))
        assert matrix.abs().max() <= math.sqrt(2 / width) + 1e-12


def test_center_subtracts_the_banks_mean_block_by_block(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 7)
    bank = Features(pooled=crowded(50, 6).half())
    layer = Standardise("center", 6)
    layer.fit("cmd", bank)
    assert layer(bank.pooled).dtype == torch.float32
    torch.testing.assert_close(layer(bank.pooled).mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    layer = Standardise("phi_s", 6)
    layer.fit("cmd", bank)
    torch.testing.assert_close(layer(bank.pooled).var(dim=0), torch.ones(6), atol=1e-4, rtol=0)


def test_none_needs_no_bank_and_changes_nothing():
    layer = Standardise("none", 6)
    layer.fit("cmd", None)
    x = torch.randn(3, 6)
    assert layer(x) is x
    assert not layer.state_dict()


@pytest.mark.parametrize("kind", ["center", "phi_s"])
def test_a_bank_is_needed_and_the_message_says_what_to_type(kind):
    with pytest.raises(ConfigError, match="standardise=none"):
        Standardise(kind, 4).fit("cmc", None)


def test_degenerate_banks_are_refused():
    with pytest.raises(ConfigError, match="two training pairs"):
        phi_s(torch.ones(1, 4))
    with pytest.raises(ConfigError, match="same features"):
        phi_s(torch.ones(5, 4))
