"""An encoder opened with its modality: what reads files and splits, after a run or without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from .built import bind
from .catalog import Catalog, load
from .config import STEPS, DataConfig, RunConfig, RunSection
from .data.decoded import BoundModality
from .data.loose import Batch, Item, ready
from .data.views import Views, views_of
from .encoders import fixed_size, load_encoder
from .errors import ConfigError, DataError
from .interfaces.encoder import Encoder
from .interfaces.loader import Sample, Split
from .progress import Progress
from .resolve import data_name, modality_of_data, open_data
from .run_folder import RunFolder
from .workbench import Side, make_fabric, on_error

DEFAULT_SIZE = 224
"""Of an encoder that says nothing of its size, as timm's own."""


@dataclass(frozen=True)
class SplitViews:
    """The samples of a split that have one modality's view, and how it is read there."""

    name: str
    samples: Sequence[Sample]
    bound: BoundModality
    on_error: Literal["fail", "skip"]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(sample.key for sample in self.samples)

    def items(self, samples: Iterable[Sample]) -> list[Item]:
        """Some of its samples, to be read like files."""
        return [Item(sample.key, sample.views[self.bound.name], self.on_error == "fail") for sample in samples]


@dataclass(frozen=True)
class Reader:
    """An encoder and all that turns raw data into its input.

    Attributes:
        folder: Where the encoder lies.
        run: The run that it belongs to; None: no run.
        encoder: In eval mode, on ``device``.
        bound: Its modality, as it was read in training.
        size: Side in pixels of what it sees.
    """

    folder: Path
    run: RunFolder | None
    encoder: Encoder
    bound: BoundModality
    size: int
    device: torch.device
    catalog: Catalog

    def batches(
        self, items: Sequence[Item], note: Callable[[str], None], bound: BoundModality | None = None
    ) -> Iterator[Batch]:
        """Items as the encoder sees them; ``bound``: how their data set reads them."""
        return ready(items, bound or self.bound, self.size, self.device, note)

    def split(self, data: str | Path | None, split: Split) -> SplitViews:
        """The samples of a split that this encoder can see; ``data`` None: the run's own.

        Raises:
            ConfigError, PluginError, DataError: There are no such data, or they have no such views.
        """
        config = DataConfig.model_validate(str(data)) if data is not None else self._own_data()
        chosen, loader = open_data(config, self.catalog, "data", "--data" if data else "the run's data")
        said = set(self.encoder.card.get("from_data", ()))  # of the training data: these data speak for themselves
        options = {key: value for key, value in self.encoder.card.get("options", {}).items() if key not in said}
        bound = bind(modality_of_data(self.catalog, self.encoder.card["modality"], loader, options))
        samples = [sample for sample in loader.split(split) if bound.name in sample.views]
        name = data_name(chosen)
        if not samples:
            raise DataError(f"{name}: no sample of the {split} split has a view called {bound.name!r}")
        return SplitViews(name, samples, bound, on_error(chosen))

    def views(self, split: SplitViews, progress: Progress) -> Views:
        """A split's views, decoded as a run does it, and found again in the cache."""
        return views_of(
            split.samples, split.bound, self.size, self.device,
            on_error=split.on_error, progress=progress, note=progress.note,
        )  # fmt: skip

    def _own_data(self) -> DataConfig:
        if self.run is None or not self.run.config_file.is_file():
            raise ConfigError(
                f"{self.folder}: which data? This encoder belongs to no run", "Name them with --data PATH."
            )
        config = RunConfig.from_mapping(self.run.read_config(), str(self.run.config_file))
        own: list[DataConfig | None] = [config.distill.data]
        if "data" in config.model_fields_set:
            own.append(config.data)
        own += [getattr(config, step).data for step in STEPS]
        return next((data for data in own if data is not None), config.data)


def encoder_folder(path: Path, side: Side | None = None) -> tuple[Path, RunFolder | None]:
    """The encoder that a path means, and the run it belongs to.

    Args:
        path: A run's folder, or an encoder's.
        side: Which of a run's; None: the target's. An encoder's own folder has no sides.

    Raises:
        ConfigError: There is none.
    """
    if (path / "config.json").is_file():
        if side is not None:
            raise ConfigError(
                f"--side {side}: {path} is one encoder's folder", "Name the run's folder, or leave --side out."
            )
        run = RunFolder(path.resolve().parent)
        return path, run if run.config_file.is_file() and path.resolve().name in ("source", "target") else None
    where = path / (side or "target")
    if (where / "config.json").is_file():
        return where, RunFolder(path)
    if not path.exists():
        raise ConfigError(f"{path}: no such folder", "Name a run's folder, or an encoder's.")
    raise ConfigError(
        f"{path}: neither an encoder (no config.json) nor a run with a {side or 'target'}/ encoder",
        "A run has one once its step 2 is done (step 1 for --side source); an encoder's folder is a run's target/.",
    )


def open_reader(path: Path, side: Side | None = None, catalog: Catalog | None = None) -> Reader:
    """A run's encoder, or the one that lies at ``path``, with its modality.

    Raises:
        ConfigError: There is none, or it does not say which modality it is for.
        PluginError: Its modality is not installed.
    """
    folder, run = encoder_folder(Path(path), side)
    return reader_at(folder, run, catalog or load())


def reader_at(folder: Path, run: RunFolder | None, catalog: Catalog) -> Reader:
    """The encoder in exactly this folder, with its modality."""
    encoder = load_encoder(folder)
    card = encoder.card
    if "modality" not in card:
        raise ConfigError(
            f'{folder}: its config.json does not say which modality it is for (no "cmcd" entry)',
            "Take it into a run first, as --teacher; the run's source/ then says it.",
        )
    bound = bind(modality_of_data(catalog, card["modality"], None, card.get("options")))
    if bound.modality.channels != encoder.channels:
        raise ConfigError(
            f"{folder} takes {encoder.channels} channels, and {bound.name} gives {bound.modality.channels}"
        )
    device = make_fabric(RunSection())[0].device
    size = int(card.get("size") or fixed_size(encoder) or DEFAULT_SIZE)
    placed: Encoder = encoder.to(device).requires_grad_(False)
    return Reader(folder, run, placed, bound, size, device, catalog)
