"""The modality "image": photographs and any picture that Pillow reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cmcd_core.plugin import Field, ModalityPlugin, Options, hookimpl

if TYPE_CHECKING:
    from .image import Image


class ImageOptions(Options):
    """SimCLR's colour augmentation; decoding needs no options."""

    color_jitter: float = Field(
        1.0,
        ge=0,
        le=2,
        description="Strength s of the colour jitter: brightness, contrast and saturation change by up to 0.8 s, "
        "hue by up to 0.2 s of a turn.",
    )
    jitter_probability: float = Field(0.8, ge=0, le=1, description="Share of pictures whose colours change.")
    grayscale: float = Field(0.2, ge=0, le=1, description="Share of pictures that lose their colour.")
    blur: float = Field(0.5, ge=0, le=1, description="Share of pictures that are blurred.")
    blur_sigma: float = Field(
        0.01,
        gt=0,
        le=0.1,
        description="Largest standard deviation of the blur, as a share of the picture's longer side "
        "(0.01 of 224 pixels is about SimCLR's 2 pixels).",
    )


def build(options: ImageOptions) -> Image:
    from .image import Image

    return Image(options)


@hookimpl
def cmcd_modalities() -> Iterable[ModalityPlugin[Any]]:
    return [
        ModalityPlugin(
            name="image",
            summary="Photographs: every format that Pillow reads, as RGB.",
            options=ImageOptions,
            build=build,
        )
    ]
