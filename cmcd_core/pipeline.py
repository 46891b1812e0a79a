"""The three steps in order, into a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .catalog import Catalog, load
from .config import STEPS, RunConfig, Step
from .curves import Curves
from .errors import ConfigError, DataError, PluginError
from .files import refusals_told
from .progress import Progress
from .resolve import Resolved, resolve
from .result import Result, load_run
from .run_folder import RunFolder, new_run_folder
from .started import started, wanted

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FREE: Mapping[tuple[Step, ...], tuple[str, ...]] = {
    ("pretrain", "distill"): ("target.", "objective.", "distill.", "evaluate.", "task.", "plugins.", "run."),
    ("evaluate",): ("evaluate.", "task.", "plugins.", "run.device", "run.precision"),
}
"""What may differ from a folder's config.toml when single steps go on in it: what they do not build on."""
WATCHING = ("run.tensorboard", "run.devices")
"""What may always differ: it changes no result, or as good as none."""
EXTENDED = ("distill.epochs", "pretrain.epochs", "evaluate.", "task.", "plugins.", "run.device", "run.precision")


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    extend: bool = False,
    steps: tuple[Step, ...] = STEPS,
    siblings: Sequence[Path] = (),
    progress: Progress | None = None,
    catalog: Catalog | None = None,
    announce: Callable[[Resolved, Path], None] = lambda resolved, folder: None,
) -> Result:
    """Run the method: pretrain the source (or take a teacher), distil, evaluate with few labels.

    With ``config.run.devices`` the program is started that many times, as Fabric does, and each comes here; under
    torchrun or srun all are there already. They share the work, and each gets the result.

    Args:
        config: The whole run.
        resume: Go on in an existing ``config.run.out``; what is done there is not done again.
        extend: The same, and a finished step 2 goes on to a larger ``config.distill.epochs``.
        steps: Which steps, in order; ``("evaluate",)`` takes the encoders that lie in ``config.run.out``, or
            ``config.evaluate.encoder``.
        siblings: Folders of runs whose evaluations are taken over where they are the same (the baselines of a
            comparison).
        progress: Told of the work; silent by default.
        catalog: Plugins to choose from; default: all that are installed.
        announce: Called once everything is checked, with what will run and the folder it goes to.

    Returns:
        The result, which also lies in the run's folder.

    Raises:
        ConfigError, DataError, PluginError: Found before any training.
        CmcdError: The run itself failed; it can be resumed.

    Example:
        A whole run on a few demo samples, for an epoch of each step; leave the tables out for a real one.

        >>> from cmcd_core import RunConfig, run
        >>> small = {"data": {"loader": "demo", "train": 64, "val": 20, "test": 20}, "pretrain": {"epochs": 1}}
        >>> short = {"distill": {"epochs": 1}, "evaluate": {"baselines": "none", "label_draws": 2}}
        >>> result = run(RunConfig(source="image", target="depth", run={"seed": 1}, **small, **short))
        >>> sorted(entry["encoder"] for entry in result.evaluations)
        ['distilled', 'source', 'untrained']
        >>> 0 <= result.metric("distilled") <= 1
        True
    """
    catalog, now = catalog or load(), started()
    shared = now.several or (steps != ("evaluate",) and wanted(config.run.devices) > 1)
    if now.rank > 0:
        return _followed(config, extend, steps, siblings, catalog)
    fabric = _fabric(config) if now.several else None  # the others wait to be told
    progress = progress or Progress()
    if extend:
        config = _extended(config)
    resolved = resolve(config, catalog, steps)
    _has_encoder(resolved)
    if resume and config.run.out is None:
        raise ConfigError("--resume: a new folder holds no run", "Leave --resume out to start one.")
    path = config.run.out or default_folder(resolved)
    folder = RunFolder(path, Curves(path) if config.run.tensorboard else None)
    if not (resume or extend):
        _is_free(folder)
    if resume or extend:
        if not folder.config_file.exists():
            raise ConfigError(f"--resume: {folder.path} holds no run", "Leave --resume out to start one.")
        _same_configuration(folder, resolved, EXTENDED if extend else FREE.get(steps, ()))
        if resume and steps == STEPS and _is_finished(folder):
            progress.note(f"{folder.path} is finished already; nothing to do")
            _tell(fabric, (None, folder.path))
            return load_run(folder.path)
    announce(resolved, folder.path)
    with folder.locked(), refusals_told():
        if not (resume or extend):
            _is_free(folder)  # still: another process may have been at work between the first look and the lock
        before = folder.read_config() if folder.config_file.exists() else None
        folder.write_config(resolved.config.to_mapping())
        try:
            fabric = fabric or (_fabric(config) if shared else None)
            _tell(fabric, (config, folder.path))
            return _taken(resolved, folder, progress, extend, siblings, fabric)
        except (ConfigError, DataError, PluginError):  # refused before any training: the folder is as it was
            if before is not None:
                folder.write_config(before)
            elif not folder.has_work():
                folder.config_file.unlink()
            raise


