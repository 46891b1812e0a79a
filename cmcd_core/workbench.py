"""What the steps of one run share: device, encoders, decoded views, seeds. Built once torch may be imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric

from .config import DEFAULT_SIZES, RunSection
from .data.decoded import BoundModality, decode_first, decode_views
from .data.seeds import seeded
from .data.views import Views
from .errors import CmcdError, ConfigError, PluginError
from .interfaces.encoder import Encoder
from .interfaces.loader import Sample, Split
from .interfaces.modality import Modality
from .interfaces.objective import Objective
from .interfaces.task import Task
from .plugin import LoaderOptions, Widths
from .progress import Progress
from .resolve import Chosen, Resolved

TEACHER_SIZE = 128


def make_fabric(section: RunSection) -> tuple[Fabric, str]:
    """Fabric on the device asked for, and its precision in words.

    Raises:
        ConfigError: The device is not there.
    """
    device = section.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not there[device]:
        raise ConfigError(f"--device {device}: torch finds no such device here", "Use --device auto or cpu.")
    precision = section.precision
    if precision == "auto":
        precision = "bf16-mixed" if device == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
    return Fabric(accelerator=device, devices=1, precision=precision), precision


@dataclass
class Workbench:
    """The parts of a resolved run, built; views are decoded when first asked for."""

    resolved: Resolved
    fabric: Fabric
    progress: Progress
    source: BoundModality
    target: BoundModality
    _views: dict[tuple[str, str], Views] = field(default_factory=dict)

    @classmethod
    def of(cls, resolved: Resolved, fabric: Fabric, progress: Progress) -> Workbench:
        return cls(resolved, fabric, progress, _bind(resolved.source), _bind(resolved.target))

    @property
    def seed(self) -> int:
        return self.resolved.config.run.seed

    @cached_property
    def size(self) -> int:
        """Side in pixels of what the target encoder sees: as configured, else the first picture's, within bounds."""
        low, high = DEFAULT_SIZES
        if (configured := self.resolved.config.run.size) or not self.target.modality.spatial:
            return configured or high
        samples = (s for s in self.samples("train") if self.target.name in s.views)
        first = decode_first(((s.key, s.views[self.target.name]) for s in samples), self.target, self.on_error)
        return min(high, max(low, int(first.shape[-2]), int(first.shape[-1])))

    @property
    def on_error(self) -> Literal["fail", "skip"]:
        options = self.resolved.loader_part.options
        assert isinstance(options, LoaderOptions)
        return options.on_error

    @property
    def source_size(self) -> int:
        """A pretrained teacher gets bigger pictures: each is looked at once only."""
        own, teacher = self.resolved.config.run.source_size, self.resolved.config.pretrain.teacher
        return own or (max(self.size, TEACHER_SIZE) if teacher else self.size)

    def seed_for(self, purpose: str) -> int:
        """An independent seed for each purpose, from the run's."""
        words = [self.seed, *purpose.encode()]
        return int(np.random.SeedSequence(words).generate_state(1)[0]) // 2

    def samples(self, split: Split) -> Any:
        return self.resolved.loader.split(split)

    def views(self, side: Literal["source", "target"], split: Split) -> Views:
        """Decoded views of one side and split, kept for the run."""
        bound, size = (self.source, self.source_size) if side == "source" else (self.target, self.size)
        if (side, split) not in self._views:
            samples: list[Sample] = self.samples(split)
            decoded = decode_views(
                samples,
                bound,
                size,
                on_error=self.on_error,
                progress=self.progress,
                title=f"decode {bound.name}, {split}",
            )
            for message in decoded.skipped:
                self.progress.note(f"left out: {message}")
            self._views[side, split] = Views(decoded, bound, size, self.fabric.device)
        return self._views[side, split]

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
            built = build(chosen, widths)
        if not isinstance(built, Objective):
            raise PluginError(f"objective {chosen.name!r} built a {type(built).__name__}, expected an Objective")
        return built

    def tasks(self) -> list[tuple[Chosen, Task]]:
        """Every task of the run, built."""
        out = []
        for chosen in self.resolved.tasks:
            task = build(chosen)
            if not isinstance(task, Task):
                raise PluginError(f"task {chosen.name!r} built a {type(task).__name__}, expected a Task")
            out.append((chosen, task))
        return out


def card(bound: BoundModality) -> dict[str, Any]:
    """What config.json says of an encoder's modality."""
    identity = bound.identity
    return {
        "modality": f"{identity['plugin']}:{identity['name']}",
        "options": identity["options"],
        "plugin": identity["plugin"],
        "version": identity["version"],
    }


def guarded(what: str, make: Callable[[], Any]) -> Any:
    """Run a plugin's code; whatever it raises is named as its own."""
    try:
        return make()
    except CmcdError:
        raise
    except Exception as error:
        raise PluginError(f"{what} failed to build: {type(error).__name__}: {error}") from error


def build(chosen: Chosen, *arguments: Any) -> Any:
    """What a descriptor's builder makes of its options."""
    builder: Callable[..., Any] = chosen.part.build
    return guarded(f"{chosen.name!r} of plugin {chosen.plugin.name}", lambda: builder(chosen.options, *arguments))


def _bind(chosen: Chosen) -> BoundModality:
    modality = build(chosen)
    if not isinstance(modality, Modality):
        raise PluginError(f"modality {chosen.name!r} built a {type(modality).__name__}, expected a Modality")
    return BoundModality(chosen.name, chosen.identity, modality)
