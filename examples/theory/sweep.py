"""Does the measured distance between the modalities track the target's test error? One ladder, over seeds.

    python examples/theory/sweep.py --ladder noise --data demo --seeds 0,1,2 --out sweeps/demo
    python examples/theory/sweep.py --ladder blur --data my_pairs/ --target depth --seeds 0,1 --out sweeps/mine \\
        --teacher efficientnet-lite0

A cell is one run of cmcd in DIR/cells; one that is finished is not run again. DIR/cells.csv has a row for each.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cmcd_core import CmcdError, ConfigError, Result, RunConfig, load_run, run
from cmcd_core.grammar import set_key

sys.path.insert(0, str(Path(__file__).parent))
from ladders import Pairs, levels, name_of, write_rung

NOISE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Strength of the sensors' noise of the demo data: its ladder."""
DEMO = {"train": 800, "val": 150, "test": 400}
PAIRS = (50, 150, 400)
"""Training pairs, where fewer are the ladder."""
CLEAN = "clean"
LADDERS = ("noise", "blur", "quantise", "drop", "shuffle", "pairs")
TARGET_OPTIONS: dict[str, dict[str, Any]] = {"audio": {"n_mels": 32, "hop": 20.0}}


@dataclass(frozen=True)
class Cell:
    """One run: how far up which ladder."""

    data: str
    ladder: str
    level: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.data}-{self.ladder}-{self.level:g}-s{self.seed}"


class Sweep:
    """The cells of a ladder, and how each is run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.demo = options.data == "demo"
        self.out = Path(options.out)
        root = Path(options.data)
        self.pairs = None if self.demo else Pairs(root, options.target, options.most)
        self.data = f"demo_{options.target}" if self.demo else name_of(root)

    def cells(self) -> Iterator[Cell]:
        """Seed by seed, from the best rung of each ladder to the worst; those of real data share their first."""
        for seed in self.options.seeds:
            if self.options.ladders != ["noise"]:
                yield Cell(self.data, CLEAN, 0.0, seed)
            for ladder in self.options.ladders:
                for level in self._levels(ladder):
                    yield Cell(self.data, ladder, level, seed)

    def _levels(self, ladder: str) -> Sequence[float]:
        if self.options.levels:
            return list(self.options.levels)
        if ladder == "noise":
            return NOISE
        return PAIRS if ladder == "pairs" else levels(ladder, self.options.target)

    def config(self, cell: Cell) -> RunConfig:
        """The whole run; labels and test data are the same on every rung that spoils the training pairs alone."""
        o = self.options
        data, labelled = self._data(cell)
        evaluate: dict[str, Any] = {
            "labels": o.labels, "label_draws": o.label_draws, "baselines": ["scratch"] if o.scratch else ["none"],
            "scratch_lrs": o.scratch_lrs,
        }  # fmt: skip
        if labelled is not data:
            evaluate["data"] = labelled
        teacher: dict[str, Any] = {"teacher": [o.teacher or str(self.teacher)]}
        if o.teacher and o.teacher_architecture:
            teacher["teacher_architecture"] = o.teacher_architecture
        sizes = {"size": o.size, "source_size": o.size if self.demo and not o.teacher else o.source_size}
        return RunConfig(
            source="image",
            target={"name": o.target, **TARGET_OPTIONS.get(o.target, {}), **o.target_options},
            data=data,
            objective=o.objective,
            task="recognition",
            pretrain=teacher,
            distill={"epochs": self._epochs(cell), "views": 2},
            evaluate=evaluate,
            run={"seed": cell.seed, "out": str(self.out / "cells" / cell.name), **sizes},
        )

    def _epochs(self, cell: Cell) -> int | None:
        """Fewer pairs are seen more often: as many samples in all."""
        if self.options.epochs is None or cell.ladder != "pairs":
            return self.options.epochs
        every = DEMO["train"] if self.pairs is None else sum(row["split"] == "train" for row in self.pairs.rows())
        return round(self.options.epochs * every / cell.level)

    def _data(self, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the pairs, and of the labels."""
        if self.pairs is None:
            clean = {"loader": "demo", **DEMO, "seed": cell.seed}
            if cell.ladder == "noise":
                noisy = {**clean, "noise": cell.level}
                return noisy, noisy
            if cell.ladder == CLEAN:
                return clean, clean
            return {
                **clean,
                **({"train": int(cell.level)} if cell.ladder == "pairs" else {"shuffled": cell.level}),
            }, clean
        rungs = self.out / "data"
        clean = write_rung(self.pairs, CLEAN, 0, rungs / f"{self.data}-{CLEAN}")
        if cell.ladder == CLEAN:
            return self._folder(clean), self._folder(clean / "labels")
        name = f"{self.data}-{cell.ladder}-{cell.level:g}"
        spoilt = write_rung(self.pairs, cell.ladder, cell.level, rungs / name)
        labelled = clean if cell.ladder in ("shuffle", "pairs") else spoilt
        return self._folder(spoilt), self._folder(labelled / "labels")

    def _folder(self, path: Path) -> dict[str, Any]:
        return {"loader": "folder", "root": str(path), "allow_outside": True}

    @cached_property
    def teacher(self) -> Path:
        """The demo's source encoder: step 1 with the first seed, once for all cells."""
        seed, size = self.options.seeds[0], self.options.size
        out = self.out / "teachers" / f"demo-s{seed}"
        if not (out / "result.json").exists():
            data = {"loader": "demo", **DEMO, "seed": seed}
            config = RunConfig(
                source="image", data=data, run={"seed": seed, "out": str(out), "size": size, "source_size": size}
            )
            run(config, steps=("pretrain",), resume=(out / "config.toml").exists())
        return out / "source"

    def result(self, cell: Cell) -> Result:
        """A cell's run: the finished one, with what scratch lacks, or a new one."""
        config = self.config(cell)
        folder = Path(str(config.run.out))
        cells = self.out.glob(f"cells/{cell.data}-*-s{cell.seed}/config.toml")  # what is the same is not trained again
        siblings = [file.parent for file in cells if file.parent != folder]
        if not (folder / "result.json").exists():
            return run(config, resume=(folder / "config.toml").exists(), siblings=siblings)
        found = load_run(folder)
        scratch = {entry["labels"] for entry in found.evaluations if entry["encoder"] == "scratch"}
        if not self.options.scratch or {*self.options.labels} <= scratch:
            return found
        values = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
        wanted = config.evaluate.model_dump(mode="json", include={"labels", "baselines", "scratch_lrs", "label_draws"})
        values["evaluate"] |= wanted
        values["run"]["out"] = str(folder)
        return run(RunConfig.from_mapping(values), steps=("evaluate",), resume=True, siblings=siblings)


