"""RunConfig: the one description of a run. TOML in, TOML out; the command line only fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from .errors import ConfigError
from .explained import explain
from .grammar import Term, parse_data, parse_expression, parse_labels

SCHEMA = 1
Step = Literal["pretrain", "distill", "evaluate"]
STEPS: tuple[Step, ...] = ("pretrain", "distill", "evaluate")
"""The method's three steps, in order; each has a section of that name."""
PROTOCOLS = ("linear", "finetune", "knn", "auto")
SSL = "ssl-target"
BASELINES = ("scratch", SSL, "source", "none")
"""What an evaluation can compare with besides objectives."""
PRETRAIN_SAMPLES, DISTILL_SAMPLES = 26_000, 24_000
"""Samples seen by default in steps 1 and 2, whatever the data's size."""

MARGIN = 1.25
"""Decoded views are kept this much larger than the encoders see them, so that crops keep their detail."""

DISTILL_LR, COPY_LR = 5e-3, 5e-4
"""Peak learning rates of step 2, in general and for a copy of a teacher."""
COPY_SHARE, MASKS_COPY_SHARE = 0.5, 1 / 12
"""Of the samples that other students see, a copy of a teacher sees so many; for masks fewer and bigger ones."""

DEFAULT_SIZES, COPY_SIZES, MASKS_COPY_SIZES = (32, 64), (32, 96), (32, 160)
"""Bounds of the default picture side: bigger costs more than small encoders gain from a few thousand pairs. A copy of a
teacher was made for bigger ones than either, and masks need fine maps."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class ModalityConfig(Section):
    """``[source]`` and ``[target]``: the modality's name, and its plugin's options beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(description="Name of an installed modality.")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class DataConfig(Section):
    """``[data]``: the loader's name, and its plugin's options beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    loader: str | None = Field(None, description="Name of a loader; by default the one that recognises data.root.")

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return parse_data(str(value)) if isinstance(value, str | Path) else value

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ObjectiveConfig(Section):
    """``[objective]``: an expression such as ``cmd + 0.5*cmc``, and a table of options for each term."""

    model_config = ConfigDict(extra="allow", frozen=True)
    expression: str = Field("objectives:cmd", description="Weighted sum of objectives, such as 'cmd + 0.5*cmc'.")

    @model_validator(mode="before")
    @classmethod
    def _from_expression(cls, value: Any) -> Any:
        return {"expression": value} if isinstance(value, str) else value

    @property
    def terms(self) -> list[Term]:
        return parse_expression(self.expression)

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        return dict(self.model_extra or {})


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float | Path) else value


def _as_labels(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value := _as_list(value), list | tuple) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Decays = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], BeforeValidator(_as_list)]
Labels = Annotated[tuple[str, ...], BeforeValidator(_as_labels)]


class TaskConfig(Section):
    """``[task]``: which tasks, and a table of options for each."""

    model_config = ConfigDict(extra="allow", frozen=True)
    names: Names = Field((), description="Tasks to evaluate; by default each installed one whose target the data has.")

    @model_validator(mode="before")
    @classmethod
    def _from_names(cls, value: Any) -> Any:
        return {"names": value} if isinstance(value, str | list | tuple) else value

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        return dict(self.model_extra or {})


class PretrainConfig(Section):
    """``[pretrain]``: step 1, self-supervised contrastive training of the source (SimCLR), or a teacher instead."""

    data: DataConfig | None = Field(None, description="Where step 1's source samples are; None: [data].")
    teacher: Names = Field(
        (), description="Pretrained source encoders: timm names, folders or .safetensors files. Several: side by side."
    )
    teacher_architecture: str | None = Field(None, description="timm architecture of a .safetensors teacher.")
    architecture: str | None = Field(None, description="timm architecture of the source encoder; None: a slim ResNet.")
    model_args: dict[str, Any] = Field({}, description="Arguments of that architecture.")
    epochs: int | None = Field(None, ge=0, description="Epochs; None: about 26,000 samples seen, 13 to 100 epochs.")
    batch_size: int = Field(64, ge=2, description="Samples a step (two views of each).")
    lr: float = Field(2e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    temperature: float = Field(0.2, gt=0, description="Temperature of NT-Xent.")
    crop_min: float = Field(0.3, gt=0, le=1, description="Smallest share of the area that a crop keeps.")
    crop_size: int | None = Field(
        None, ge=16, le=1024, description="Side in pixels of step 1's crops; None: two thirds of what the source "
        "encoder sees later: half the cost, and things appear at about the size that whole pictures show."
    )  # fmt: skip
    flip: bool = Field(True, description="Mirror views left-right at random.")

    def epochs_for(self, count: int, cap: int | None) -> int:
        """Epochs for ``count`` samples; ``--epochs`` caps the default."""
        if self.epochs is not None:
            return self.epochs
        own = min(100, max(13, round(PRETRAIN_SAMPLES / max(1, count))))
        return own if cap is None else min(own, cap)


class DistillConfig(Section):
    """``[distill]``: step 2, from the frozen source into the target on unlabelled pairs."""

    data: DataConfig | None = Field(None, description="Where step 2's pairs are; None: [data].")
    student: str | None = Field(None, description="timm architecture of the target encoder; None: a slim ResNet.")
    model_args: dict[str, Any] = Field({}, description="Arguments of that architecture.")
    output_stride: Literal[8, 16, 32] | None = Field(
        None, description="Pixels between the cells of the student's last map, by dilation (timm: most residual and "
        "mobile networks); None: the architecture's own, usually 32."
    )  # fmt: skip
    init: Literal["source", "random", "auto"] = Field(
        "random", description="source: the student starts from the source's weights, as a network of its architecture "
        "unless `student` names another; auto: so where one teacher with weights from elsewhere, shown the target's "
        "pictures as they are, finds their partners, and no `student` or `model_args` asks for a network; else random."
    )  # fmt: skip
    epochs: int | None = Field(
        None, ge=0, description="Epochs; None: about 24,000 samples seen, 18 to 120 epochs; half of that for a copy of "
        "a teacher, a twelfth where masks are evaluated."
    )  # fmt: skip
    epochs_factor: float = Field(1.0, gt=0, le=100, description="So many times the epochs that None stands for.")
    batch_size: int = Field(64, ge=2, description="Pairs an optimiser step, over all processes.")
    chunk: int | None = Field(
        None, ge=2, description="Pairs that go through the target network at a time, to save memory (gradient "
        "caching): the loss and its gradient are the whole batch's, BatchNorm's statistics the chunk's. None: all."
    )  # fmt: skip
    lr: float | None = Field(
        None, gt=0, description="Peak learning rate of AdamW; None: 5e-3, or 5e-4 for a copy of a teacher (a student "
        "that starts from weights from elsewhere)."
    )  # fmt: skip
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    views: int = Field(4, ge=1, le=64, description="Fixed views of each source sample, computed once by the teacher.")
    dense_grid: int | None = Field(
        None, ge=2, le=128, description="Most cells a side on which dense maps are compared; None: the coarser map's."
    )
    dense_dims: int | None = Field(
        None, ge=2, description="Principal directions that the cache keeps of the source's dense maps; None: all."
    )
    crop_min: float = Field(0.4, gt=0, le=1, description="Smallest share of the area that a crop keeps.")
    flip: bool = Field(True, description="Mirror views left-right at random.")
    ema: float = Field(0.99, ge=0, lt=1, description="Decay of the EMA target encoder, where an objective needs one.")

    @property
    def student_args(self) -> dict[str, Any]:
        """Arguments of the student's architecture."""
        return {**self.model_args, **({"output_stride": self.output_stride} if self.output_stride else {})}

    @property
    def peak_lr(self) -> float:
        """The learning rate, of no copy."""
        return self.lr or DISTILL_LR

    def epochs_for(self, count: int) -> int:
        """Epochs for ``count`` pairs, of no copy."""
        if self.epochs is not None:
            return self.epochs
        return max(1, round(self.epochs_factor * min(120, max(18, round(DISTILL_SAMPLES / max(1, count))))))

    def for_copy(self, *, masks: bool = False) -> DistillConfig:
        """These settings for a copy of a teacher: a gentler rate, or what its weights know is lost; fewer samples."""
        factor = self.epochs_factor * (MASKS_COPY_SHARE if masks else COPY_SHARE)
        return self.model_copy(update={"lr": self.lr or COPY_LR, "epochs_factor": factor})


