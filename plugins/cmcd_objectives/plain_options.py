"""Options of the objectives that are one formula each; light, so that they are checked without torch."""

from __future__ import annotations

from cmcd_core.plugin import Field, Options

from .options import DEFAULT_STANDARDISE, CommonHead, FittingHead, GroupAware, HeadHidden, SourceMap


class HintOptions(Options):
    """Options of hint."""

    scale: float = Field(100.0, gt=0, le=1e6, description="Factor of the loss; FitNets' usual weight is 100.")
    head_layers: FittingHead = None
    head_hidden: HeadHidden = None
    standardise: SourceMap = "phi_s"


class DirectionOptions(Options):
    """Options of l2 and cosine, which see directions only: PHI-S would change them no more than centring does."""

    head_layers: CommonHead = 1
    head_hidden: HeadHidden = None
    standardise: SourceMap = DEFAULT_STANDARDISE


class UnicOptions(Options):
    """Options of unic."""

    head_layers: CommonHead = 2
    head_hidden: HeadHidden = None
    standardise: SourceMap = "phi_s"


class MmdOptions(Options):
    """Options of mmd; its kernels have fixed widths, for which PHI-S gives the features a fitting scale."""

    head_layers: FittingHead = None
    head_hidden: HeadHidden = None
    standardise: SourceMap = "phi_s"


class VicregOptions(Options):
    """Options of vicreg; with PHI-S the source's deviations are the 1 that the variance term asks of the target."""

    head_layers: CommonHead = 1
    head_hidden: HeadHidden = None
    standardise: SourceMap = "phi_s"


class BarlowTwinsOptions(Options):
    """Options of barlow_twins, which standardises both sides itself."""

    off_diagonal_weight: float = Field(
        0.0051, ge=0, le=10, description="Weight of the redundancy between different dimensions."
    )
    head_layers: CommonHead = 1
    head_hidden: HeadHidden = None


class SrdOptions(Options):
    """Options of srd, which standardises both sides itself."""

    scale: float = Field(2.0, gt=0, le=1e6, description="Factor of the loss; torchdistill's recipe has 2.")
    head_layers: CommonHead = 1
    head_hidden: HeadHidden = None


class CwclOptions(Options):
    """Options of cwcl."""

    temperature: float = Field(0.07, ge=1e-4, le=100, description="Softmax temperature of both directions.")
    head_layers: CommonHead = 1
    head_hidden: HeadHidden = None
    group_aware: GroupAware = True
    standardise: SourceMap = DEFAULT_STANDARDISE


class RkdOptions(Options):
    """Options of rkd."""

    distance_weight: float = Field(
        25.0, ge=0, le=1e6, description="Weight of the pairs' distances, each over its batch's mean."
    )
    angle_weight: float = Field(
        50.0,
        ge=0,
        le=1e6,
        description="Weight of the triplets' angles; 0 spares memory that grows with the cubed batch.",
    )


class SpOptions(Options):
    """Options of sp."""

    scale: float = Field(3000.0, gt=0, le=1e6, description="Factor of the loss; the published weight is 3000.")
    standardise: SourceMap = "none"


class PktOptions(Options):
    """Options of pkt."""

    scale: float = Field(30_000.0, gt=0, le=1e6, description="Factor of the loss; the published weight is 30,000.")
    standardise: SourceMap = "none"


class NoOptions(Options):
    """Nothing to choose: cka compares Gram matrices, vkd's head is orthogonal by definition."""
