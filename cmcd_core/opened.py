"""A finished run, opened again: its encoders, its objective and its data, for what is asked of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .catalog import Catalog
from .config import RunConfig, Step
from .encoders import load_encoder
from .errors import ConfigError
from .interfaces.encoder import Encoder
from .interfaces.objective import Objective
from .progress import Progress
from .resolve import resolve
from .run_folder import RunFolder
from .teaching import Lesson, taught_objective
from .workbench import Workbench, frozen, make_fabric


@dataclass(frozen=True)
class OpenedRun:
    """What a run's folder holds.

    Attributes:
        bench: Reads the data as the run did.
        source, target: The encoders, frozen.
    """

    folder: RunFolder
    bench: Workbench
    source: Encoder
    target: Encoder

    @property
    def lesson(self) -> Lesson:
        """What step 2 taught."""
        return Lesson.of(self.bench.resolved)

    def objective(self) -> Objective:
        """The trained objective: its heads and temperatures."""
        return taught_objective(self.bench, self.folder, self.source, self.target, self.lesson)


def open_run(
    path: Path, catalog: Catalog, *, data: object = None, steps: tuple[Step, ...] = ("distill",), progress: Progress
) -> OpenedRun:
    """Open a run whose step 2 is done.

    Args:
        data: Other data than the run's pairs: what ``--data`` says.

    Raises:
        ConfigError: There is no such run.
    """
    folder = RunFolder(path)
    if not folder.config_file.is_file() or folder.finished("distill") is None:
        raise ConfigError(
            f"{path}: no run whose step 2 is done", "Name the folder of a finished `cmcd run` or `cmcd distill`."
        )
    values = folder.read_config()
    if data is not None:
        values["data"] = data
        for step in ("pretrain", "distill", "evaluate"):
            values.get(step, {}).pop("data", None)
    resolved = resolve(RunConfig.from_mapping(values, str(folder.config_file)), catalog, steps)
    source, target = load_encoder(path / "source"), load_encoder(path / "target")
    bench = Workbench.of(
        resolved,
        make_fabric(resolved.config.run)[0],
        progress,
        progress.note,
        size=target.card.get("size"),
        source_size=source.card.get("size"),
    )
    return OpenedRun(folder, bench, frozen(bench, source), frozen(bench, target))