def _followed(
    config: RunConfig, extend: bool, steps: tuple[Step, ...], siblings: Sequence[Path], catalog: Catalog
) -> Result:
    """One of several processes, which neither writes nor speaks: the first one says what is run, and where."""
    from .processes import telling, told

    try:
        wanted(config.run.devices)
    except ConfigError as error:
        error.told = True  # by the first one, which was started alike
        raise
    fabric, nothing = _fabric(config), (None, config.run.out)
    with telling(fabric):
        given, path = told(fabric, nothing)
        assert path is not None
        if given is None:
            return load_run(path)
        resolved = resolve(given, catalog, steps)
    return _taken(resolved, RunFolder(path), Progress(), extend, siblings, fabric)


def _fabric(config: RunConfig) -> Fabric:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what processes.KNOWN says of warnings, for those of C++
    from .workbench import shared_fabric

    return shared_fabric(config.run)


def _tell(fabric: Fabric | None, what: tuple[RunConfig | None, Path]) -> None:
    """The other processes, if there are any."""
    if fabric is not None:
        from .processes import told

        told(fabric, what)


def _taken(
    resolved: Resolved,
    folder: RunFolder,
    progress: Progress,
    extend: bool,
    siblings: Sequence[Path],
    fabric: Fabric | None,
) -> Result:
    """The steps, taken; torch comes in here."""
    from .processes import telling
    from .steps import Steps

    with telling(fabric):
        return Steps(resolved, folder, progress, extend, [RunFolder(path) for path in siblings], fabric).go()


def _is_free(folder: RunFolder) -> None:
    if folder.config_file.exists():
        raise ConfigError(
            f"--out {folder.path}: a run is there already",
            "Pass --resume to go on, --extend for more epochs, or another --out.",
        )


def _is_finished(folder: RunFolder) -> bool:
    done = folder.read_result().get("steps", [])
    return set(STEPS) <= set(done) and folder.finished("distill") is not None


def _extended(config: RunConfig) -> RunConfig:
    """``--extend`` leaves step 1 as it was, whatever ``--epochs`` would make of its default."""
    folder = RunFolder(config.run.out) if config.run.out else None
    record = folder.finished("pretrain") if folder else None
    if folder is None or folder.finished("distill") is None:
        raise ConfigError("--extend: no finished step 2 to go on from", "Name its folder with --out; or use --resume.")
    if record and "epochs" in record:
        config = config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"epochs": record["epochs"]})})
    return config


def _has_encoder(resolved: Resolved) -> None:
    """Step 3 alone needs an encoder that is there."""
    elsewhere, out = resolved.config.evaluate.encoder, resolved.config.run.out
    if resolved.steps != ("evaluate",):
        if elsewhere:
            raise ConfigError("evaluate.encoder is for `cmcd evaluate`: this run makes its own target encoder")
    elif elsewhere and out and RunFolder(out).finished("distill"):
        raise ConfigError(
            f"{out} has a target encoder of its own, which evaluate.encoder would replace",
            "Name another folder with --out.",
        )
    elif not elsewhere and not (out and (out / "target" / "config.json").is_file()):
        where = f"{out} has no target/" if out and out.exists() else "none is named"
        raise ConfigError(
            f"step 3 needs a target encoder, and {where}",
            "Name a run folder whose step 2 is done (`cmcd distill`), or an encoder's folder: cmcd evaluate FOLDER.",
        )


def default_folder(resolved: Resolved) -> Path:
    """``runs/<time>-image-depth-cmd``, made."""
    source, target = resolved.source.name, resolved.target.name
    if "distill" in resolved.steps:
        objectives = "-".join(term.key.replace("@", "_") for term, _ in resolved.objectives)
        return new_run_folder(f"{source}-{target}-{objectives}")
    return new_run_folder(f"{source}-pretrain" if "pretrain" in resolved.steps else f"{target}-evaluate")


def _same_configuration(folder: RunFolder, resolved: Resolved, free: tuple[str, ...]) -> None:
    there, here = folder.read_config(), resolved.config.to_mapping()
    if "evaluate." in free:  # baselines come and go, and their objectives' options with them
        named = {"expression", *(term.key for term in resolved.config.objective.terms)}
        for values in (there, here):
            values["objective"] = {key: table for key, table in values.get("objective", {}).items() if key in named}
    different = [key for key in _differences(there, here) if not f"{key}.".startswith(free + WATCHING)]
    if different:
        raise ConfigError(
            f"{folder.path}: its configuration differs in {', '.join(different[:5])}",
            f"Go on with the same flags, or with `cmcd run -c {folder.config_file} --out {folder.path} --resume`.",
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
