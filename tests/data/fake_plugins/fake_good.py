"""A plugin that keeps the contract: one modality and one objective."""

from cmcd_core.plugin import Field, ModalityPlugin, ObjectivePlugin, Options, hookimpl


class GlowOptions(Options):
    gain: float = Field(1.0, gt=0, description="Factor of the values.")


def build(options: GlowOptions):
    raise NotImplementedError


def build_objective(options: Options, widths):
    raise NotImplementedError


@hookimpl
def cmcd_modalities():
    return [ModalityPlugin(name="glow", summary="Light that nobody sees.", options=GlowOptions, build=build)]


@hookimpl
def cmcd_objectives():
    return [ObjectivePlugin(name="huber", summary="Huber loss.", options=Options, build=build_objective)]
