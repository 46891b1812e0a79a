"""The task "recognition": which class is it?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cmcd_core.plugin import Field, Options, TaskPlugin, hookimpl

if TYPE_CHECKING:
    from .recognition import Recognition


class RecognitionOptions(Options):
    """A linear classifier on pooled features."""

    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target's probability that is spread over all classes."
    )


def build(options: RecognitionOptions) -> Recognition:
    from .recognition import Recognition

    return Recognition(options)


@hookimpl
def cmcd_tasks() -> Iterable[TaskPlugin[Any]]:
    return [
        TaskPlugin(
            name="recognition",
            summary="Which class is it? A linear classifier on pooled features.",
            options=RecognitionOptions,
            build=build,
        )
    ]