class EvaluateConfig(Section):
    """``[evaluate]``: step 3, with few labels of the target modality."""

    data: DataConfig | None = Field(None, description="Where step 3's labels are; None: [data].")
    encoder: Path | None = Field(None, description="An encoder's folder for `cmcd evaluate`; None: step 2's.")
    protocols: Names = Field(
        ("linear",), min_length=1,
        description="linear: a linear head on the frozen encoder; finetune: all weights; knn: nearest neighbours; "
        "auto: linear, and for masks finetune before it.",
    )  # fmt: skip
    labels: Labels = Field(
        ("5",), min_length=1, description="Label budgets: '5' is 5 a class, '10%' of the training labels."
    )
    label_draws: int = Field(10, ge=1, description="Label subsets to average over.")
    baselines: Names = Field(
        ("scratch",),
        description="scratch: the student trained on the same labels alone; ssl-target: SimCLR on the target's own "
        "views; source: the source encoder on the target as it is; or any objective instead of the run's.",
    )
    train_steps: int | None = Field(
        None, ge=1, description="Optimiser steps of a training on labels (finetune, scratch); up to 4 times that with "
        "fewer than 50 labels, and on masks. None: 80; to fine-tune a copy of a teacher on masks, 40."
    )  # fmt: skip
    train_epochs: int = Field(10, ge=1, description="Epochs of such a training at least: many labels get more steps.")
    scratch_lrs: tuple[PositiveFloat, ...] = Field(
        (3e-3, 1e-2, 3e-2), min_length=1, description="Learning rates tried for scratch on val."
    )
    finetune_lrs: tuple[PositiveFloat, ...] | None = Field(
        None, min_length=1, description="Learning rates tried for finetune on val. None: 3e-3, 1e-2 and 3e-2; for a "
        "copy of a teacher on masks, 3e-3 and 1e-2."
    )  # fmt: skip
    layer_decay: Decays | None = Field(
        None, min_length=1, description="finetune: each layer's rate over that of the next; tried on val. None: 0.75 "
        "and 1 (alike); for a copy of a teacher on masks, 1."
    )  # fmt: skip

    def protocols_for(self, *, masks: bool) -> tuple[str, ...]:
        """The protocols of one task, in order."""
        auto = ("finetune", "linear") if masks else ("linear",)
        return tuple(dict.fromkeys(one for name in self.protocols for one in (auto if name == "auto" else (name,))))

    @property
    def objectives(self) -> tuple[str, ...]:
        """The baselines that are objectives: expressions such as 'l2' or 'cmd + 0.5*cmc'."""
        return tuple(name for name in self.baselines if name not in BASELINES)

    @property
    def trained_without_labels(self) -> tuple[str, ...]:
        """The baselines that are encoders trained before step 3: objectives, and self-supervision on the target."""
        return tuple(name for name in self.baselines if name == SSL or name in self.objectives)

    @model_validator(mode="after")
    def _known(self) -> EvaluateConfig:
        for protocol in self.protocols:
            if protocol not in PROTOCOLS:
                raise ValueError(f"protocol {protocol!r}: expected {', '.join(PROTOCOLS)}")
        for expression in self.objectives:
            parse_expression(expression)
        for label in self.labels:
            parse_labels(label)
        return self


