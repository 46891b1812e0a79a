import torch.nn.functional as F
from torch import nn

from cmcd_core import Objective


class Huber(Objective):
    def __init__(self, options, widths):
        super().__init__()
        self.delta = options.delta
        self.head = nn.Linear(widths.target, widths.source)  # the core trains and saves it with the encoder

    def forward(self, source, target):
        """Mean over the batch of the loss of each pair."""
        return F.huber_loss(self.head(target.pooled), source.pooled, delta=self.delta)

    def embed(self, source, target):
        """Both sides in one space, for distances and retrieval."""
        return source.pooled, self.head(target.pooled)
