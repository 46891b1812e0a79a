"""The task "counting". This module is light: options are checked before torch is imported."""

from cmcd_core.plugin import Field, Options, TaskPlugin, hookimpl


class CountingOptions(Options):
    background: int = Field(0, ge=0, le=254, description="The mask's id of what is no object; 255 counts neither way.")


def build(options: CountingOptions):
    from .counting import Counting  # torch comes in here

    return Counting(options)


@hookimpl
def cmcd_tasks():
    summary = "Which share of a picture's pixels shows an object? One number, by a linear head."
    return [TaskPlugin(name="counting", summary=summary, options=CountingOptions, build=build)]