def row(cell: Cell, result: Result) -> dict[str, Any]:
    """A cell in a few numbers: errors of each encoder and budget, and every distance before and after."""
    out: dict[str, Any] = {"data": cell.data, "ladder": cell.ladder, "level": cell.level, "seed": cell.seed}
    out |= {"objective": result.values["objective"], "pairs": result.values["distill"]["pairs"]}
    for entry in result.evaluations:
        out["classes"], out["n_test"] = entry["classes"], entry["n_test"]
        out[f"error_{entry['encoder']}_{entry['labels']}"] = round(1 - entry["metrics"]["top1"], 4)
    for when in ("before", "after"):
        for estimate in result.values["distance"].get(when, []):
            kind = "_centred" if estimate["centred"] else ""
            out[f"{when}_{estimate['name']}{kind}"] = float(f"{estimate['value']:.4g}")
    return out


def write_rows(rows: Sequence[dict[str, Any]], to: Path) -> None:
    """One table, its columns those of all rows; cells of other ladders that are there stay."""
    if to.exists():
        with to.open(newline="") as file:
            mine = {tuple(str(row[key]) for key in ("data", "ladder", "level", "seed")) for row in rows}
            there = list(csv.DictReader(file))
            rows = [r for r in there if (r["data"], r["ladder"], r["level"], r["seed"]) not in mine] + list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with to.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := {*names} - {*LADDERS}:
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is not among {', '.join(LADDERS)}")
    return names


def _target_option(text: str) -> dict[str, Any]:
    """KEY=VALUE of the target's modality, as `cmcd run -o target.KEY=VALUE` reads it."""
    values: dict[str, Any] = {}
    try:
        set_key(values, f"target.{text}")
    except ConfigError:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE") from None
    option: dict[str, Any] = values["target"]
    return option


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--ladder",
        dest="ladders",
        type=_names,
        required=True,
        help="noise (the demo's), blur,quantise,drop,shuffle,pairs",
    )
    add("--data", default="demo", help="demo, or a folder with metadata.csv")
    add("--target", default="depth", help="the modality to teach")
    add("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    add("--levels", type=lambda text: [float(level) for level in text.split(",")], help="of one ladder, other rungs")
    add("--out", required=True)
    add("--objective", default="cmc")
    add("--teacher", help="a source encoder; default, for the demo alone: step 1 with the first seed")
    add("--teacher-architecture")
    add("--epochs", type=lambda text: None if text == "default" else int(text), default=8, help="of step 2, or default")
    add("--size", type=int, default=32)
    add("--source-size", type=int, default=96)
    add("--most", type=int, help="rows of a split")
    add("--labels", type=lambda text: text.split(","), default=["5"])
    add("--label-draws", type=int, default=3)
    add("--scratch", action="store_true", help="train from scratch on the same labels too")
    add("--scratch-lrs", type=lambda text: [float(lr) for lr in text.split(",")], default=[3e-3, 1e-2, 3e-2])
    add("--target-option", type=_target_option, action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    options.target_options = {key: value for one in options.target_option for key, value in one.items()}
    if options.data != "demo":
        if not (Path(options.data) / "metadata.csv").is_file():
            parser.error(f"--data {options.data}: no metadata.csv there; name a folder of pairs, or demo")
        if not options.teacher:
            parser.error("--teacher is needed for data of your own, such as efficientnet-lite0")
        if "noise" in options.ladders:
            parser.error("--ladder noise is the demo's; take blur, quantise, drop, shuffle or pairs")
    elif spoiling := {"blur", "quantise", "drop"} & {*options.ladders}:
        parser.error(f"--ladder {min(spoiling)} spoils files; for the demo take noise, shuffle or pairs")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells that are missing, and write the table after each."""
    sweep = Sweep(parsed(arguments))
    rows: list[dict[str, Any]] = []
    for cell in sweep.cells():
        start = time.process_time()
        try:
            rows.append(row(cell, sweep.result(cell)))
        except CmcdError as error:
            print(f"{cell.name}: {error}", file=sys.stderr)
            return 2
        write_rows(rows, sweep.out / "cells.csv")
        error = next(value for key, value in rows[-1].items() if key.startswith("error_distilled"))
        print(f"{cell.name}: error {error:.3f}, {time.process_time() - start:.0f} s of CPU", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
