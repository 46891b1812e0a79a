"""Linear evaluation of one encoder for all label budgets and draws, beside an SGD probe that decodes in each epoch."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as Picture
from torch import Tensor

from cmcd_core import Encoder, Sample, Task
from cmcd_core.catalog import load
from cmcd_core.data.decoded import BoundModality, decode_views
from cmcd_core.data.labels import label_subset
from cmcd_core.data.views import Views
from cmcd_core.progress import Progress
from cmcd_core.stages.evaluate import linear
from cmcd_core.stages.labelled import Labelled, Splits, labelled

from .measuring import Found, alternating, at_least, both_clocks, middle, ratio, require
from .setting import CLASSES, DEVICE, encoder, fresh_cache, modality, write_pairs

SIZE, SIDE, BATCH, RATE = 64, 480, 64, 0.03
BUDGETS: tuple[str, ...] = ("5", "10")
DRAWS, EPOCHS = 10, 20
"""A budget is so many labels a class. 100 epochs are usual: fewer are in the other side's favour."""
POINTS = 0.003
"""How much worse our accuracy may be: 0.3 points."""
NAMES = tuple(map(str, range(CLASSES)))


@dataclass(frozen=True)
class Setting:
    """An encoder, and the samples of each split."""

    encoder: Encoder
    bound: BoundModality
    task: Task
    samples: dict[str, list[Sample]]

    def rows(self, budget: str, draw: int) -> np.ndarray:
        strata = [sample.targets["label"] for sample in self.samples["train"]]
        return label_subset(strata, budget, draw=draw, seed=0)


def measure(repeats: int, quick: bool) -> Found:
    """All budgets and draws of ours; of the SGD probe one draw of each budget, times the number of draws."""
    budgets, draws, counts = BUDGETS, DRAWS, {"train": 200, "val": 100, "test": 200}
    if quick:
        budgets, draws, counts = BUDGETS[:1], 4, {"train": 80, "val": 50, "test": 60}
    with tempfile.TemporaryDirectory() as folder:
        given = setting(Path(folder), counts)
        fresh_cache(Path(folder))
        mine = ours(given, budgets, draws)
        theirs = [decoding_probe(given, given.rows(budget, 0)) for budget in budgets]
        found = f"top-1 {np.mean(mine):.3f} and {np.mean(theirs):.3f} (chance {1 / CLASSES:.2f})"
        require(np.mean(mine) >= np.mean(theirs) - POINTS, f"the accuracies are equal: {found}")

        def from_files() -> None:
            fresh_cache(Path(folder))
            ours(given, budgets, draws)

        sides = {
            "ours": from_files,
            "theirs": lambda: [decoding_probe(given, given.rows(budget, 0)) for budget in budgets],
        }
        taken = alternating(sides, repeats, warm=False)
    a, b = taken["ours"], taken["theirs"]
    return Found([
        at_least(
            f"linear evaluation, {len(budgets)} budgets x {draws} draws in one pass, files first decoded in it / SGD "
            f"probe that decodes in each of {EPOCHS} epochs", ratio(b, a, times=draws), 20,
            f"{middle(a):.1f} s, with the penalty chosen on val and intervals; theirs {middle(b):.1f} s for one draw "
            f"of each budget, times {draws}; {found}; {both_clocks(b, a, times=draws)}",
        )
    ])  # fmt: skip


def setting(folder: Path, counts: dict[str, int]) -> Setting:
    """Depth files of each split, and an encoder that was never trained: what it says is enough to tell sizes."""
    every, samples, start = write_pairs(folder, sum(counts.values()), SIDE), {}, 0
    for name, count in counts.items():
        samples[name], start = every[start : start + count], start + count
    bound, plugin = modality("depth"), load().task("recognition")
    return Setting(encoder(bound).eval(), bound, plugin.build(plugin.options()), samples)


def ours(given: Setting, budgets: tuple[str, ...], draws: int) -> list[float]:
    """A run's linear evaluation, from the files on; the test accuracy of each budget's first draw."""

    def split(name: str) -> Labelled:
        samples = given.samples[name]
        decoded = decode_views(samples, given.bound, SIZE, on_error="fail", progress=Progress(), title="")
        return labelled(samples, Views(decoded, given.bound, SIZE, DEVICE), given.task, NAMES, "recognition")

    splits = Splits(split("train"), split("val"), split("test"), NAMES)
    subsets = {budget: [given.rows(budget, draw) for draw in range(draws)] for budget in budgets}
    return [scores.per_draw[0] for _, scores in linear(given.encoder, given.task, splits, subsets, 0)]


def decoding_probe(given: Setting, rows: np.ndarray) -> float:
    """The usual probe: open, resize and encode each batch again in each epoch, a step of SGD on the head."""
    train, generator = given.samples["train"], torch.Generator().manual_seed(0)
    head, norm = torch.nn.Linear(given.encoder.dim, CLASSES), torch.nn.BatchNorm1d(given.encoder.dim, affine=False)
    optimizer = torch.optim.SGD(head.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(rows), generator=generator).split(BATCH):
            if len(part) > 1:
                chosen = [train[row] for row in rows[part.numpy()]]
                loss = F.cross_entropy(head(norm(encoded(given, chosen))), labels(chosen))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        schedule.step()
    norm.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(given.samples["test"]), BATCH):
            chosen = given.samples["test"][start : start + BATCH]
            right += int((head(norm(encoded(given, chosen))).argmax(1) == labels(chosen)).sum())
    return right / len(given.samples["test"])


@torch.no_grad()
def encoded(given: Setting, samples: list[Sample]) -> Tensor:
    """Features of whole pictures, from their files."""
    views = [np.asarray(Picture.open(sample.views["depth"]), np.float32)[None] / 1000 for sample in samples]  # type: ignore[arg-type]
    modality = given.bound.modality
    x = modality.encode(modality.resize(torch.from_numpy(np.stack(views)), SIZE))
    features: Tensor = given.encoder(x.contiguous(memory_format=torch.channels_last)).pooled
    return features


def labels(samples: list[Sample]) -> Tensor:
    return torch.tensor([sample.targets["label"] for sample in samples])
