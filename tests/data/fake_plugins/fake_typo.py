"""A plugin that misspells a hook."""

from cmcd_core.plugin import hookimpl


@hookimpl
def cmcd_modalites():
    return []
