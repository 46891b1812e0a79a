"""Regression: the target's features become the source's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .candidates import row_weights, weighted_mean
from .operands import paired, unit


def hint(a: Tensor, b: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of the features as they are: mean over N and D of (a - b)².

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        weight: (N,) non-negative; the mean over pairs becomes a weighted one.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(hint(a, b).item(), 3)
        0.169

    Reference: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015); across modalities, Gupta et al., "Cross
    Modal Distillation for Supervision Transfer" (CVPR 2016).
    """
    a, b = paired(a, b)
    return weighted_mean((a - b).square().mean(dim=1), weight)


def l2(a: Tensor, b: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean distance of unit vectors, not squared: (1/N) sum_i ||a_i - b_i||.

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        weight: (N,) non-negative; the mean over pairs becomes a weighted one.

    Returns:
        Scalar in [0, 2].

    Raises:
        ValueError: Shapes do not match.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(l2(a, b).item(), 3)
        0.282

    Reference: Puy et al., "Three Pillars Improving Vision Foundation Model Distillation for Lidar" (ScaLR, CVPR 2024).
    """
    a, b = paired(a, b)
    return weighted_mean(torch.linalg.vector_norm(unit(a) - unit(b), dim=1), weight)


def cosine(a: Tensor, b: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean cosine distance: (1/N) sum_i (1 - cos(a_i, b_i)).

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        weight: (N,) non-negative; the mean over pairs becomes a weighted one.

    Returns:
        Scalar in [0, 2].

    Raises:
        ValueError: Shapes do not match.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(cosine(a, b).item(), 3)
        0.05

    Reference: feature regression by cosine, which no one paper owns; between views, Chen and He, "SimSiam" (CVPR 2021).
    """
    a, b = paired(a, b)
    return weighted_mean(1 - (unit(a) * unit(b)).sum(dim=1), weight)


def unic(a: Tensor, b: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """UNIC: half cosine distance, half smooth L1 of the features as they are.

    Args:
        a: (N, D) source features, standardised by the caller.
        b: (N, D) target features.
        weight: (N,) non-negative; the mean over pairs becomes a weighted one.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(unic(a, b).item(), 3)
        0.067

    Reference: Sariyildiz et al., "UNIC: Universal Classification Models via Multi-teacher Distillation" (ECCV 2024).
    """
    a, b = paired(a, b)
    smooth = F.smooth_l1_loss(b, a, reduction="none").mean(dim=1)
    return 0.5 * cosine(a, b, weight=weight) + 0.5 * weighted_mean(smooth, weight)


def socket(a: Tensor, b: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """SOCKET's feature term on paired data: the Frobenius norm ||a - b||_F, neither squared nor divided by N.

    Args:
        a: (N, D) source features.
        b: (N, D) target features.
        weight: (N,) non-negative; row i of the difference counts N · weight_i / sum(weight) times.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(socket(a, b).item(), 3)
        1.233

    Reference: Ahmed et al., "Cross-Modal Knowledge Transfer Without Task-Relevant Source Data" (ECCV 2022).
    """
    a, b = paired(a, b)
    difference = a - b
    if weight is not None:
        share = row_weights(a.new_ones(len(a)), weight, a)
        difference = difference * (len(a) * share).sqrt()[:, None]
    norm: Tensor = torch.linalg.vector_norm(difference)
    return norm


def srd(a: Tensor, b: Tensor) -> Tensor:
    """Simple recipe: log of the summed fourth powers of the difference, both sides batch-normalised.

    ``log sum_ik |bn(a)_ik - bn(b)_ik|^4``, with batch normalisation over the batch, without affine map, eps 1e-4.

    Args:
        a: (N, D) source features.
        b: (N, D) target features, after a linear projection to D.

    Returns:
        Scalar; minus infinity would be reached at equality, so the sum is kept from zero by the type's smallest value.

    Raises:
        ValueError: Shapes do not match or N = 1.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(srd(a, b).item(), 3)
        -1.13

    Reference: Miles and Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation" (AAAI 2024).
    """
    a, b = paired(a, b, least=2)
    difference = batch_norm(a, eps=1e-4) - batch_norm(b, eps=1e-4)
    return difference.pow(4).sum().clamp(min=torch.finfo(a.dtype).tiny).log()


def vkd(a: Tensor, b: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """VkD: smooth L1 between the target and the layer-normalised source.

    The layer normalisation has no affine map, eps 1e-5. The orthogonal projection that precedes it on the target's
    side is the caller's head.

    Args:
        a: (N, D) source features.
        b: (N, D) target features, after an orthogonal projection to D.
        weight: (N,) non-negative; the mean over pairs becomes a weighted one.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(vkd(a, b).item(), 3)
        0.32

    Reference: Miles et al., "VkD: Improving Knowledge Distillation using Orthogonal Projections" (CVPR 2024).
    """
    a, b = paired(a, b)
    smooth = F.smooth_l1_loss(b, F.layer_norm(a, a.shape[1:]), reduction="none")
    return weighted_mean(smooth.mean(dim=1), weight)


def batch_norm(x: Tensor, *, eps: float) -> Tensor:
    """(N, D): each dimension to mean 0 and variance 1 over the batch, by the biased variance."""
    return (x - x.mean(dim=0)) / torch.sqrt(x.var(dim=0, correction=0) + eps)
