"""Step 2 of one run: a student, the frozen source's features, and an objective, into the run's folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from .alignment import dense_grid
from .data.bank import FeatureBank, feature_bank
from .data.digest import digest, weights_digest
from .encoders import load_encoder
from .files import write_json, write_tensors
from .grammar import Term
from .interfaces.encoder import Encoder
from .processes import first
from .resolve import Chosen, Resolved
from .run_folder import RunFolder
from .settled import settle, settled
from .stages.distill import distill
from .stages.pairs import Further, Pairs, bank_features, match_pairs
from .stages.training import Session, steps_an_epoch
from .stages.weighted_sum import WeightedSum
from .students import settled_start, student
from .workbench import Workbench, frozen, widths


@dataclass(frozen=True)
class Lesson:
    """One objective to teach by.

    Attributes:
        stage: Names its checkpoints and its lines of metrics.jsonl.
        title: The same for people.
        terms: The weighted sum's parts.
        where: Folder of the taught encoder, within the run's.
    """

    stage: str
    title: str
    expression: str
    terms: tuple[tuple[Term, Chosen], ...]
    where: str

    @classmethod
    def of(cls, resolved: Resolved) -> Lesson:
        """What step 2 of a run teaches."""
        return cls("distill", "step 2", resolved.expression, resolved.objectives, "target")


def distilled(
    bench: Workbench, folder: RunFolder, source: Encoder, lesson: Lesson, *, extend: bool = False
) -> tuple[Encoder, dict[str, Any]]:
    """A target encoder, taught on unlabelled pairs; one that is there already is not taught again.

    Raises:
        ConfigError: The folder holds one that was taught otherwise.
    """
    where, seed = folder.path / lesson.where, bench.seed_for("distill")
    with first(bench.fabric):
        pairs, of_pairs = _pairs(bench, source)
        config = settled_start(bench, folder, source)
    epochs = config.epochs_for(len(pairs))
    terms = [[term.weight, term.key, chosen.identity] for term, chosen in lesson.terms]
    recipe = config.model_dump(mode="json", exclude={"data", "epochs", "epochs_factor"}) | {"lr": config.peak_lr}
    inputs = digest([recipe, seed, terms, weights_digest(source), bench.target.identity, *of_pairs])
    if record := settled(
        bench.fabric, folder, lesson.stage, lesson.title, inputs, bench.progress, epochs, extend=extend
    ):
        return frozen(bench, load_encoder(where)), record["summary"]
    target = student(bench, folder, source)
    objective = _objective(bench, source, target, lesson)
    _tell_of_unused_weights(bench, pairs, objective)
    with first(bench.fabric):
        bank = _bank(bench, source, target, objective)
    history = distill(
        bench.fabric, source, target, objective, bank,
        bench.views("distill", "target", "train"), pairs, config, epochs, seed=seed,
        session=Session.within(folder, lesson.stage, inputs, bench.progress, bench.fabric),
        title=f"2 distil by {lesson.expression}",
    )  # fmt: skip
    summary = {"epochs": epochs, "loss": history.last, "pairs": len(pairs), "objective": lesson.expression}

    def save() -> None:
        target.save(where)
        heads = folder.path / "objective" if lesson.where == "target" else where / "objective"
        _save_objective(heads, objective, lesson)

    settle(bench.fabric, folder, lesson.stage, inputs, {"epochs": epochs, "summary": summary}, save)
    return frozen(bench, target), summary


def taught_objective(
    bench: Workbench, folder: RunFolder, source: Encoder, target: Encoder, lesson: Lesson, *, trained: bool = True
) -> WeightedSum:
    """The run's objective as it was saved after step 2, or as it was before it."""
    config = settled_start(bench, folder, source)
    objective = _objective(bench, source, target, lesson)
    pairs, _ = _pairs(bench, source)
    steps = config.epochs_for(len(pairs)) * steps_an_epoch(len(pairs), config.batch_size)
    bank = bank_features(_bank(bench, source, target, objective), pairs)
    objective.attach(source, target, bank=bank, pairs=len(pairs), steps=steps)
    if trained:
        objective.load_state_dict(load_file(folder.path / "objective" / "objective.safetensors"))
    return objective.to(bench.fabric.device).eval().requires_grad_(False)


