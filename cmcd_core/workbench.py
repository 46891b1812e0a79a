"""What the steps of one run share: device, encoders, decoded views, seeds. Built once torch may be imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from .built import bind, built_objective, built_task, guarded
from .choices import choose
from .config import DEFAULT_SIZES, RunSection, Step
from .data.decoded import BoundModality, decode_first
from .data.seeds import seeded
from .data.views import Views, views_of
from .encoders import fixed_size, load_teacher
from .errors import ConfigError, PluginError
from .interfaces.encoder import Encoder
from .interfaces.loader import Sample, Split
from .interfaces.objective import Objective
from .interfaces.task import Task
from .plugin import LoaderOptions, Widths
from .processes import join, several
from .progress import Progress
from .resolve import Chosen, Place, Resolved
from .stages.labelled import Splits
from .started import wanted

TEACHER_SIZE = 128
Side = Literal["source", "target"]


def make_fabric(section: RunSection, note: Callable[[str], None] = lambda text: None) -> tuple[Fabric, str]:
    """Fabric of this process alone, on the device asked for, and its precision in words. torch gets as many threads as
    there are cores.

    Args:
        note: Told what the user asked for and should not have.

    Raises:
        ConfigError: The device is not there.
    """
    choice = choose(section)
    if choice.warning:
        note(choice.warning)
    if choice.threads != torch.get_num_threads():
        torch.set_num_threads(choice.threads)
    environment: Any = LightningEnvironment()  # whatever cluster this is, no other process is waited for
    fabric = Fabric(accelerator=choice.device, devices=1, precision=choice.precision, plugins=environment)
    return fabric, choice.precision


def pinned(section: RunSection) -> RunSection:
    """The same with what several processes might choose each for itself: precision by a measurement on the CPU."""
    if section.precision == "auto" and choose(section).device == "cpu":
        return section.model_copy(update={"precision": "32-true"})
    return section


def shared_fabric(section: RunSection) -> Fabric:
    """Fabric of all processes of the run, which are started if nobody has done so.

    Raises:
        ConfigError: They or their devices are not there.
    """
    choice = choose(pinned(section))
    return join(choice.device, choice.precision, wanted(section.devices))


@dataclass
class Workbench:
    """The parts of a resolved run, built; views are decoded when first asked for.

    Attributes:
        fabric: Of all processes that take steps 1 and 2 together.
        size: Side in pixels of what the target encoder sees.
        note: Receives sentences for the user, which result.json keeps.
        teachers: The pretrained source encoders that take the place of step 1.
        labelled: What :func:`~.served.task_splits` has read, by task and side: targets are read once a run.
    """

    resolved: Resolved
    fabric: Fabric
    progress: Progress
    size: int
    note: Callable[[str], None]
    _source_size: int | None = None
    teachers: tuple[Encoder, ...] = ()
    _bound: dict[tuple[Place, Side], BoundModality] = field(default_factory=dict)
    _views: dict[tuple[Place, Side, Split], Views] = field(default_factory=dict)
    labelled: dict[tuple[str, Side], Splits] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        resolved: Resolved,
        fabric: Fabric,
        progress: Progress,
        note: Callable[[str], None],
        *,
        size: int | None = None,
        source_size: int | None = None,
    ) -> Workbench:
        """The sizes are those of encoders that are there already; None: as configured, or as the data are."""
        bench = cls(resolved, fabric, progress, size or 0, note, source_size)
        bench.size = size or bench.fitting_size(DEFAULT_SIZES)
        pretrain = resolved.config.pretrain
        if "pretrain" in resolved.steps:
            modality, architecture = bench.source.modality, pretrain.teacher_architecture
            bench.teachers = tuple(load_teacher(name, architecture, modality) for name in pretrain.teacher)
        return bench

    def fitting_size(self, bounds: tuple[int, int]) -> int:
        """As configured, else the first target picture's, within bounds."""
        low, high = bounds
        if (configured := self.resolved.config.run.size) or not self.target.modality.spatial:
            return configured or high
        place, name = self.resolved.main, self.target.name
        samples = (sample for sample in place.loader.split("train") if name in sample.views)
        first = decode_first(((s.key, s.views[name]) for s in samples), self.target, on_error(place.part))
        return min(high, max(low, int(first.shape[-2]), int(first.shape[-1])))

    @property
    def source(self) -> BoundModality:
        return self.bound(self.resolved.main, "source")

    @property
    def target(self) -> BoundModality:
        return self.bound(self.resolved.main, "target")

    @cached_property
    def alone(self) -> Fabric:
        """Of this process by itself: step 3 is taken by one."""
        return make_fabric(pinned(self.resolved.config.run))[0] if several(self.fabric) else self.fabric

    @property
    def seed(self) -> int:
        return self.resolved.config.run.seed

    @cached_property
    def source_size(self) -> int:
        """Side in pixels of what the source encoder sees. A teacher gets what it was made for, else big pictures:
        each is looked at once only.

        Raises:
            ConfigError: Two teachers need different sizes.
        """
        if own := self._source_size or self.resolved.config.run.source_size:
            return own
        if not self.teachers:
            return self.size
        needed = {int(size) for teacher in self.teachers if (size := teacher.card.get("size") or fixed_size(teacher))}
        if len(needed) > 1:
            raise ConfigError(
                f"--teacher: these need {' and '.join(map(str, sorted(needed)))} px, and all see one size",
                "Set it with -o run.source_size=N, or take one teacher.",
            )
        return needed.pop() if needed else max(self.resolved.config.run.size or 0, TEACHER_SIZE)

    def seed_for(self, purpose: str) -> int:
        """An independent seed for each purpose, from the run's."""
        words = [self.seed, *purpose.encode()]
        return int(np.random.SeedSequence(words).generate_state(1)[0]) // 2

    def samples(self, step: Step, split: Split) -> Sequence[Sample]:
        """The samples of one step's data."""
        return self.resolved.places[step].loader.split(split)

    def bound(self, place: Place, side: Side) -> BoundModality:
        """A modality, built as ``place`` says; encoders fit any of a run's places.

        Raises:
            ConfigError: Its channels are not those of the main place.
        """
        if (place, side) not in self._bound:
            self._bound[place, side] = made = bind(getattr(place, side))
            first = self.bound(self.resolved.main, side)
            if made.modality.channels != first.modality.channels:
                raise ConfigError(
                    f"{side} {made.name}: {place.name} gives {made.modality.channels} channels, and "
                    f"{self.resolved.main.name} {first.modality.channels}",
                    f"Set the options of the modality yourself, under {side}.",
                )
        return self._bound[place, side]

    def views(self, step: Step, side: Side, split: Split) -> Views:
        """Decoded views of one side and split of a step's data, kept for the run."""
        place = self.resolved.places[step]
        if (place, side, split) not in self._views:
            bound, size = self.bound(place, side), self.source_size if side == "source" else self.size
            self._views[place, side, split] = self._opened(place, bound, place.loader.split(split), size, split)
        return self._views[place, side, split]

    def paired(self) -> list[Sample]:
        """Step 2's training samples that have both views."""
        both = {self.source.name, self.target.name}
        return [sample for sample in self.samples("distill", "train") if both <= sample.views.keys()]

    def part(self, side: Side, samples: Sequence[Sample], size: int) -> Views:
        """One side of some of step 2's samples alone: the rest need not be decoded."""
        place = self.resolved.places["distill"]
        return self._opened(place, self.bound(place, side), samples, size)

    def _opened(
        self, place: Place, bound: BoundModality, samples: Sequence[Sample], size: int, split: str = ""
    ) -> Views:
        return views_of(
            samples, bound, size, self.fabric.device,
            on_error=on_error(place.part), progress=self.progress, note=self.note, split=split,
        )  # fmt: skip

    def encoder(
        self, bound: BoundModality, architecture: str | None, model_args: dict[str, Any], seed: int, size: int
    ) -> Encoder:
        """A new encoder with random weights from ``seed``, labelled with where it comes from."""
        with seeded(seed):
            encoder = guarded(
                f"modality {bound.name!r}", lambda: bound.modality.encoder(architecture, None, **model_args)
            )
        if not isinstance(encoder, Encoder):
            raise PluginError(f"modality {bound.name!r}: encoder() should return a cmcd_core.Encoder")
        encoder.arguments = {"architecture": architecture, **model_args}
        encoder.card = {**card(bound), "size": size}
        return encoder

    def objective(self, chosen: Chosen, widths: Widths, seed: int) -> Objective:
        """One objective, its heads' weights from ``seed``."""
        with seeded(seed):
            return built_objective(chosen, widths)

    def tasks(self) -> list[tuple[Chosen, Task]]:
        """Every task of the run, built."""
        return [(chosen, built_task(chosen)) for chosen in self.resolved.tasks]


def on_error(part: Chosen) -> Literal["fail", "skip"]:
    """What a loader's user wants done about a file that cannot be read."""
    options = part.options
    assert isinstance(options, LoaderOptions)
    return options.on_error


def card(bound: BoundModality) -> dict[str, Any]:
    """What config.json says of an encoder's modality."""
    identity = bound.identity
    return {
        "modality": f"{identity['plugin']}:{identity['name']}",
        "options": identity["options"],
        "plugin": identity["plugin"],
        "version": identity["version"],
        "from_data": list(bound.said),
    }


def frozen(bench: Workbench, encoder: Encoder) -> Encoder:
    """On the run's device, in eval mode, without gradients."""
    moved: Encoder = encoder.to(bench.fabric.device).to(memory_format=torch.channels_last)
    return moved.eval().requires_grad_(False)


def widths(source: Encoder, target: Encoder) -> Widths:
    """What objectives' heads must fit."""
    return Widths(source=source.dim, target=target.dim, source_dense=source.dense_dim, target_dense=target.dense_dim)
