import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchmetrics import MetricCollection, R2Score

from cmcd_core import Task


class Head(nn.Linear):
    def forward(self, features):
        return super().forward(features.pooled)[:, 0]


class Explained(R2Score):
    def compute(self):
        return super().compute().clamp(0, 1)  # every metric lies in [0, 1], and higher is better


class Counting(Task):
    primary, target_name = "r2", "mask"  # one number a picture: "spatial" stays False

    def __init__(self, options):
        self.background = options.background

    def target(self, value):
        """A mask (a file, its bytes, or an array of ids) -> the share of its known pixels that is object."""
        if not isinstance(value, np.ndarray):
            value = Image.open(io.BytesIO(value) if isinstance(value, bytes) else value)
        known = (ids := np.asarray(value))[ids != 255]
        return torch.tensor((known != self.background).mean(), dtype=torch.float32)

    def stratum(self, target):
        return None  # no classes: "--labels 20" is 20 in all

    def head(self, encoder, classes):
        return Head(encoder.dim, 1)

    def loss(self, output, target):
        return F.smooth_l1_loss(output.float(), target)

    def predict(self, output):
        return {"share": output.clamp(0, 1)}

    def metrics(self, classes):
        return MetricCollection({"r2": Explained()})