def _objective(bench: Workbench, source: Encoder, target: Encoder, lesson: Lesson) -> WeightedSum:
    seed = bench.seed_for("distill")
    dims = min(source.dense_dim, bench.resolved.config.distill.dense_dims or source.dense_dim)
    about = replace(widths(source, target), source_dense=dims)
    terms = [(term.weight, term.key, bench.objective(chosen, about, seed)) for term, chosen in lesson.terms]
    return WeightedSum(terms)


def _tell_of_unused_weights(bench: Workbench, pairs: Pairs, objective: WeightedSum) -> None:
    """A weight that the data give and the loss leaves out would look as if it had counted."""
    if pairs.weight.min() < pairs.weight.max():
        for key in objective.without_weights():
            bench.note(f"{key} does not use the pairs' weights: every pair counts alike in it")


def _pairs(bench: Workbench, source: Encoder) -> tuple[Pairs, list[Any]]:
    """Step 2's training pairs and the source rows that belong to none; and what they are made from, for a digest."""
    weights = [sample.weight for sample in bench.samples("distill", "train")]
    views, source_views = bench.views("distill", "target", "train"), bench.views("distill", "source", "train")
    further = _further_rows(bench, source)
    names = further.names.tolist() if further else None
    made_from = [views.decoded.digest, source_views.decoded.digest, weights, names]
    return match_pairs(source_views, views, weights, further), made_from


def _bank(bench: Workbench, source: Encoder, target: Encoder, objective: WeightedSum) -> FeatureBank:
    """What the objective needs of the frozen source on its training views, from the cache or computed now."""
    config = bench.resolved.config.distill
    grid = dense_grid(bench, source, target) if "dense" in objective.needs else None
    return feature_bank(
        source,
        bench.views("distill", "source", "train"),
        count=config.views,
        seed=bench.seed_for("distill"),
        area_min=config.crop_min,
        flip=config.flip,
        progress=bench.progress,
        title="2 source features",
        grid=grid,
        dims=min(source.dense_dim, config.dense_dims) if grid and config.dense_dims else None,
    )


def whole_pictures(bench: Workbench, step: Any, encoder: Encoder) -> Tensor:
    """(N, D) features of one step's source views, uncropped."""
    bank = feature_bank(
        frozen(bench, encoder), bench.views(step, "source", "train"), count=1, seed=0, area_min=1.0, flip=False,
        progress=bench.progress, title="2 source features, whole",
    )  # fmt: skip
    return bank.whole()


def _further_rows(bench: Workbench, source: Encoder) -> Further | None:
    """Source samples of step 1's data, where those are others than step 2's: further candidates."""
    places = bench.resolved.places
    if "pretrain" not in places or places["pretrain"] is places["distill"] or not has_own_source_rows(bench):
        return None
    views = bench.views("pretrain", "source", "train")
    bench.note(f"{len(views)} source samples of {places['pretrain'].name} join step 2's candidates")
    return Further(whole_pictures(bench, "pretrain", source), views.decoded.names)


def has_own_source_rows(bench: Workbench) -> bool:
    """Step 1's data hold source samples (a teacher's run may have none there)."""
    name, train = bench.resolved.source.name, bench.samples("pretrain", "train")
    return any(name in sample.views for sample in train)


def _save_objective(folder: Path, objective: WeightedSum, lesson: Lesson) -> None:
    """Heads and temperatures, so that retrieval and distances can be asked for later."""
    write_tensors(folder / "objective.safetensors", objective.state_dict())
    parts = [{"weight": term.weight, "key": term.key, **chosen.identity} for term, chosen in lesson.terms]
    write_json(folder / "objective.json", {"expression": lesson.expression, "terms": parts})
