"""Options of the objectives; light, so that they are checked and documented without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from cmcd_core.plugin import Field, Options

Standardisation = Literal["none", "center", "phi_s"]

# Pooled features of convolutional networks are all positive: raw, every cosine crowds at 1.
DEFAULT_STANDARDISE: Standardisation = "center"

QueueSize = Annotated[int, Field(ge=0, le=1_048_576)] | Literal["bank"]

HeadHidden = Annotated[
    int | None,
    Field(ge=1, le=65_536, description="Hidden width of a head of two layers. Default: the target's width."),
]
GroupAware = Annotated[
    bool,
    Field(description="Pairs that share one source item (five sketches of one photo) are no negatives of each other."),
]
CommonHead = Annotated[
    int,
    Field(
        ge=0,
        le=2,
        description="Layers of the target's head to the source's width, which is dropped after distillation: "
        "0 none, 1 linear, 2 an MLP.",
    ),
]
FittingHead = Annotated[
    int | None,
    Field(
        ge=0,
        le=2,
        description="Layers of the target's head to the source's width, which is dropped after distillation: 0 none, "
        "1 linear, 2 an MLP. Default: none where the widths agree, else linear.",
    ),
]
SourceMap = Annotated[
    Standardisation,
    Field(
        description="What is done to the source's features first, fitted on the training set: nothing, subtracting "
        "the mean, or PHI-S (mean 0 and variance 1 in every dimension, by a rotation and one common scale). "
        "Without a head, the target's features get the same map.",
    ),
]


class CmdOptions(Options):
    """Options of cross-modality distillation."""

    # The paper most likely means target anchors; source anchors measured 8 to 10 points better on validation splits
    # (demo and hand-shape depth, few labels), and they alone give a space that both modalities share.
    anchors: Literal["target", "source"] = Field(
        "source",
        description="What the target's features are compared with: the source's (as self-supervised distillation "
        "does; retrieval across modalities works), or each other (any widths; the paper's likely form; the space is "
        "fixed up to a rotation only).",
    )
    include_self: bool | None = Field(
        None,
        description="Whether an anchor is its own candidate. Default: no for target anchors, yes for source anchors.",
    )
    temperature_source: float | None = Field(
        None,
        ge=1e-4,
        le=100,
        description="Softmax temperature of the source's similarities. "
        "Default: 0.07 for target anchors, 0.01 for source anchors.",
    )
    temperature_target: float | None = Field(
        None,
        ge=1e-4,
        le=100,
        description="Softmax temperature of the target's similarities. "
        "Default: 0.07 for target anchors, 0.2 for source anchors.",
    )
    learnable_temperature: bool = Field(
        False, description="Learn temperature_target, from its value on, never below 0.01."
    )
    head_layers: int | None = Field(
        None,
        ge=0,
        le=2,
        description="Layers of the target's head, which is dropped after distillation: 0 none, 1 linear, 2 an MLP. "
        "Default: 2 for target anchors, 1 for source anchors.",
    )
    head_width: int | None = Field(
        None, ge=1, le=65_536, description="Output width of the head. Default: the source's width."
    )
    head_hidden: HeadHidden = None
    queue: QueueSize = Field(
        0,
        description="Further candidates: how many past pairs to keep, no more than there are (0: none; target anchors "
        'then need the momentum encoder), or "bank", all of the source\'s training features (source anchors only).',
    )
    group_aware: GroupAware = True
    standardise: Standardisation = Field(
        DEFAULT_STANDARDISE,
        description="What is done to the source's features first, fitted on the training set: nothing, subtracting "
        "the mean, or PHI-S (mean 0 and variance 1 in every dimension, by a rotation and one common scale). "
        "Without a head, the target's features get the same map where the widths agree.",
    )


class CmcOptions(Options):
    """Options of cross-modality contrast."""

    direction: Literal["both", "target_to_source", "source_to_target"] = Field(
        "both", description="Who picks: each target its source, each source its target, or both."
    )
    temperature: float = Field(0.07, ge=1e-4, le=100, description="Softmax temperature.")
    learnable_temperature: bool = Field(
        False, description="Learn the temperature, from its value on, never below 0.01."
    )
    head_layers: CommonHead = 1
    head_hidden: HeadHidden = None
    queue: QueueSize = Field(
        0,
        description="Further source features for the targets to pick from: how many past ones to keep, no more than "
        'there are pairs (0: none), or "bank", all of the training set.',
    )
    group_aware: GroupAware = True
    standardise: SourceMap = DEFAULT_STANDARDISE


class NtXentOptions(Options):
    """Options of NT-Xent."""

    temperature: float = Field(0.2, ge=1e-4, le=100, description="Softmax temperature.")
    head_layers: FittingHead = None
    head_hidden: HeadHidden = None
    group_aware: GroupAware = True
    standardise: SourceMap = "none"
