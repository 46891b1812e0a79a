"""The three steps in order, into a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from .catalog import Catalog
from .config import RunConfig
from .errors import ConfigError
from .progress import Progress
from .resolve import Resolved, resolve
from .result import Result, load_run
from .run_folder import RunFolder


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    catalog: Catalog | None = None,
    announce: Callable[[Resolved, Path], None] = lambda resolved, folder: None,
) -> Result:
    """Run the method: pretrain the source (or take a teacher), distil, evaluate with few labels.

    Args:
        config: The whole run.
        resume: Go on in an existing ``config.run.out``; a finished run is returned as it is.
        progress: Told of the work; silent by default.
        catalog: Plugins to choose from; default: all that are installed.
        announce: Called once everything is checked, with what will run and the folder it goes to.

    Returns:
        The result, which also lies in the run's folder.

    Raises:
        ConfigError, DataError, PluginError: Found before any training.
        CmcdError: The run itself failed; it can be resumed.

    Example::

        from cmcd_core import RunConfig, run

        result = run(RunConfig(source="image", target="depth", run={"seed": 1}))
        print(result.folder, result.metric("distilled"), result.metric("scratch"))
    """
    from .catalog import load

    progress = progress or Progress()
    resolved = resolve(config, catalog or load())
    folder = RunFolder(config.run.out or default_folder(resolved))
    if folder.config_file.exists() and not resume:
        raise ConfigError(f"--out {folder.path}: a run is there already", "Pass --resume to go on, or another --out.")
    if resume:
        if not folder.config_file.exists():
            raise ConfigError(f"--resume: {folder.path} holds no run", "Leave --resume out to start one.")
        _same_configuration(folder, resolved)
        if folder.result_file.exists():
            progress.note(f"{folder.path} is finished already; nothing to do")
            return load_run(folder.path)
    announce(resolved, folder.path)
    with folder.locked():
        from .steps import Steps

        folder.write_config(resolved.config.to_mapping())
        return Steps(resolved, folder, progress).go()


def default_folder(resolved: Resolved) -> Path:
    """``runs/<time>-image-depth-cmd``, not there yet."""
    objectives = "-".join(term.key.replace("@", "_") for term, _ in resolved.objectives)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    base = Path("runs") / f"{stamp}-{resolved.source.name}-{resolved.target.name}-{objectives}"
    candidates = (base.with_name(f"{base.name}-{n}") if n else base for n in range(1000))
    return next(path for path in candidates if not path.exists())


def _same_configuration(folder: RunFolder, resolved: Resolved) -> None:
    there, here = folder.read_config(), resolved.config.to_mapping()
    if different := _differences(there, here):
        raise ConfigError(
            f"--resume {folder.path}: its configuration differs in {', '.join(different[:5])}",
            f"Resume with the same flags, or with `cmcd run -c {folder.config_file} --out {folder.path} --resume`.",
        )


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    out = []
    for key in sorted({*one, *other}):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += _differences(a, b, f"{prefix}{key}.")
        elif a != b and (list(a) if isinstance(a, tuple) else a) != (list(b) if isinstance(b, tuple) else b):
            out.append(f"{prefix}{key}")
    return out
