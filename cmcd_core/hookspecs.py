"""The four hooks. Each takes nothing and returns descriptors; none is required.

A plugin is a module (or package) named under the entry-point group ``cmcd`` of its distribution::

    [project.entry-points.cmcd]
    thermal = "cmcd_thermal"
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from .plugin import LoaderPlugin, ModalityPlugin, ObjectivePlugin, TaskPlugin

hookspec = pluggy.HookspecMarker("cmcd")


@hookspec
def cmcd_modalities() -> Iterable[ModalityPlugin[Any]]:
    """Kinds of input: how to decode, resize, augment, encode and show them.

    Example, a whole plugin::

        from cmcd_core.plugin import Field, ModalityPlugin, Options, hookimpl

        class ThermalOptions(Options):
            low_c: float = Field(-20.0, description="Temperature mapped to 0, in °C.")

        def build(options: ThermalOptions):
            from .thermal import Thermal  # torch comes in here
            return Thermal(options)

        @hookimpl
        def cmcd_modalities():
            return [ModalityPlugin(name="thermal", summary="Thermal-infrared images.",
                                   options=ThermalOptions, build=build)]
    """
    return ()


@hookspec
def cmcd_loaders() -> Iterable[LoaderPlugin[Any]]:
    """Layouts of paired data on disk.

    Example::

        from cmcd_core.plugin import LoaderOptions, LoaderPlugin, hookimpl

        class RigOptions(LoaderOptions):
            camera: str = Field("left", description="Which camera of the rig.")

        def build(options: RigOptions):
            from .rig import RigLoader
            return RigLoader(options)

        @hookimpl
        def cmcd_loaders():
            return [LoaderPlugin(name="rig", summary="Recordings of our rig.", options=RigOptions, build=build,
                                 recognises=lambda path: (path / "rig.json").is_file())]
    """
    return ()


@hookspec
def cmcd_objectives() -> Iterable[ObjectivePlugin[Any]]:
    """Distillation losses.

    Example::

        from cmcd_core.plugin import Field, ObjectivePlugin, Options, hookimpl

        class HuberOptions(Options):
            delta: float = Field(1.0, gt=0, description="Where the loss turns linear.")

        def build(options: HuberOptions, widths):
            from .huber import Huber  # a cmcd_core.Objective
            return Huber(options, widths)

        @hookimpl
        def cmcd_objectives():
            return [ObjectivePlugin(name="huber", summary="Huber loss of the features.",
                                    options=HuberOptions, build=build)]
    """
    return ()


@hookspec
def cmcd_tasks() -> Iterable[TaskPlugin[Any]]:
    """Downstream evaluations with few labels.

    Example::

        from cmcd_core.plugin import Options, TaskPlugin, hookimpl

        def build(options: Options):
            from .counting import Counting  # a cmcd_core.Task
            return Counting()

        @hookimpl
        def cmcd_tasks():
            return [TaskPlugin(name="counting", summary="How many objects?", options=Options, build=build)]
    """
    return ()
