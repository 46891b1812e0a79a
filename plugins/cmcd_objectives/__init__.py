"""Distillation objectives: CMD, CMC and NT-Xent; ``cmcd_objectives.functional`` holds the pure formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmcd_core.plugin import ObjectivePlugin, Widths, hookimpl

from .options import CmcOptions, CmdOptions, NtXentOptions

if TYPE_CHECKING:
    from cmcd_core import Objective


def build_cmd(options: CmdOptions, widths: Widths) -> Objective:
    """Cross-modality distillation."""
    from .cmd import Cmd

    return Cmd(options, widths)


def build_cmc(options: CmcOptions, widths: Widths) -> Objective:
    """Cross-modality contrast."""
    from .cmc import Cmc

    return Cmc(options, widths)


def build_nt_xent(options: NtXentOptions, widths: Widths) -> Objective:
    """NT-Xent."""
    from .nt_xent import NtXent

    return NtXent(options, widths)


@hookimpl
def cmcd_objectives() -> list[ObjectivePlugin[Any]]:
    """The objectives of this plugin."""
    return [
        ObjectivePlugin(
            name="cmd",
            summary="Cross-modality distillation: the target learns who is similar to whom from the source.",
            options=CmdOptions,
            build=build_cmd,
        ),
        ObjectivePlugin(
            name="cmc",
            summary="Cross-modality contrast: each target picks its source, and each source its target.",
            options=CmcOptions,
            build=build_cmc,
        ),
        ObjectivePlugin(
            name="nt_xent",
            summary="NT-Xent: each view picks its partner among all views of both sides.",
            options=NtXentOptions,
            build=build_nt_xent,
        ),
    ]
