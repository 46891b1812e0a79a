"""The objective "huber". This module is light: options are checked before torch is imported."""

from cmcd_core.plugin import Field, ObjectivePlugin, Options, Widths, hookimpl


class HuberOptions(Options):
    delta: float = Field(1.0, gt=0, description="Differences above it count linearly, those below it squared.")


def build(options: HuberOptions, widths: Widths):
    from .huber import Huber  # torch comes in here

    return Huber(options, widths)


@hookimpl
def cmcd_objectives():
    summary = "Huber loss: the target's features, through a linear head, approach the source's."
    return [ObjectivePlugin(name="huber", summary=summary, options=HuberOptions, build=build)]
