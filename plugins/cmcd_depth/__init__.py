"""The modality "depth": maps from depth cameras, stereo or networks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from cmcd_core.plugin import Field, ModalityPlugin, Options, hookimpl

if TYPE_CHECKING:
    from .depth import Depth

LOG_NEAR, LOG_FAR = 0.25, 10.0
"""Metres; the scale of encoding "log" where near and far say nothing."""


class DepthOptions(Options):
    """How depth is read, what the encoder sees of it, and how it is varied in training."""

    unit: Literal["auto", "mm", "m", "relative", "disparity"] = Field(
        "auto",
        description="What the values mean. auto: integers of 16 bits or more are millimetres, floats metres, "
        "8 bits relative. relative: larger is farther, without a scale. disparity: larger is nearer.",
    )
    encoding: Literal["percentile", "inverse", "log", "normals"] = Field(
        "percentile",
        description="What the encoder sees. percentile: depth, stretched for each picture (any unit). inverse: the "
        "same of 1/depth, finer nearby. log: logarithm on one scale of metres for all pictures. normals: surface "
        "normals, 3 channels.",
    )
    near: float | None = Field(
        None, gt=0, description="Metres; pixels nearer than this are missing. log: the scale's near end (0.25)."
    )
    far: float | None = Field(
        None, gt=0, description="Metres; pixels beyond this are missing. log: the scale's far end (10)."
    )
    percentiles: tuple[float, float] = Field(
        (2.0, 98.0), description="Percentiles of a picture's valid depth that become the ends of its scale."
    )
    validity: bool = Field(
        False, description="Add a channel: 1 where depth is valid. Without it valid values start at 0.1, above 0."
    )
    focal: float = Field(
        1.0, gt=0, le=20, description="normals: focal length in picture widths; more means steeper normals."
    )
    scale_jitter: float = Field(
        0.2, ge=0, le=1, description="Augmentation: each map is multiplied or divided by up to 1 + this."
    )
    hole_probability: float = Field(0.5, ge=0, le=1, description="Augmentation: share of maps that get holes.")
    hole_count: int = Field(3, ge=1, le=50, description="Augmentation: most holes in one map.")
    hole_size: float = Field(
        0.25, gt=0, le=1, description="Augmentation: largest width of a hole, as a share of the map's."
    )
    noise: float = Field(
        0.001, ge=0, le=0.1, description="Augmentation: standard deviation of noise, as a share of the depth."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles must rise within 0 to 100, not {low:g}, {high:g}")
        near, far = self.window
        if near >= far:
            defaults = f"; encoding 'log' takes {LOG_NEAR:g} and {LOG_FAR:g} where they are not given"
            said = defaults if self.encoding == "log" else ""
            raise ValueError(f"near ({near:g} m) must be less than far ({far:g} m){said}")
        if self.needs_metres and self.unit in ("relative", "disparity"):
            raise ValueError(f"near, far and encoding 'log' need metres, but the unit is {self.unit!r}")
        return self

    @property
    def window(self) -> tuple[float, float]:
        """Near and far in metres, with what they are where nothing is given."""
        near, far = (LOG_NEAR, LOG_FAR) if self.encoding == "log" else (0.0, math.inf)
        return self.near or near, self.far or far

    @property
    def needs_metres(self) -> bool:
        return self.near is not None or self.far is not None or self.encoding == "log"


def build(options: DepthOptions) -> Depth:
    from .depth import Depth

    return Depth(options)


@hookimpl
def cmcd_modalities() -> Iterable[ModalityPlugin[Any]]:
    return [
        ModalityPlugin(
            name="depth",
            summary="Depth maps: 16-bit PNG in millimetres, float TIFF, .npy; 0 is missing.",
            options=DepthOptions,
            build=build,
        )
    ]
