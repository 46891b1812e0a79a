"""What a run's folder holds for its report, so read that a broken file costs one figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import ConfigError
from ..grammar import read_toml
from ..result import load_run
from ..run_folder import RunFolder

Found = TypeVar("Found")


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of the distilled encoder, with its predictions of the test split."""

    folder: Path
    entry: Mapping[str, Any]
    predictions: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    pictures: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Evidence:
    """A run, as its folder tells it.

    Attributes:
        name: What the folder is called, for people.
        result: The content of result.json.
        config: That of config.toml; empty where there is none (a run on modules of one's own).
        start: How the student started; empty where no teacher could be copied.
        log: Stage -> its lines of metrics.jsonl, in order of their epochs.
        space: ``space.json``; its arrays are in ``arrays``. Empty: no map was made.
        lost: What could not be read, in words.
    """

    path: Path
    result: Mapping[str, Any]
    config: Mapping[str, Any]
    config_text: str
    start: Mapping[str, Any]
    log: Mapping[str, list[Mapping[str, Any]]]
    space: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    retrieval: Mapping[str, Any]
    seen: Mapping[str, Any]
    pairing: Mapping[str, Any]
    evaluated: tuple[Evaluated, ...]
    parameters: Mapping[str, int]
    lost: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self.result.get("steps", ()))

    @property
    def source(self) -> str:
        return str(self.result.get("source") or "source")

    @property
    def target(self) -> str:
        return str(self.result.get("target") or "target")

    @property
    def objective(self) -> str:
        """What step 2 minimised; a run on modules of one's own lists its terms."""
        terms = self.result.get("objective") or ""
        if isinstance(terms, str):
            return terms
        return " + ".join(f"{term['weight']:g}*{term['key']}" if term["weight"] != 1 else term["key"] for term in terms)

    def picture(self, name: str) -> Path:
        """A picture of an exhibit, by its path within ``report/``."""
        return self.path / "report" / name


def read_run(path: Path) -> Evidence:
    """All that the report needs of a run's folder.

    Raises:
        ConfigError: There is no finished run, or its result cannot be read.
    """
    folder, files, result = RunFolder(path), _Files(path), load_run(path).values
    arrays = files.arrays("report/space.npz")
    return Evidence(
        path=path,
        result=result,
        config=files.read("config.toml", read_toml, dict[str, Any]()),
        config_text=files.read("config.toml", _text, ""),
        start=files.json("start.json"),
        log=files.read("metrics.jsonl", _log, dict[str, list[Mapping[str, Any]]]()),
        space=files.json("report/space.json") if arrays else {},
        arrays=arrays,
        retrieval=files.json("report/retrieval.json"),
        seen=files.json("report/seen.json"),
        pairing=files.json("report/pairing.json"),
        evaluated=tuple(_evaluated(folder, result, files)),
        parameters={
            side: count
            for side in ("source", "target")
            if (count := files.read(f"{side}/model.safetensors", _parameters, 0))
        },
        lost=tuple(dict.fromkeys(files.lost)),
    )


class _Files:
    """A run's files; one that is not there is nothing, one that cannot be read is told of."""

    def __init__(self, path: Path) -> None:
        self.path, self.lost = path, list[str]()

    def read(self, name: str, how: Callable[[Path], Found], otherwise: Found) -> Found:
        """What ``how`` makes of a file."""
        if not (self.path / name).is_file():
            return otherwise
        try:
            return how(self.path / name)
        except Exception as error:  # of whatever kind: a report without one figure is better than none
            self.lost.append(f"{name} cannot be read ({type(error).__name__})")
            return otherwise

    def json(self, name: str) -> dict[str, Any]:
        return self.read(name, _object, {})

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        return self.read(name, _arrays, {})


def _object(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _list(file: Path) -> list[Any]:
    return list(json.loads(file.read_text(encoding="utf-8")))


def _arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as opened:
        return {name: opened[name] for name in opened.files}


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _log(file: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Lines by stage; half a line, as a crash leaves it, is passed over."""
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for line in _text(file).splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("epoch"), int):
            stages.setdefault(str(entry.get("stage")), []).append(entry)
    return stages


def _evaluated(folder: RunFolder, result: Mapping[str, Any], files: _Files) -> Iterator[Evaluated]:
    """The distilled encoder's evaluations that the result holds."""
    held = {entry.get("digest") for entry in result.get("evaluations", ())}
    try:
        every = folder.evaluations()
    except (ConfigError, ValueError) as error:
        files.lost.append(str(error))
        return
    for place, entry in every:
        if entry.get("encoder") == "distilled" and entry.get("digest") in held:
            name = place.relative_to(folder.path).as_posix()
            classes = files.read(f"{name}/classes.json", _list, list[Any]())
            shown = files.read(f"{name}/pictures/pictures.json", _list, list[Any]())
            predictions = files.arrays(f"{name}/predictions.npz")
            yield Evaluated(place, entry, predictions, tuple(map(str, classes)), tuple(shown))


def _parameters(model: Path) -> int:
    """Numbers that an encoder holds, by the header of its safetensors file: 8 bytes of length, then JSON."""
    with model.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__" and _trained(name)]
    return int(sum(int(np.prod(shape)) for shape in shapes))


def _trained(name: str) -> bool:
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked")) and name not in ("mean", "std")
