"""Standardisation of the source's features, fitted on the training set."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cmcd_core import ConfigError, Features

from .functional.operands import lift, similarity
from .options import Standardisation

ROWS = 8192  # of the bank at a time: it may be a memory-mapped file larger than memory


class Standardise(nn.Module):
    """x -> W (x - mean); buffers, so that a saved objective keeps them.

    - ``none``: x as it is.
    - ``center``: W = 1.
    - ``phi_s``: W = R U^T / sqrt(mean eigenvalue), with U the eigenvectors of the covariance and R a rotation after
      which every dimension has variance exactly 1. All directions are scaled alike, so the shape of the
      distribution stays (Ranzinger et al., "PHI-S: Distribution Balancing for Agglomerative Models", 2024).
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, kind: Standardisation, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.width = width
        if kind != "none":
            self.register_buffer("mean", torch.zeros(width))
        if kind == "phi_s":
            self.register_buffer("matrix", torch.eye(width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D), in float32 at least."""
        if self.kind == "none":
            return x
        x = lift(x) - self.mean
        return similarity(x, self.matrix.to(x.dtype)) if self.kind == "phi_s" else x

    @torch.no_grad()
    def fit(self, name: str, bank: Features | None) -> None:
        """Fit to the source's cached features; ``name`` is the objective's, for messages."""
        if self.kind == "none":
            return
        if bank is None:
            raise ConfigError(
                f"objective.{name}.standardise={self.kind} needs the source's cached features, and there are none",
                f"Type -o objective.{name}.standardise=none",
            )
        if self.kind == "center":
            self.mean.copy_(mean_of(bank.pooled))
            return
        mean, matrix = phi_s(bank.pooled)
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)


def mean_of(x: Tensor) -> Tensor:
    """(M, D) -> (D,) in float64."""
    return torch.stack([block.sum(dim=0) for block in _blocks(x)]).sum(dim=0) / x.shape[0]


def phi_s(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and W (D, D) of PHI-S in float64, for M ≥ 2 rows; variances are those of torch.var."""
    if x.shape[0] < 2:
        raise ConfigError("standardise=phi_s needs at least two training pairs")
    mean = mean_of(x)
    covariance = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for block in _blocks(x):
        centred = block - mean
        covariance += centred.T @ centred
    eigenvalues, vectors = torch.linalg.eigh(covariance / (x.shape[0] - 1))
    eigenvalues = eigenvalues.clamp(min=0)
    scale = eigenvalues.mean()
    if not scale > 0:
        raise ConfigError("standardise=phi_s: the source gives every training item the same features")
    return mean, equalising_rotation(eigenvalues / scale) @ vectors.T / scale.sqrt()


def equalising_rotation(variances: Tensor) -> Tensor:
    """Orthogonal R with diag(R diag(variances) R^T) = their mean in every place.

    A Hadamard matrix does it for powers of two. For other widths none may exist: a cosine basis comes close, and at
    most D - 1 plane rotations, each of which sets one place to the mean exactly, do the rest.
    """
    width = variances.shape[0]
    if width & (width - 1) == 0:
        return hadamard(width)
    rotation = cosine_basis(width)
    covariance = rotation * variances @ rotation.T
    mean = variances.mean().item()
    covariance, rotation = covariance.clone(), rotation.clone()
    for _ in range(width - 1):
        diagonal = covariance.diagonal()
        low, high = int(diagonal.argmin()), int(diagonal.argmax())
        if diagonal[high] - diagonal[low] <= 1e-14 * mean:
            break
        cosine, sine = _plane_rotation(
            diagonal[low].item() - mean, diagonal[high].item() - mean, covariance[low, high].item()
        )
        turn = torch.tensor([[cosine, sine], [-sine, cosine]], dtype=torch.float64)
        rotation[[low, high]] = turn @ rotation[[low, high]]
        covariance[[low, high]] = turn @ covariance[[low, high]]
        covariance[:, [low, high]] = covariance[:, [low, high]] @ turn.T
    return rotation


def _plane_rotation(low: float, high: float, across: float) -> tuple[float, float]:
    """Cosine and sine that turn [[low, across], [across, high]], low ≤ 0 ≤ high, so that low becomes 0.

    The tangent t solves high t² + 2 across t + low = 0; of the two roots, the one without cancellation.
    """
    root = math.sqrt(max(across * across - low * high, 0.0))
    divisor = -across - math.copysign(root, across)
    tangent = low / divisor if divisor else 0.0
    cosine = 1 / math.hypot(1, tangent)
    return cosine, cosine * tangent


def hadamard(width: int) -> Tensor:
    """Sylvester's orthogonal Hadamard matrix: entries ± 1/sqrt(width), width a power of two."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while matrix.shape[0] < width:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(width)


def cosine_basis(width: int) -> Tensor:
    """The orthogonal discrete cosine transform: entries at most sqrt(2/width)."""
    place = torch.arange(width, dtype=torch.float64)
    matrix = torch.cos(math.pi / width * place[:, None] * (place[None, :] + 0.5)) * math.sqrt(2 / width)
    matrix[0] /= math.sqrt(2)
    return matrix


def _blocks(x: Tensor) -> Iterator[Tensor]:
    for start in range(0, x.shape[0], ROWS):
        yield x[start : start + ROWS].to(device="cpu", dtype=torch.float64)
