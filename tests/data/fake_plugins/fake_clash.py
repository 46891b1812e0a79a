"""Another distribution's plugin that offers the name "glow" too."""

from cmcd_core.plugin import ModalityPlugin, Options, hookimpl


def build(options: Options):
    raise NotImplementedError


@hookimpl
def cmcd_modalities():
    yield ModalityPlugin(name="glow", summary="The rival's.", options=Options, build=build)
