"""Relations between the samples of a batch, without a softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .operands import paired, similarity, unit


def rkd(a: Tensor, b: Tensor, *, distance_weight: float = 25, angle_weight: float = 50) -> Tensor:
    """Relational distillation: distances of pairs and angles of triplets agree.

    distance_weight · smooth L1 of the pairwise distances, each divided by its batch's mean positive one, plus
    angle_weight · smooth L1 of the cosines of the angles at j of all triplets (i, j, k). Memory grows with N³ unless
    angle_weight is 0.

    Args:
        a: (N, D_a) source features.
        b: (N, D_b) target features; the widths may differ.
        distance_weight: Of the distances.
        angle_weight: Of the angles.

    Returns:
        Scalar in [0, inf).

    Raises:
        ValueError: Shapes do not match or N = 1.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(rkd(a, b).item(), 3)
        0.293

    Reference: Park et al., "Relational Knowledge Distillation" (CVPR 2019).
    """
    a, b = paired(a, b, same_width=False, least=2)
    loss = b.new_zeros(())
    if distance_weight:
        loss = loss + distance_weight * F.smooth_l1_loss(_relative_distances(b), _relative_distances(a))
    if angle_weight:
        loss = loss + angle_weight * F.smooth_l1_loss(_angles(b), _angles(a))
    return loss


def _relative_distances(x: Tensor) -> Tensor:
    """(N, N) distances over their mean positive one."""
    squares = (x * x).sum(dim=1)
    # The clamp keeps the root's gradient finite at distance zero.
    squared = (squares[:, None] + squares[None, :] - 2 * similarity(x, x)).clamp(min=1e-12)
    others = ~torch.eye(x.shape[0], dtype=torch.bool, device=x.device)
    distances = squared.sqrt() * others
    positive = distances > 0
    return distances / (distances.sum() / positive.sum().clamp(min=1))


def _angles(x: Tensor) -> Tensor:
    """(N, N, N) cosines between the unit differences x_i - x_j and x_k - x_j, by [j, i, k]."""
    differences = unit(x[None, :, :] - x[:, None, :])
    return similarity(differences, differences)


def sp(a: Tensor, b: Tensor) -> Tensor:
    """Similarity preserving: row-normalised Gram matrices agree; ||G_a - G_b||_F² / N².

    Args:
        a: (N, D_a) source features.
        b: (N, D_b) target features; the widths may differ.

    Returns:
        Scalar in [0, 4 / N], unweighted (3000 is the published weight).

    Raises:
        ValueError: Shapes do not match.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(sp(a, b).item(), 3)
        0.011

    Reference: Tung and Mori, "Similarity-Preserving Knowledge Distillation" (ICCV 2019).
    """
    a, b = paired(a, b, same_width=False)
    return F.mse_loss(unit(similarity(b, b)), unit(similarity(a, a)))


def pkt(a: Tensor, b: Tensor) -> Tensor:
    """Probabilistic knowledge transfer: CMD with a linear kernel, self included, and no temperature.

    With rows at unit length, p_ij = (<a_i, a_j> + 1) / 2 normalised to sum one over j, q likewise from b, and
    eps = 1e-7::

        loss = (1/N²) sum_ij p_ij log( (p_ij + eps) / (q_ij + eps) )

    Args:
        a: (N, D_a) source features.
        b: (N, D_b) target features; the widths may differ.

    Returns:
        Scalar, non-negative up to eps, unweighted (30,000 is the published weight).

    Raises:
        ValueError: Shapes do not match.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(pkt(a, b).item(), 3)
        0.0

    Reference: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer" (ECCV 2018).
    """
    a, b = paired(a, b, same_width=False)
    p, q = _linear_kernel(unit(a)), _linear_kernel(unit(b))
    return (p * torch.log((p + 1e-7) / (q + 1e-7))).mean()


def _linear_kernel(x: Tensor) -> Tensor:
    """(N, N) cosines moved to [0, 1], rows summing to one."""
    kernel = (similarity(x, x) + 1) / 2
    return kernel / kernel.sum(dim=1, keepdim=True)


def cc(a: Tensor, b: Tensor) -> Tensor:
    """Correlation congruence in its common coded form: with d_i = |a_i - b_i|, the mean over i < N of <d_i, d_{i+1}>.

    It depends on the batch's order.

    Args:
        a: (N, D) source features.
        b: (N, D) target features.

    Returns:
        Scalar in [0, inf), unweighted (.02 is the usual weight).

    Raises:
        ValueError: Shapes do not match or N = 1.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(cc(a, b).item(), 3)
        0.3

    Reference: Peng et al., "Correlation Congruence for Knowledge Distillation" (ICCV 2019), as coded for Tian et al.,
    "Contrastive Representation Distillation" (ICLR 2020).
    """
    a, b = paired(a, b, least=2)
    gap = (a - b).abs()
    return (gap[:-1] * gap[1:]).sum(dim=1).mean()


def cka(a: Tensor, b: Tensor) -> Tensor:
    """One minus linear centred kernel alignment.

    With the columns of a and b centred: 1 - ||a^T b||_F² / (||a^T a||_F ||b^T b||_F).

    Args:
        a: (N, D_a) source features.
        b: (N, D_b) target features; the widths may differ.

    Returns:
        Scalar in [0, 1]; 0 where one is a rotation and common scaling of the other. Features that do not vary give 1.

    Raises:
        ValueError: Shapes do not match or N = 1.

    Example:
        >>> a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
        >>> b = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.5], [1.0, 0.5, 1.0]])
        >>> round(cka(a, b).item(), 3)
        0.027

    Reference: Kornblith et al., "Similarity of Neural Network Representations Revisited" (ICML 2019).
    """
    a, b = paired(a, b, same_width=False, least=2)
    gram_a, gram_b = _centred_gram(a), _centred_gram(b)
    norms: Tensor = torch.linalg.vector_norm(gram_a) * torch.linalg.vector_norm(gram_b)
    return 1 - (gram_a * gram_b).sum() / torch.where(norms > 0, norms, torch.ones_like(norms))


def _centred_gram(x: Tensor) -> Tensor:
    """(N, N): cheaper than (D, D) for batches smaller than the width, and of the same norms."""
    centred = x - x.mean(dim=0)
    return similarity(centred, centred)
