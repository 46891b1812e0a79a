"""SOCKET without labels, as an objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cmcd_core import Encoder, Features, Objective, Widths

from .functional import socket
from .means import Means
from .space import Space, about, require_common_width
from .state_options import SocketOptions
from .watch import Statistics, Watch, moments, norm_layers


class Socket(Objective):
    """What SOCKET (Ahmed et al., ECCV 2022) does with pairs and no labels: features and statistics agree.

    With F the pooled features, and for every BatchNorm layer l the mean and biased variance of its input over the
    target's batch against the frozen source's running ones::

        loss = feature_weight · || F_source - F_target ||_F
             + statistics_weight · sum_l c_l ( ||mean_l - running_mean_l|| + ||var_l - running_var_l|| )

    c_1 = ``first_layer_weight``, the others 1. The published method adds pseudo-labels and their entropy on unlabelled
    targets, for which it needs the source's classifier; it also starts the target from the source's weights
    (``--init source``).

    Where the two encoders' BatchNorm layers are not alike in number and widths, there is one "layer" instead: the
    pooled features, against the mean and variance of the source's cached ones (of nothing, where there are none).
    The pairs' weights count in the features' term; statistics take every pair of the batch alike.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, options: SocketOptions, widths: Widths) -> None:
        super().__init__()
        layers = int(widths.source != widths.target) if options.head_layers is None else options.head_layers
        require_common_width("socket", layers, widths)
        self.options = options
        self.space = Space("socket", widths, options.standardise, layers=layers, hidden=options.head_hidden)
        # Not saved: attach takes them from the source whenever training goes on.
        self.register_buffer("mean", torch.zeros(0), persistent=False)
        self.register_buffer("variance", torch.zeros(0), persistent=False)
        self.sizes: list[int] = []
        self.watch: Watch | None = None
        self.means = Means()

    @torch.no_grad()
    def attach(self, source: Encoder, target: Encoder, *, bank: Features | None, pairs: int, steps: int) -> None:
        """Fit the standardisation, note the source's statistics, and watch the target's layers."""
        self.space.standardise.fit("socket", bank)
        known, learning = norm_layers(source), norm_layers(target)
        alike = [layer.num_features for layer in known] == [layer.num_features for layer in learning]
        self.watch = Watch(learning) if known and alike else None
        if self.watch is not None:
            self._expect([(layer.running_mean, layer.running_var) for layer in known])  # type: ignore[misc]
        elif bank is not None:
            self._expect([moments(self.space.bank(bank))])
        else:
            self._expect([])

    def _expect(self, statistics: Sequence[Statistics]) -> None:
        self.sizes = [len(mean) for mean, _ in statistics]
        empty = [self.mean.new_zeros(0)]
        self.mean = torch.cat([*empty, *(mean.to(self.mean) for mean, _ in statistics)])
        self.variance = torch.cat([*empty, *(variance.to(self.mean) for _, variance in statistics)])

    def forward(self, source: Features, target: Features) -> Tensor:
        """Loss of a batch of pairs, whose targets the encoder has just seen."""
        a, b = self.space.source(source.pooled), self.space.target(target.pooled)
        features = socket(a, b, weight=about(source, target, group_aware=False).weight)
        seen = [moments(b)] if self.watch is None else self.watch.take()
        statistics = self._distance(seen) if seen and self.sizes else features.new_zeros(())
        layers = len(seen) if self.watch is not None else 0
        self.means.add(features=features, statistics=statistics, batchnorm_layers=float(layers))
        return self.options.feature_weight * features + self.options.statistics_weight * statistics

    def _distance(self, seen: Sequence[Statistics]) -> Tensor:
        """Weighted sum over the layers of the norms of both differences."""
        expected = zip(torch.split(self.mean, self.sizes), torch.split(self.variance, self.sizes), strict=True)
        distances = torch.stack(
            [
                torch.linalg.vector_norm(mean - to_mean) + torch.linalg.vector_norm(variance - to_variance)
                for (mean, variance), (to_mean, to_variance) in zip(seen, expected, strict=True)
            ]
        )
        if self.watch is None:
            return distances.sum()
        return distances.sum() + (self.options.first_layer_weight - 1) * distances[0]

    def embed(self, source: Features, target: Features) -> tuple[Tensor, Tensor] | None:
        """Both sides as they are compared."""
        return self.space.source(source.pooled), self.space.target(target.pooled)

    def diagnostics(self) -> Mapping[str, float]:
        """``features`` and ``statistics``, the two terms without weights; ``batchnorm_layers``, how many layers were
        matched: 0 where the encoders' layers are not alike, and the pooled features' statistics stand in."""
        return self.means.read()