class RunSection(Section):
    """``[run]``: everything that is not the method."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of all randomness.")
    out: Path | None = Field(None, description="The run's folder; by default a new one under runs/.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    devices: int | None = Field(
        None, ge=1, le=1024, description="Processes a machine for steps 1 and 2, each with a GPU or its share of the "
        "cores; None: as many as torchrun or srun started, else 1."
    )  # fmt: skip
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="Floating-point precision; auto is 32-true on a CPU, bf16-mixed where a GPU has it."
    )
    tensorboard: bool = Field(
        False, description="Write each epoch's numbers for TensorBoard too, into the run's folder (extra tensorboard)."
    )
    size: int | None = Field(
        None, ge=16, le=1024, description="Side in pixels of what the encoders see; None: the target pictures' own, "
        "within 32 to 64; to 96 for a student that is a copy of a teacher, to 160 where masks are evaluated."
    )  # fmt: skip
    source_size: int | None = Field(
        None, ge=16, le=1024, description="Side in pixels of what the source encoder sees; None: size, or 128 for a "
        "teacher (its patch size allowing)."
    )  # fmt: skip


class RunConfig(Section):
    """A whole run. Strings stand for names: ``RunConfig(source="image", target="depth", data="folder")``."""

    source: ModalityConfig = Field(
        default_factory=lambda: ModalityConfig(name="image"), description="The rich modality, and its options."
    )
    target: ModalityConfig | None = Field(
        None, description="The modality to teach, and its options; step 1 alone needs none."
    )
    data: DataConfig = Field(
        default_factory=lambda: DataConfig(loader="datasets:demo"), description="Where the pairs are."
    )
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig, description="What step 2 minimises.")
    task: TaskConfig = Field(default_factory=TaskConfig, description="What step 3 evaluates.")
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig)
    distill: DistillConfig = Field(default_factory=DistillConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    run: RunSection = Field(default_factory=RunSection)
    plugins: dict[str, str] = Field({}, description="Versions of the plugins that a finished run used.")
    schema_: int = Field(SCHEMA, alias="schema", description="Version of this layout.")

    def data_of(self, step: Step) -> DataConfig:
        """Where one step's data are: its own, else those of the run.

        Raises:
            ConfigError: Other steps have data of their own, and this one would fall back on the demo.
        """
        own: DataConfig | None = getattr(self, step).data
        if own is None and "data" not in self.model_fields_set and any(getattr(self, s).data for s in STEPS):
            raise ConfigError(
                f"{step}.data is missing: without it and --data this step would use the embedded demo data",
                "Pass --data for the steps that have no data of their own.",
            )
        return own or self.data

    @model_validator(mode="after")
    def _known_schema(self) -> RunConfig:
        if self.schema_ > SCHEMA:
            raise ValueError(f"written by a newer cmcd (schema {self.schema_}, this one reads {SCHEMA})")
        return self

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "") -> RunConfig:
        """Validate plain data; ``where`` names the file for messages.

        Raises:
            ConfigError: One line for each thing that is wrong.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(explain(error, cls, where, between=": ")) from None

    @property
    def may_copy(self) -> bool:
        """Whether the student is to be a copy of the one teacher, if that and the target allow it."""
        distill, one = self.distill, len(self.pretrain.teacher) == 1 and self.distill.student is None
        return one and (distill.init == "source" or (distill.init == "auto" and not distill.model_args))

    def to_mapping(self) -> dict[str, Any]:
        """Plain data for TOML: nothing that is None, no output folder (a repeated run writes elsewhere)."""
        values = self.model_dump(mode="json", by_alias=True, exclude={"run": {"out"}})
        pruned = _without_none(values)
        assert isinstance(pruned, dict)
        return pruned


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
