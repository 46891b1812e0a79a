"""Self-supervised training of one encoder within a run: step 1, and the same on the target to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .data.views import Views
from .encoders import load_encoder
from .interfaces.encoder import Encoder
from .plugin import Widths
from .run_folder import RunFolder
from .settled import settle, settled
from .stages.pretrain import HEAD_WIDTH, pretrain
from .stages.training import Session
from .workbench import Workbench, frozen


@dataclass(frozen=True)
class Pretraining:
    """One such training.

    Attributes:
        stage: Its name among the run's checkpoints.
        title: In messages about it.
        shown: Beside its progress.
        where: Folder of the encoder in the run's folder.
        views: What is trained on; labels are unused.
        inputs: Digest of all that it is made from.
        network: The new encoder, with random weights.
    """

    stage: str
    title: str
    shown: str
    where: str
    views: Views
    epochs: int
    seed: int
    inputs: str
    network: Callable[[], Encoder]


def pretrained(
    bench: Workbench, folder: RunFolder, asked: Pretraining, *, extend: bool
) -> tuple[Encoder, dict[str, Any]]:
    """The encoder and what its training was; taken from the folder where it is done.

    Raises:
        ConfigError: It was done, or begun, from other data, options or seed.
        DataError: There are fewer than two samples.
    """
    where = folder.path / asked.where
    if record := settled(
        bench.fabric, folder, asked.stage, asked.title, asked.inputs, bench.progress, asked.epochs, extend=extend
    ):
        return frozen(bench, load_encoder(where)), record["summary"]
    assert bench.resolved.contrast is not None
    encoder = asked.network()
    contrast = bench.objective(bench.resolved.contrast, Widths(source=HEAD_WIDTH, target=HEAD_WIDTH), asked.seed)
    history = pretrain(
        bench.fabric, encoder, contrast, asked.views, bench.resolved.config.pretrain, asked.epochs,
        seed=asked.seed, session=Session.within(folder, asked.stage, asked.inputs, bench.progress, bench.fabric),
        title=asked.shown,
    )  # fmt: skip
    summary = {"epochs": asked.epochs, "loss": history.last, "samples": len(asked.views)}
    record = {"epochs": asked.epochs, "summary": summary}
    settle(bench.fabric, folder, asked.stage, asked.inputs, record, lambda: encoder.save(where))
    return frozen(bench, encoder), summary
