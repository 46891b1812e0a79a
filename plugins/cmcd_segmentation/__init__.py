"""The task "segmentation": which class is each pixel?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from cmcd_core.plugin import Field, Options, TaskPlugin, hookimpl

if TYPE_CHECKING:
    from .segmentation import Segmentation


class SegmentationOptions(Options):
    """A 1×1 classifier on the encoder's maps; for fine-tuning, a small decoder over its pyramid."""

    ignore: int = Field(255, ge=0, le=255, description="The class id of pixels that count neither way.")
    balance: Literal["none", "sqrt", "inverse"] = Field(
        "none",
        description="Weigh each pixel's loss by its class's share of the batch: 'sqrt' by 1/√share, 'inverse' by "
        "1/share (rare classes count as much as common ones); 'none' by 1.",
    )
    levels: Literal["pyramid", "dense"] = Field(
        "pyramid",
        description="What the linear head reads: 'pyramid' is each of the encoder's stages from stride 4 on, each "
        "through a 1×1 layer of its own; 'dense' is the last map alone.",
    )
    width: int = Field(64, ge=8, le=512, description="Channels of the decoder that fine-tuning trains.")


def build(options: SegmentationOptions) -> Segmentation:
    from .segmentation import Segmentation

    return Segmentation(options)


@hookimpl
def cmcd_tasks() -> Iterable[TaskPlugin[Any]]:
    return [
        TaskPlugin(
            name="segmentation",
            summary="Which class is each pixel? Linear on frozen maps, or a small decoder.",
            options=SegmentationOptions,
            build=build,
        )
    ]
