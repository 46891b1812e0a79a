from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cmcd_core import DataError, Modality


class Thermal(Modality):
    channels = 1

    def __init__(self, options):
        self.low, self.high = options.low_c, options.high_c

    def decode(self, raw):
        """A file, its bytes or an array -> (1, H, W) in °C; dead pixels (NaN) count as cold."""
        if not isinstance(raw, np.ndarray):
            data = raw if isinstance(raw, bytes) else Path(raw).read_bytes()
            raw = np.load(BytesIO(data)) if data.startswith(b"\x93NUMPY") else np.asarray(Image.open(BytesIO(data)))
        if raw.ndim != 2 or raw.dtype.itemsize < 2:
            raise DataError(f"{raw.dtype} of shape {raw.shape} is no thermal image", "Expected 16-bit or float, grey.")
        celsius = raw.astype(np.float32) if raw.dtype.kind == "f" else raw.astype(np.float32) / 100 - 273.15
        return torch.from_numpy(celsius).nan_to_num(nan=self.low)[None]

    def encode(self, batch):
        return ((batch - self.low) / (self.high - self.low)).clamp(0, 1)

    def picture(self, x):
        return super().picture(self.encode(x))
