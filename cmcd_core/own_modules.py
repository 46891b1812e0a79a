"""``cmcd_core.distill``: step 2 for one's own modules and data set, without any plugin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .built import built_objective
from .catalog import load
from .config import RunSection
from .data.digest import digest, weights_digest
from .data.seeds import seeded
from .errors import ConfigError, DataError
from .files import write_json, write_tensors
from .grammar import parse_expression
from .interfaces.encoder import Encoder, Features, write_encoder
from .interfaces.objective import Objective
from .progress import Progress
from .resolve import chosen_objective
from .result import SCHEMA, Result, environment
from .run_folder import LOCK, RunFolder, new_run_folder
from .settled import refuse_another
from .stages.distill import Recipe, teach
from .stages.training import Session, shuffled_batches
from .stages.weighted_sum import WeightedSum
from .workbench import make_fabric, widths


def distill(
    source: nn.Module,
    target: nn.Module,
    pairs: Dataset[tuple[Tensor, Tensor]],
    objective: str | Objective = "objectives:cmd",
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    epochs: int = 20,
    batch_size: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    ema: float = 0.99,
    chunk: int | None = None,
    cache_source: bool = False,
    workers: int = 0,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto",
    progress: Progress | None = None,
) -> Result:
    """Distil ``source`` into ``target``, any two modules, on pairs from any data set; no plugin is needed.

    Args:
        source: Frozen: run in eval mode without gradients, and left as it was. A batch -> (N, D) features, or
            :class:`cmcd_core.Features`.
        target: Trained in place. A batch -> (N, D') features, or :class:`cmcd_core.Features`.
        pairs: Map-style; item i is (source input, target input), two tensors of any shapes that stay the same.
        objective: An expression such as ``"cmd + 0.5*cmc"``, or an :class:`cmcd_core.Objective`.
        options: Options of each term of the expression: ``{"cmd": {"queue": "bank"}}``.
        epochs, batch_size, lr, weight_decay: AdamW with warm-up and cosine decay. ``batch_size`` is the global one.
        ema: Decay of the target's moving average, where the objective needs one.
        chunk: Inputs that go through ``target`` at a time, to save memory: the loss and its gradient are the whole
            batch's. None: all.
        cache_source: Compute the source's features once: right where item i's source input is always the same.
            False: they are computed for each batch, from what the data set gives (a shared crop, say).
        workers: Processes that read ``pairs``.
        seed: Seed of the batches, the heads' weights and torch's generators.
        out: Folder of the result; None: a new one under runs/.
        resume: Go on in ``out`` where it stopped.
        device, precision: As in ``[run]``.
        progress: Told of the work; silent by default.

    Returns:
        The result, its ``values["distill"]`` the epochs and the loss. ``out`` holds target/, objective/ and
        metrics.jsonl. A module of your own is saved as model.safetensors, its keys those of ``target``.

    Raises:
        ConfigError: A wrong option, or a folder that is in use.
        DataError: The data set's items are not pairs of tensors, or fewer than two.
        CmcdError: The training failed; it can be resumed.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> photos, sounds = torch.rand(64, 3, 16, 16), torch.rand(64, 100)
        >>> teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 32))
        >>> student = torch.nn.Linear(100, 8)
        >>> result = distill(teacher, student, TensorDataset(photos, sounds), "cmd + 0.5*cmc", epochs=2)
        >>> result.values["distill"]["epochs"], (result.folder / "target" / "model.safetensors").is_file()
        (2, True)
    """
    progress = progress or Progress()
    recipe = Recipe(epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay, ema=ema, chunk=chunk)
    count = _count(pairs)
    fabric, used = make_fabric(RunSection(device=device, precision=precision))
    teacher, student = _encoder(source, pairs, 0, fabric.device), _encoder(target, pairs, 1, fabric.device)
    loss, parts = _objective(objective, options or {}, teacher, student, seed)
    folder = RunFolder(Path(out) if out else new_run_folder(f"{type(source).__name__}-{type(target).__name__}".lower()))
    if folder.path.exists() and any(path.name != LOCK for path in folder.path.iterdir()) and not resume:
        raise ConfigError(f"{folder.path}: something is there already", "Pass resume=True, or another out.")
    with folder.locked(), _frozen(source):
        bank = _features(teacher, pairs, batch_size, workers, seed, fabric.device, progress)
        shapes = [[name, list(tensor.shape)] for name, tensor in student.state_dict().items()]
        inputs = digest([vars(recipe) | {"epochs": None}, seed, parts, weights_digest(teacher), count, shapes])
        refuse_another(folder, "distill", "training", inputs)
        history = teach(
            fabric,
            teacher,
            student,
            loss,
            recipe,
            _batches(pairs, bank if cache_source else teacher, batch_size, workers, seed, fabric.device),
            bank=Features(pooled=bank, index=torch.arange(count)),
            pairs=count,
            seed=seed,
            session=Session.within(folder, "distill", inputs, progress, fabric),
            keys=lambda rows: [f"pairs[{row}]" for row in rows.tolist()],
        )
        target.eval()
        student.save(folder.path / "target")
        write_tensors(folder.path / "objective" / "objective.safetensors", loss.state_dict())
        return _finish(
            folder, source, target, parts, history.last, recipe, count, seed, environment(str(fabric.device), used)
        )


class Own(Encoder):
    """A user's module as an Encoder; its parameters keep their names in what is saved."""

    def __init__(self, module: nn.Module, channels: int, dim: int) -> None:
        super().__init__()
        self.module, self.channels, self.dim = module, channels, dim

    def forward(self, x: Tensor) -> Features:
        out = self.module(x)
        return out if isinstance(out, Features) else Features(pooled=out)

    def save(self, folder: str | Path) -> Path:
        name = f"{type(self.module).__module__}.{type(self.module).__qualname__}"
        note = "a module of one's own: build it, then load model.safetensors into it"
        card = {"module": name, "dim": self.dim, "foreign": True, "note": note}
        return write_encoder(Path(folder), {"architecture": None, "cmcd": card}, self.module.state_dict())


