"""What a run leaves on disk. Every file appears whole or not at all; checkpoints are safetensors and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import tomli_w

from .curves import Curves
from .errors import ConfigError
from .files import refusal, sweep, write_json, write_tensors, write_text
from .grammar import read_toml

KEPT_CHECKPOINTS = 2
LOCK = ".lock"
"""Stays behind, empty: whose lock it is the operating system knows."""


def new_run_folder(name: str) -> Path:
    """``runs/<time>-<name>``, made: runs that begin in the same second have one each.

    Raises:
        ConfigError: It cannot be made.
    """
    base = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    path, number = base, 0
    try:
        while True:
            with suppress(FileExistsError):
                path.mkdir(parents=True)
                return path
            path, number = base.with_name(f"{base.name}-{number + 1}"), number + 1
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot write there: {error.strerror}") from error


@dataclass(frozen=True)
class RunFolder:
    """One run's folder; the paths in it are part of the contract.

    Attributes:
        curves: Receives what metrics.jsonl does, for TensorBoard; None: nobody asked.
    """

    path: Path
    curves: Curves | None = field(default=None, compare=False)

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; the operating system frees the lock of a process that died.

        What such a process left half-written is removed.

        Raises:
            ConfigError: Another process is at work in this folder, or it cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"{self.path}: another process is running in this folder", "Wait for it, or pass another --out."
            ) from None
        except OSError as error:
            raise ConfigError(
                f"--out {self.path}: cannot write there: {error.strerror or error}",
                "Pass a folder that can be written.",
            ) from None
        except NotImplementedError:  # filelock's word for a file system without locks
            raise ConfigError(
                f"--out {self.path}: its file system has no locks, and two processes would spoil a run",
                "Pass a folder on another disk.",
            ) from None
        try:
            sweep(self.path)
            yield
        finally:
            if self.curves:
                self.curves.close()
            lock.release()

    def write_config(self, values: Mapping[str, Any]) -> None:
        write_text(self.config_file, tomli_w.dumps(dict(values)))

    def read_config(self) -> dict[str, Any]:
        """What config.toml says.

        Raises:
            ConfigError: It cannot be read.
        """
        return read_toml(self.config_file)

    def has_work(self) -> bool:
        """Whether anything was trained or evaluated here."""
        return any((self.path / name).exists() for name in ("checkpoints", "evaluations", "metrics.jsonl"))

    def read_result(self) -> dict[str, Any]:
        """What result.json says; empty where there is none.

        Raises:
            ConfigError: It cannot be read.
        """
        return _read(self.result_file) if self.result_file.exists() else {}

    def log(self, stage: str, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl.

        Raises:
            CmcdError: The disk is full, or refuses it otherwise.
        """
        try:
            with self.metrics_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": stage, **values}) + "\n")
        except OSError as error:
            raise refusal(error, self.metrics_file) from error
        if self.curves:
            self.curves.log(stage, values)

    def rewind_log(self, stage: str, epochs: int) -> None:
        """Drop a stage's lines from ``epochs`` on: they are about to be written again."""
        if self.curves:
            self.curves.rewind(stage, epochs)
        if not self.metrics_file.is_file():
            return
        kept = []
        for line in self.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # the half line of a crash
                continue
            if not isinstance(entry, dict):
                continue
            if entry.get("stage") != stage or entry.get("epoch", 0) < epochs:
                kept.append(line)
        write_text(self.metrics_file, "".join(f"{line}\n" for line in kept))

    def checkpoints(self, stage: str) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints", stage)

    def finished(self, stage: str) -> dict[str, Any] | None:
        """What :meth:`finish` recorded for this stage; None where it is not done."""
        file = self.path / "checkpoints" / f"{stage}.done.json"
        return _read(file) if file.is_file() else None

    def reopen(self, stage: str) -> None:
        """Forget that a stage is done: it is about to go on."""
        (self.path / "checkpoints" / f"{stage}.done.json").unlink(missing_ok=True)

    def evaluations(self) -> list[tuple[Path, dict[str, Any]]]:
        """Folder and entry of each evaluation made so far, in order."""
        files = sorted(self.path.glob("evaluations/[0-9]*/evaluation.json"), key=lambda file: int(file.parent.name))
        return [(file.parent, _read(file)) for file in files]

    def finish(self, stage: str, digest: str, values: Mapping[str, Any]) -> None:
        """Record that a stage is done, so that a resumed run does not repeat it."""
        write_json(self.path / "checkpoints" / f"{stage}.done.json", {"digest": digest, **values})


@dataclass(frozen=True)
class Checkpoints:
    """The last checkpoints of one stage: tensors as safetensors, the rest as JSON beside them."""

    folder: Path
    stage: str

    def save(self, epoch: int, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Keep the state of ``epoch``, which is done or under way; the JSON file is written last and makes it count.

        Raises:
            CmcdError: The disk is full, or refuses it otherwise.
        """
        target = self._file(epoch)
        try:
            target.with_suffix(".json").unlink(missing_ok=True)  # of another state: it must not vouch for this one
            write_tensors(target, tensors)
            write_json(target.with_suffix(".json"), {"epoch": epoch, **meta})
        except OSError as error:
            raise refusal(error, f"{target}: cannot write a checkpoint") from error
        numbers = self._numbers()
        kept = [number for number in numbers if number <= epoch][-KEPT_CHECKPOINTS:]
        for old in set(numbers) - set(kept):  # later ones are of a training that was given up
            self._delete(old)

    def latest(
        self, digest: str, note: Callable[[str], None] = lambda text: None
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """(tensors, meta) of the newest checkpoint that can be read and belongs to ``digest``; else None.

        Args:
            note: Told of each that cannot be read: the one before it serves.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        for number in reversed(self._numbers()):
            try:
                meta = _read(self._file(number).with_suffix(".json"))
                if meta.get("digest") == digest:
                    return load_file(self._file(number)), meta
            except (OSError, SafetensorError, ConfigError):
                note(f"{self._file(number)} cannot be read: passed over for the checkpoint before it, if there is one")
        return None

    def others(self, digest: str) -> int | None:
        """Epochs of the newest checkpoint, where none belongs to ``digest``; None where one does, or there is none."""
        found: dict[int, Any] = {}
        for number in self._numbers():
            with suppress(ConfigError):
                found[number] = _read(self._file(number).with_suffix(".json")).get("digest")
        return None if digest in found.values() else max(found, default=None)

    def _delete(self, number: int) -> None:
        self._file(number).with_suffix(".json").unlink(missing_ok=True)
        self._file(number).unlink(missing_ok=True)

    def _file(self, number: int) -> Path:
        return self.folder / f"{self.stage}-{number:05d}.safetensors"

    def _numbers(self) -> list[int]:
        names = (file.stem.rpartition("-") for file in self.folder.glob(f"{self.stage}-*.json"))
        return sorted(int(number) for stage, _, number in names if stage == self.stage and number.isdecimal())


def _read(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: not readable: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: not readable: expected a JSON object, got {type(values).__name__}")
    return values
