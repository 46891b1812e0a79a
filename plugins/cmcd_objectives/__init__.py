"""Distillation objectives: CMD, CMC and their rivals; ``cmcd_objectives.functional`` holds the pure formulas."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cmcd_core.plugin import ObjectivePlugin, Options, Widths, hookimpl

from . import plain_options, state_options
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


def build_seed(options: state_options.SeedOptions, widths: Widths) -> Objective:
    """SEED."""
    from .seed import Seed

    return Seed(options, widths)


def build_compress(options: state_options.CompressOptions, widths: Widths) -> Objective:
    """CompRess."""
    from .compress import Compress

    return Compress(options, widths)


def build_siglip(options: state_options.SiglipOptions, widths: Widths) -> Objective:
    """The sigmoid loss."""
    from .siglip import Siglip

    return Siglip(options, widths)


def build_crd(options: state_options.CrdOptions, widths: Widths) -> Objective:
    """Contrastive representation distillation."""
    from .crd import Crd

    return Crd(options, widths)


def build_socket(options: state_options.SocketOptions, widths: Widths) -> Objective:
    """SOCKET without labels."""
    from .socket import Socket

    return Socket(options, widths)


def build_dense_cmd(options: state_options.DenseCmdOptions, widths: Widths) -> Objective:
    """CMD among the places of a picture."""
    from .dense_cmd import DenseCmd

    return DenseCmd(options, widths)


def build_dense_plain(name: str, options: state_options.DenseOptions, widths: Widths) -> Objective:
    """An objective that compares place by place."""
    from .dense_plain import DensePlain

    return DensePlain(name, options, widths)


def build_plain(name: str, options: Options, widths: Widths) -> Objective:
    """An objective that is one formula."""
    from .plain import Plain

    return Plain(name, options, widths)


def plain_plugin(name: str, options: type[Options], summary: str) -> ObjectivePlugin[Any]:
    """Its descriptor."""
    return ObjectivePlugin(name=name, summary=summary, options=options, build=partial(build_plain, name))


@hookimpl
def cmcd_objectives() -> list[ObjectivePlugin[Any]]:
    """The objectives of this plugin."""
    return [
        ObjectivePlugin(
            name="cmd",
            summary="Cross-modality distillation: the target learns from the source who is similar to whom "
            "(arXiv 2405.03355, eq. (2), as reconstructed).",
            options=CmdOptions,
            build=build_cmd,
        ),
        ObjectivePlugin(
            name="cmc",
            summary="Cross-modality contrast: each target picks its source, and each source its target "
            "(arXiv 2405.03355, eq. (3), as reconstructed).",
            options=CmcOptions,
            build=build_cmc,
        ),
        ObjectivePlugin(
            name="nt_xent",
            summary="NT-Xent: each view picks its partner among all views of both sides (SimCLR, Chen et al. 2020).",
            options=NtXentOptions,
            build=build_nt_xent,
        ),
        ObjectivePlugin(
            name="seed",
            summary="SEED: similarities to the own source and to a queue of past sources (Fang et al. 2021).",
            options=state_options.SeedOptions,
            build=build_seed,
        ),
        ObjectivePlugin(
            name="compress",
            summary="CompRess: similarities to a queue of past pairs (Koohpayegani et al. 2020).",
            options=state_options.CompressOptions,
            build=build_compress,
        ),
        ObjectivePlugin(
            name="siglip",
            summary="SigLIP: pair or no pair, each combination by a sigmoid (Zhai et al. 2023).",
            options=state_options.SiglipOptions,
            build=build_siglip,
        ),
        ObjectivePlugin(
            name="crd",
            summary="CRD: noise-contrastive estimation against memory banks of both sides (Tian et al. 2020).",
            options=state_options.CrdOptions,
            build=build_crd,
        ),
        ObjectivePlugin(
            name="socket",
            summary="SOCKET without labels: paired features and BatchNorm statistics agree (Ahmed et al. 2022).",
            options=state_options.SocketOptions,
            build=build_socket,
        ),
        ObjectivePlugin(
            name="dense_cmd",
            summary="CMD among the places of each picture, on dense maps (LightlyTrain's local term, 2025).",
            options=state_options.DenseCmdOptions,
            build=build_dense_cmd,
        ),
        *(
            ObjectivePlugin(name=name, summary=summary, options=options, build=partial(build_dense_plain, name))
            for name, summary, options in (
                (
                    "dense_l2",
                    "Distance of unit vectors at every place of the dense maps (as ScaLR, Puy et al. 2024).",
                    state_options.DenseOptions,
                ),
                (
                    "dense_cosine",
                    "Cosine distance at every place of the dense maps (regression that no one paper owns).",
                    state_options.DenseOptions,
                ),
                (
                    "dense_cmc",
                    "CMC among sampled places of the dense maps (as PPKT's pixel-to-point contrast, Liu et al. 2021).",
                    state_options.DenseCmcOptions,
                ),
            )
        ),
        plain_plugin(
            "cwcl",
            plain_options.CwclOptions,
            "CWCL: contrast in which similar sources are partial positives (Srinivasa et al. 2023).",
        ),
        plain_plugin(
            "hint",
            plain_options.HintOptions,
            "Mean squared error of features (FitNets, Romero et al. 2015; across modalities, Gupta et al. 2016).",
        ),
        plain_plugin(
            "l2", plain_options.DirectionOptions, "Distance of unit vectors, not squared (ScaLR, Puy et al. 2024)."
        ),
        plain_plugin(
            "cosine",
            plain_options.DirectionOptions,
            "Cosine distance of features (a form of feature regression that no one paper owns).",
        ),
        plain_plugin(
            "unic", plain_options.UnicOptions, "Half cosine distance, half smooth L1 (UNIC, Sariyildiz et al. 2024)."
        ),
        plain_plugin(
            "srd",
            plain_options.SrdOptions,
            "Log of summed fourth powers of normalised differences (SRD, Miles and Mikolajczyk 2024).",
        ),
        plain_plugin(
            "vkd",
            plain_options.NoOptions,
            "Smooth L1 of an orthogonal projection to the layer-normalised source (VkD, Miles et al. 2024).",
        ),
        plain_plugin(
            "rkd", plain_options.RkdOptions, "Distances of pairs and angles of triplets agree (RKD, Park et al. 2019)."
        ),
        plain_plugin("sp", plain_options.SpOptions, "Row-normalised Gram matrices agree (SP, Tung and Mori 2019)."),
        plain_plugin(
            "pkt",
            plain_options.PktOptions,
            "Linear-kernel similarity distributions agree (PKT, Passalis and Tefas 2018).",
        ),
        plain_plugin(
            "cka", plain_options.NoOptions, "One minus linear centred kernel alignment (Kornblith et al. 2019)."
        ),
        plain_plugin(
            "mmd",
            plain_options.MmdOptions,
            "The two batches' laws agree: maximum mean discrepancy, seven Gaussians (Gretton et al. 2012).",
        ),
        plain_plugin(
            "vicreg",
            plain_options.VicregOptions,
            "Variance, invariance, covariance, 25/25/1 (VICReg, Bardes et al. 2022).",
        ),
        plain_plugin(
            "barlow_twins",
            plain_options.BarlowTwinsOptions,
            "The cross-correlation becomes the identity (Barlow Twins, Zbontar et al. 2021).",
        ),
    ]
