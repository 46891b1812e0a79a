"""The modality "sketch": line drawings and contours, drawn by people or by programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from cmcd_core.plugin import Field, ModalityPlugin, Options, hookimpl

if TYPE_CHECKING:
    from .sketch import Sketch


class SketchOptions(Options):
    """How ink is told from paper, and how drawings are varied in training."""

    polarity: Literal["auto", "dark", "light"] = Field(
        "auto",
        description="The ink's shade. dark: dark on light paper. light: light on a dark ground. auto: found for each "
        "picture. One colour on a transparent ground is ink in any case.",
    )
    thickness: float = Field(
        0.01,
        ge=0,
        le=0.05,
        description="Augmentation: strokes grow or shrink by up to this on each side, as a share of the picture's "
        "longer side. Strokes two pixels wide or less never shrink to nothing.",
    )
    gaps: float = Field(
        0.15,
        ge=0,
        le=0.5,
        description="Augmentation: largest share of the picture where strokes are broken off. Half of the ink stays.",
    )
    gap_size: float = Field(
        0.08, gt=0, le=0.5, description="Augmentation: about the length of a gap, as a share of the longer side."
    )
    jitter: float = Field(
        0.01,
        ge=0,
        le=0.1,
        description="Augmentation: standard deviation of the smooth displacement of strokes, as a share of the side.",
    )
    rotation: float = Field(4.0, ge=0, le=180, description="Augmentation: largest rotation in degrees, either way.")
    shear: float = Field(0.05, ge=0, le=0.5, description="Augmentation: largest slant, sideways per height.")


def build(options: SketchOptions) -> Sketch:
    from .sketch import Sketch

    return Sketch(options)


@hookimpl
def cmcd_modalities() -> Iterable[ModalityPlugin[Any]]:
    return [
        ModalityPlugin(
            name="sketch",
            summary="Line drawings and contours: every format that Pillow reads; dark or light ink, or transparent.",
            options=SketchOptions,
            build=build,
        )
    ]
