"""A plugin whose hook fails only when its result is read."""

from cmcd_core.plugin import ModalityPlugin, Options, hookimpl


def build(options: Options):
    raise NotImplementedError


@hookimpl
def cmcd_modalities():
    yield ModalityPlugin(name="late", summary="Offered before the failure.", options=Options, build=build)
    raise RuntimeError("the sensor\nis unplugged")
