"""Statistics of the two batches: their laws or moments agree."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .operands import lift, paired, positive, similarity
from .regression import batch_norm

MMD_GAMMAS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Squared maximum mean discrepancy, biased, with a sum of seven Gaussians exp(-g d²), g = 1e-3, 1e-2, …, 1e3.

    ``mean k(a, a) + mean k(b, b) - 2 mean k(a, b)``; the rows need not be pairs, and their numbers may differ.

    Args:
        a: (N, D) source features.
        b: (M, D) target features.

    Returns:
        Scalar in [0, 14].

    Raises:
        ValueError: Shapes do not match.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(mmd(a, b).item(), 3)
        2.034

    Reference: Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012); kernel of Gulrajani and Lopez-Paz, "In Search of
    Lost Domain Generalization" (ICLR 2021).
    """
    a, b = _samples(a, b)
    return _seven(a, a).mean() + _seven(b, b).mean() - 2 * _seven(a, b).mean()


def _seven(x: Tensor, y: Tensor) -> Tensor:
    squared = _squared_distances(x, y)
    return torch.stack([torch.exp(-gamma * squared) for gamma in MMD_GAMMAS]).sum(dim=0)


def coral(a: Tensor, b: Tensor) -> Tensor:
    """Means and covariances agree: mean squared difference of the means plus that of the (N - 1) covariances.

    Args:
        a: (N, D) source features.
        b: (M, D) target features; the rows need not be pairs.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match, N = 1 or M = 1.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(coral(a, b).item(), 3)
        0.179

    Reference: Sun and Saenko, "Deep CORAL" (ECCV 2016); with the means, Gulrajani and Lopez-Paz, "In Search of Lost
    Domain Generalization" (ICLR 2021).
    """
    a, b = _samples(a, b, least=2)
    return F.mse_loss(b.mean(dim=0), a.mean(dim=0)) + F.mse_loss(_covariance(b), _covariance(a))


def cs(a: Tensor, b: Tensor, *, sigma: float) -> Tensor:
    """Cauchy-Schwarz divergence of kernel density estimates, kernel exp(-d² / (2 sigma²)).

    ``log mean k(a, a) + log mean k(b, b) - 2 log mean k(a, b)``; the rows need not be pairs.

    Args:
        a: (N, D) source features.
        b: (M, D) target features.
        sigma: Bandwidth of the kernel.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match or sigma is not positive.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(cs(a, b, sigma=1.0).item(), 3)
        0.256

    Reference: Principe, "Information Theoretic Learning" (2010); between modalities, CS-Aligner (arXiv
    2502.17028).
    """
    positive(sigma=sigma)
    a, b = _samples(a, b)
    return _log_mean_kernel(a, a, sigma) + _log_mean_kernel(b, b, sigma) - 2 * _log_mean_kernel(a, b, sigma)


def _log_mean_kernel(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """Log of the mean Gaussian kernel, finite however far the samples are apart."""
    exponents = -_squared_distances(x, y) / (2 * sigma**2)
    return torch.logsumexp(exponents.flatten(), dim=0) - torch.log(exponents.new_tensor(exponents.numel()))


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    """Variance, invariance, covariance, weighted 25, 25 and 1, on features as they are.

    25 · MSE(a, b) + 25 · mean over dimensions of relu(1 - sqrt(var + 1e-4)), averaged over both sides, + the summed
    squares of the off-diagonal covariances over D, added over both sides. Of a frozen source, its terms are constants.

    Args:
        a: (N, D) source features.
        b: (N, D) target features.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match or N = 1.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(vicreg(a, b).item(), 3)
        14.207

    Reference: Bardes et al., "VICReg: Variance-Invariance-Covariance Regularization" (ICLR 2022).
    """
    a, b = paired(a, b, least=2)
    spread = (_hinge(a) + _hinge(b)) / 2
    return 25 * F.mse_loss(b, a) + 25 * spread + _cross_covariance(a) + _cross_covariance(b)


def _hinge(x: Tensor) -> Tensor:
    return F.relu(1 - torch.sqrt(x.var(dim=0) + 1e-4)).mean()


def _cross_covariance(x: Tensor) -> Tensor:
    covariance = _covariance(x)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / x.shape[1]


def barlow_twins(a: Tensor, b: Tensor, *, off_diagonal_weight: float = 0.0051) -> Tensor:
    """The cross-correlation of batch-normalised features becomes the identity.

    With C = bn(a)^T bn(b) / N (no affine map, eps 1e-5)::

        loss = sum_k (C_kk - 1)² + off_diagonal_weight · sum_{k != l} C_kl²

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        off_diagonal_weight: Of the redundancy term.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match or N = 1.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(barlow_twins(a, b).item(), 3)
        0.028

    Reference: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction" (ICML 2021).
    """
    a, b = paired(a, b, least=2)
    correlation = similarity(batch_norm(a, eps=1e-5).T, batch_norm(b, eps=1e-5).T) / a.shape[0]
    diagonal = correlation.diagonal()
    off_diagonal = correlation.square().sum() - diagonal.square().sum()
    return (diagonal - 1).square().sum() + off_diagonal_weight * off_diagonal


def _samples(a: Tensor, b: Tensor, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Check two samples that need not be pairs."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must be (N, D) and (M, D): got {tuple(a.shape)} and {tuple(b.shape)}")
    if min(a.shape[0], b.shape[0]) < least:
        raise ValueError(f"needs at least {least} rows a side, got {a.shape[0]} and {b.shape[0]}")
    return lift(a, b), lift(b, a)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, M), never below zero; a common offset is taken away first, for it would cost digits."""
    offset = x.mean(dim=0).detach()
    x, y = x - offset, y - offset
    squares = (x * x).sum(dim=1)[:, None] + (y * y).sum(dim=1)[None, :]
    return (squares - 2 * similarity(x, y)).clamp(min=0)


def _covariance(x: Tensor) -> Tensor:
    """(D, D), divided by N - 1."""
    centred = (x - x.mean(dim=0)).T
    return similarity(centred, centred) / (x.shape[0] - 1)
