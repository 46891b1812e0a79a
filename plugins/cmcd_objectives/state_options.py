"""Options of the objectives that keep a state: queues, banks, learnt scales, watched layers."""

from __future__ import annotations

from typing import Literal

from cmcd_core.plugin import Field, Options

from .options import DEFAULT_STANDARDISE, CommonHead, FittingHead, GroupAware, HeadHidden, SourceMap


class SeedOptions(Options):
    """Options of seed."""

    temperature_source: float = Field(
        0.01, ge=1e-4, le=100, description="Softmax temperature of the source's similarities; its code has 1e-4."
    )
    temperature_target: float = Field(
        0.2, ge=1e-4, le=100, description="Softmax temperature of the target's similarities."
    )
    queue: int = Field(
        65_536, ge=1, le=1_048_576, description="Past source features to compare with, no more than there are pairs."
    )
    head_layers: CommonHead = 2
    head_hidden: HeadHidden = None
    group_aware: GroupAware = True
    standardise: SourceMap = DEFAULT_STANDARDISE


class CompressOptions(Options):
    """Options of compress."""

    variant: Literal["2q", "1q"] = Field(
        "2q",
        description="2q: the target is compared with past targets of the momentum encoder (published with "
        "-o distill.ema=0.999); any widths. 1q: with past sources; one space.",
    )
    temperature: float = Field(0.04, ge=1e-4, le=100, description="Softmax temperature of both sides.")
    queue: int = Field(
        128_000, ge=1, le=1_048_576, description="Past pairs to compare with, no more than there are pairs."
    )
    head_layers: int | None = Field(
        None,
        ge=0,
        le=2,
        description="Layers of the target's head to the source's width, which is dropped after distillation: "
        "0 none, 1 linear, 2 an MLP. Default: none for 2q, linear for 1q.",
    )
    head_hidden: HeadHidden = None
    group_aware: GroupAware = True
    standardise: SourceMap = DEFAULT_STANDARDISE


class SiglipOptions(Options):
    """Options of siglip."""

    scale: float = Field(10.0, gt=0, le=100, description="Factor of the cosines, at the start if it is learnt.")
    bias: float = Field(-10.0, ge=-100, le=100, description="Offset of the logits, at the start if it is learnt.")
    learnable: bool = Field(True, description="Learn scale (up to 100) and bias (within ±100).")
    head_layers: CommonHead = 1
    head_hidden: HeadHidden = None
    group_aware: GroupAware = True
    standardise: SourceMap = DEFAULT_STANDARDISE


class CrdOptions(Options):
    """Options of crd."""

    negatives: int = Field(
        16_384,
        ge=1,
        le=1_048_576,
        description="Negatives drawn a step, shared by the batch; all rows if there are fewer.",
    )
    temperature: float = Field(0.07, ge=1e-3, le=100, description="Temperature of the similarities.")
    momentum: float = Field(0.5, ge=0, lt=1, description="Share of its old value that a bank's row keeps.")
    width: int = Field(128, ge=1, le=65_536, description="Width of the common space, into which both sides are mapped.")
    scale: float = Field(0.8, gt=0, le=1e6, description="Factor of the loss; the published weight is 0.8.")
    group_aware: GroupAware = True
    standardise: SourceMap = DEFAULT_STANDARDISE


class SocketOptions(Options):
    """Options of socket."""

    feature_weight: float = Field(0.5, ge=0, le=1e6, description="Weight of the features' Frobenius norm.")
    statistics_weight: float = Field(
        0.5,
        ge=0,
        le=1e6,
        description="Weight of the BatchNorm statistics; where the encoders' BatchNorm layers are not alike, of the "
        "pooled features' mean and variance.",
    )
    first_layer_weight: float = Field(
        10.0, ge=0, le=1e6, description="Weight of the first BatchNorm layer; the others have 1."
    )
    head_layers: FittingHead = None
    head_hidden: HeadHidden = None
    standardise: SourceMap = "none"


class DenseCmdOptions(Options):
    """Options of dense_cmd."""

    temperature: float = Field(0.07, ge=1e-4, le=100, description="Softmax temperature of both sides.")
    include_self: bool = Field(
        False, description="Whether a place is its own candidate; the published form has it, and it takes most mass."
    )
    min_valid: float = Field(
        0.5, ge=0, le=1, description="Share of valid pixels that a place needs on both sides; others are left out."
    )


class DenseOptions(Options):
    """Options of dense_l2 and dense_cosine."""

    head_layers: CommonHead = 1
    standardise: SourceMap = DEFAULT_STANDARDISE
    min_valid: float = Field(
        0.5, ge=0, le=1, description="Cells with a smaller share of valid pixels (depth holes) are left out."
    )


class DenseCmcOptions(DenseOptions):
    """Options of dense_cmc."""

    temperature: float = Field(0.1, ge=1e-4, le=100, description="Softmax temperature.")
    cells: int = Field(8, ge=1, le=4096, description="Cells that are drawn of each picture, each step.")
