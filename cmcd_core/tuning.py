"""Equal tuning for every objective of a comparison: temperatures, weights and learning rate, by validation alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .catalog import load
from .config import RunConfig
from .errors import CmcdError, ConfigError
from .grammar import Term, merge, parse_expression
from .pipeline import run
from .progress import Progress

TEMPERATURES = (0.005, 0.5)
LR_FACTOR, WEIGHT_FACTOR = 5.0, 5.0
"""The learning rate and the weights of further terms are searched from their default divided by this to its product."""
DRAWS = 5
"""Label draws of a trial."""


def tuned(
    config: Mapping[str, Any], folder: Path, trials: int, name: str, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Search with Optuna (TPE, seeded; the defaults are the first trial).

    Returns:
        What goes over ``config``, and for the record the values found with their score on val.

    The score is the target's primary metric on val under the first label budget. Trials that are done are kept in
    ``folder`` and not done again.

    Raises:
        ConfigError: Optuna is not installed.
        CmcdError: No trial succeeded.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise ConfigError("--tune needs Optuna, which is not installed", "pip install 'cmcd[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        direction="maximize",
        study_name="tuning",
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        load_if_exists=True,
    )
    # Seeded by what is done: a search that goes on would draw its first points again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), n_startup_trials=max(3, trials // 3))
    space = search_space(config)
    if not study.trials:
        study.enqueue_trial({key: default for key, (default, _, _) in space.items()})

    failed: list[str] = []

    def score(trial: optuna.Trial) -> float:
        picked = {key: trial.suggest_float(key, low, high, log=True) for key, (_, low, high) in space.items()}
        try:
            return _trial(config, picked, folder / f"trial-{trial.number}")
        except Exception as error:
            failed.append(f"trial {trial.number}: {error}")
            raise

    finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
    left = trials - sum(trial.state in finished for trial in study.trials)
    with progress.track(f"tune {name}", max(0, left)) as advance:
        for _ in range(left):
            study.optimize(score, n_trials=1, catch=(Exception,))  # a diverged trial, or a bug of its objective
            advance(1, "")
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if not complete:
        why = failed[0] if failed else "all failed when they were run before"
        raise CmcdError(f"tuning {name}: no trial succeeded ({why})")
    best = study.best_trial
    progress.note(f"tuned {name} on val: {best.value:.3f} with {_words(best.params)} (of {len(complete)} trials)")
    return applied(config, best.params), {"val": best.value, "trials": len(complete), **best.params}


def search_space(config: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Key -> (default, low, high), all searched on a logarithmic scale: the same kinds of keys for every objective."""
    whole = RunConfig.from_mapping(config)
    catalog = load()
    lr = (whole.distill.for_copy() if whole.may_copy else whole.distill).peak_lr
    space = {"distill.lr": (lr, lr / LR_FACTOR, lr * LR_FACTOR)}
    for number, term in enumerate(whole.objective.terms):
        if number:
            space[f"weight.{term.key}"] = (term.weight, term.weight / WEIGHT_FACTOR, term.weight * WEIGHT_FACTOR)
        own = catalog.objective(term.name).options(**whole.objective.options.get(term.key, {}))
        for option in type(own).model_fields:
            if option.startswith("temperature"):
                default = getattr(own, option)
                low, high = TEMPERATURES
                middle = (low * high) ** 0.5 if default is None else min(high, max(low, default))
                space[f"objective.{term.key}.{option}"] = (middle, low, high)
    return space


def applied(config: Mapping[str, Any], picked: Mapping[str, float]) -> dict[str, Any]:
    """Searched values as plain data that goes over ``config``."""
    terms = parse_expression(config["objective"]["expression"])
    out: dict[str, Any] = {"objective": {"expression": _expression(terms, picked)}}
    for key, value in picked.items():
        section, *path = key.split(".")
        if section == "distill":
            out["distill"] = {path[0]: value}
        elif section == "objective":
            out["objective"] = merge(out["objective"], {path[0]: {path[1]: value}})
    return out


def _expression(terms: list[Term], picked: Mapping[str, float]) -> str:
    parts = []
    for term in terms:
        weight = picked.get(f"weight.{term.key}", term.weight)
        alias = f"@{term.key.partition('@')[2]}" if "@" in term.key else ""
        parts.append(f"{weight:.6g}*{term.name}{alias}" if weight != 1 else f"{term.name}{alias}")
    return " + ".join(parts)


def _trial(config: Mapping[str, Any], picked: Mapping[str, float], folder: Path) -> float:
    """Score on val of one setting; its folder goes away, since only the number counts."""
    labels = RunConfig.from_mapping(config).evaluate.labels[:1]
    short = {"labels": list(labels), "baselines": ["none"], "label_draws": DRAWS}
    values = merge(merge(dict(config), applied(config, picked)), {"evaluate": short, "run": {"out": str(folder)}})
    shutil.rmtree(folder, ignore_errors=True)  # a trial that was killed
    try:
        result = run(RunConfig.from_mapping(values))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return float(next(entry["val"] for entry in result.evaluations if entry["encoder"] == "distilled"))


def _words(params: Mapping[str, float]) -> str:
    return ", ".join(f"{key.removeprefix('objective.')}={value:.3g}" for key, value in params.items())
