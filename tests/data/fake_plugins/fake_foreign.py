"""A modality whose encoder is no timm architecture."""

from cmcd_core.plugin import Field, ModalityPlugin, Options, hookimpl


class GlimpseOptions(Options):
    channels: int = Field(2, ge=1, le=8, description="Channels of a picture.")


def build(options: GlimpseOptions):
    import torch
    from torch import nn

    from cmcd_core import Encoder, Features, Modality

    class Flat(Encoder):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.channels, self.dim = options.channels, width
            self.layer = nn.Linear(options.channels * 4, width)
            self.norm = nn.BatchNorm1d(width)

        def forward(self, x: torch.Tensor) -> Features:
            small = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
            return Features(pooled=self.norm(self.layer(small)))

    class Glimpse(Modality):
        channels = options.channels

        def decode(self, raw):
            return torch.from_numpy(raw).float()

        def encoder(self, architecture=None, weights=None, *, width: int = 6):
            assert (architecture, weights) == (None, None)
            return Flat(width)

    return Glimpse()


@hookimpl
def cmcd_modalities():
    return [ModalityPlugin(name="glimpse", summary="Two channels.", options=GlimpseOptions, build=build)]