def _count(pairs: Any) -> int:
    if not isinstance(pairs, Sized) or not hasattr(pairs, "__getitem__"):
        raise DataError(f"pairs: expected a map-style Dataset with a length, got {type(pairs).__name__}")
    if len(pairs) < 2:
        raise DataError(f"pairs: step 2 needs at least 2, there are {len(pairs)}")
    return len(pairs)


def _pair(pairs: Any, row: int) -> tuple[Tensor, Tensor]:
    item = pairs[row]
    if not isinstance(item, tuple | list) or len(item) != 2 or not all(isinstance(x, Tensor) for x in item):
        raise DataError(f"pairs[{row}]: expected (source input, target input), two tensors, got {type(item).__name__}")
    return item[0], item[1]


def _encoder(module: nn.Module, pairs: Any, side: int, device: torch.device) -> Encoder:
    """The module as an Encoder; one item tells its width.

    Raises:
        ConfigError: It returns neither (N, D) features nor Features.
    """
    module.to(device)
    if isinstance(module, Encoder):
        return module
    x = torch.stack([_pair(pairs, row)[side] for row in (0, 1)]).to(device)
    training = module.training
    with torch.no_grad():
        out = module.eval()(x)
    module.train(training)
    pooled = out.pooled if isinstance(out, Features) else out
    name = ("source", "target")[side]
    if not isinstance(pooled, Tensor) or pooled.ndim != 2 or len(pooled) != 2:
        got = f"shape {tuple(pooled.shape)}" if isinstance(pooled, Tensor) else type(pooled).__name__
        raise ConfigError(f"{name}: two inputs should give (2, D) features, got {got}", "Pool or flatten its output.")
    return Own(module, x.shape[1], pooled.shape[1])


def _objective(
    objective: str | Objective, options: Mapping[str, Mapping[str, Any]], source: Encoder, target: Encoder, seed: int
) -> tuple[WeightedSum, list[Any]]:
    """The objective as a weighted sum, and what identifies it."""
    if isinstance(objective, Objective):
        return WeightedSum([(1.0, "own", objective)]), [type(objective).__qualname__]
    catalog, terms, parts = load(), [], []
    wanted = parse_expression(objective)
    if unknown := sorted(set(options) - {term.key for term in wanted}):
        raise ConfigError(f"options: {objective!r} has no term {unknown[0]!r}")
    for term in wanted:
        chosen = chosen_objective(catalog, term, options.get(term.key, {}))
        with seeded(seed):
            terms.append((term.weight, term.key, built_objective(chosen, widths(source, target))))
        parts.append({"weight": term.weight, "key": term.key, **chosen.identity})
    return WeightedSum(terms), parts


@contextmanager
def _frozen(source: nn.Module) -> Iterator[None]:
    """In eval mode for as long as the block runs; left as it was found."""
    modes = {module: module.training for module in source.modules()}
    source.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def _features(
    encoder: Encoder, pairs: Any, batch_size: int, workers: int, seed: int, device: torch.device, progress: Progress
) -> Tensor:
    """(N, D) source features of every pair, on the CPU; items that differ each time are drawn from ``seed``."""
    loader = DataLoader(pairs, batch_size=batch_size, num_workers=workers)
    out = []
    with seeded(seed), progress.track("2 source features", len(pairs)) as advance:
        for item in loader:
            out.append(encoder(item[0].to(device)).pooled.float().cpu())
            advance(len(out[-1]), "")
    return torch.cat(out)


def _batches(
    pairs: Any, source: Tensor | Encoder, batch_size: int, workers: int, seed: int, device: torch.device
) -> Any:
    """Epoch -> batches for :func:`teach`, in an order that follows from seed and epoch alone."""

    def make(epoch: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        order = shuffled_batches(len(pairs), batch_size, seed, epoch)
        loader = DataLoader(pairs, batch_sampler=[rows.tolist() for rows in order], num_workers=workers)
        for rows, (first, second) in zip(map(torch.from_numpy, order), loader, strict=True):
            if isinstance(source, Tensor):
                features = source[rows].to(device)
            else:
                with torch.no_grad():
                    features = source(first.to(device)).pooled.float()
            index = rows.to(device)
            yield len(rows), (second.to(device), features, index, index, torch.ones(len(rows), device=device))

    return make


def _finish(
    folder: RunFolder,
    source: nn.Module,
    target: nn.Module,
    parts: list[Any],
    loss: float | None,
    recipe: Recipe,
    count: int,
    seed: int,
    machine: Mapping[str, Any],
) -> Result:
    values = {
        "schema": SCHEMA,
        "cmcd": version("cmcd"),
        "steps": ["distill"],
        "source": type(source).__qualname__,
        "target": type(target).__qualname__,
        "objective": parts,
        "data": "own",
        "seed": seed,
        "environment": dict(machine),
        "distill": {**vars(recipe), "loss": loss, "pairs": count},
        "evaluations": [],
    }
    write_json(folder.result_file, values)
    return Result(folder.path, values)
