"""A plugin that returns something else than descriptors."""

from cmcd_core.plugin import hookimpl


@hookimpl
def cmcd_tasks():
    return ["counting"]
