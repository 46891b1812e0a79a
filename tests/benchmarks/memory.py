"""Peak memory of a run on a thousand generated samples and on a hundred thousand."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cmcd_core import PairedLoader, Sample
from cmcd_core.catalog import Catalog, Plugin, load
from cmcd_core.plugin import LoaderOptions, LoaderPlugin

from .measuring import Found, Row

SIDE, SIZE = 20, 16
SMALL = {"channels": [8, 8, 16, 32], "stem_width": 8}
"""A network whose own memory and time are of no account here."""
INDEX = 2_000
"""Bytes that a sample may take in memory: its key, what it is known by, its label, its place in the permutations."""
STATUS = Path("/proc/self/status")


class Generated(PairedLoader):
    """Pairs made of their number, when they are read; only train is large."""

    modalities = frozenset({"image", "depth"})

    def __init__(self, count: int) -> None:
        self.classes = {"label": ["near", "far"]}
        self.counts = {"train": count, "val": 40, "test": 40}

    def split(self, name: Literal["train", "val", "test"]) -> Sequence[Sample]:
        return Numbers(name, self.counts[name])


class Numbers(Sequence[Sample]):
    def __init__(self, name: str, rows: int) -> None:
        self.name, self.rows = name, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Sample:  # type: ignore[override]
        if not 0 <= row < self.rows:
            raise IndexError(row)
        views = {name: View(self.name, row, name) for name in ("image", "depth")}
        return Sample(f"{self.name}{row}", views, {"label": row % 2})


class View:
    """The bytes of an .npy file, made when called."""

    def __init__(self, split: str, row: int, modality: str) -> None:
        self.seed, self.modality, self.known_by = [row, len(split)], modality, f"{split}{row}{modality}"

    def __call__(self) -> bytes:
        from io import BytesIO

        from PIL import Image

        out, rng = BytesIO(), np.random.default_rng(self.seed)
        if self.modality == "image":
            Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(out, "bmp")
        else:
            far = 1 + self.seed[0] % 2
            np.save(out, (far + rng.random((SIDE, SIDE))).astype(np.float32))
        return out.getvalue()


class Count(LoaderOptions):
    count: int = 100


def measure(repeats: int, quick: bool) -> Found:
    """Once each, as memory does not depend on what else the machine does."""
    small, large = (200, 1_000) if quick else (1_000, 100_000)
    few, many = in_a_process(small), in_a_process(large)
    grown = {kind: (many[kind] - few[kind]) * 2**20 / (large - small) for kind in ("anonymous", "resident")}
    what = f"a run, {small:,} and {large:,} samples"
    told = f"{few['anonymous']:.0f} and {many['anonymous']:.0f} MiB; {few['seconds']:.0f} and {many['seconds']:.0f} s"
    files = f"{few['resident']:.0f} and {many['resident']:.0f} MiB"
    return Found([
        Row(f"{what}: bytes that its peak memory grows by for each further sample", f"{grown['anonymous']:,.0f}",
            f"≤ {INDEX:,} (the index)", grown["anonymous"] <= INDEX, told),
        Row(f"{what}: the same with mapped files, which the system takes back when it needs room",
            f"{grown['resident']:,.0f}", beside=f"{files}; a sample lies in {files_of_a_sample():,} bytes of cache"),
    ])  # fmt: skip


def files_of_a_sample() -> int:
    """Bytes of cache: the picture as uint8, the depth map as float32, one view of 32 source features."""
    return SIDE * SIDE * (3 + 4) + 32 * 4


def in_a_process(count: int) -> dict[str, float]:
    code = f"import json; from tests.benchmarks.memory import one_run; print(json.dumps(one_run({count})))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def one_run(count: int) -> dict[str, float]:
    """Steps 2 and 3, one epoch, on a source that was never trained; the most MiB in memory, without and with mapped
    files."""
    import tempfile

    from cmcd_core import RunConfig, run

    plugin = LoaderPlugin(
        name="generated", summary="", options=Count, build=lambda o: Generated(o.count), recognises=lambda path: False
    )
    catalog = Catalog((*load().plugins, Plugin("bench", "bench", "0", "ok", parts={"loader": (plugin,)})))
    most, done, start = {"anonymous": 0.0, "resident": 0.0}, threading.Event(), time.perf_counter()

    def look() -> None:
        while not done.wait(0.05):
            now = resident()
            most.update({kind: max(most[kind], now[kind]) for kind in most})

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = RunConfig(
                source="image", target="depth", data={"loader": "generated", "count": count},
                pretrain={"epochs": 0, "architecture": "resnet10t", "model_args": SMALL},
                distill={"epochs": 1, "batch_size": 256, "views": 1, "student": "resnet10t", "model_args": SMALL},
                evaluate={"baselines": "none", "label_draws": 2}, run={"size": SIZE, "out": Path(folder) / "run"},
            )  # fmt: skip
            run(config, catalog=catalog)
    finally:
        done.set()
        watcher.join()
    return {**most, "seconds": time.perf_counter() - start}


def resident() -> dict[str, float]:
    """MiB in memory now: the process's own, and with the pages of mapped files."""
    values = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    anonymous, all_of_it = (int(values[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS"))
    return {"anonymous": anonymous, "resident": all_of_it}
