"""Encoders that leave cmcd: timm's folder layout or ONNX, checked against the original, with a model card beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .catalog import Catalog, load
from .errors import CmcdError, ConfigError
from .files import made_folder, replacing, write_text
from .interfaces.loader import Split
from .interfaces.timm_encoder import TimmEncoder
from .model_card import MADE, model_card
from .onnx_format import Portable, require_onnx, run_onnx, write_onnx
from .predicting import Predictor, open_predictor
from .progress import Progress
from .reading import Reader, open_reader

Format = Literal["timm", "onnx"]
INPUTS = 16
"""Real inputs that both are asked."""
TOLERANCE = 1e-4
"""Largest difference, as a share of the largest value: float32 sums in another order differ by less."""
SPLITS: tuple[Split, ...] = ("test", "val", "train")


@dataclass(frozen=True)
class Exported:
    """What was written, and how far it is from the original.

    Attributes:
        files: All of ``folder``'s that this export wrote.
        outputs: Names of the outputs, in order.
        inputs: What both were asked: how many, and whether they were real.
        difference: The largest, as a share of the original's largest value.
    """

    folder: Path
    files: tuple[Path, ...]
    outputs: tuple[str, ...]
    inputs: str
    difference: float


def export(
    encoder: str | Path,
    format: Format,
    out: str | Path | None = None,
    *,
    evaluation: int | None = None,
    progress: Progress | None = None,
    catalog: Catalog | None = None,
) -> Exported:
    """Write an encoder for use without cmcd; it counts only if it gives what the original gives.

    Args:
        encoder: A run's folder (its target encoder is meant), or an encoder's.
        format: ``"timm"``: what ``timm.create_model("local-dir:…")`` reads; ``"onnx"``: one graph, normalisation
            inside, any batch size.
        out: The folder; None: ``export/`` in the run's or encoder's.
        evaluation: ONNX: with the head of ``evaluations/<n>/``, and the encoder that it was trained with.
        progress: Told of the work; silent by default.
        catalog: Plugins to choose from; default: all that are installed.

    Raises:
        ConfigError: There is no such encoder, it has no such format, or a package is missing.
        CmcdError: It cannot be exported, or gives something else than the original; nothing was written then.

    Example:
        >>> from cmcd_core import export
        >>> done = export(result.folder, "timm")
        >>> sorted(file.name for file in done.files), done.difference < 1e-5
        (['README.md', 'config.json', 'model.safetensors'], True)
    """
    if format not in ("timm", "onnx"):
        raise ConfigError(f"--format {format}: expected timm or onnx")
    if format == "timm" and evaluation is not None:
        raise ConfigError("--evaluation: timm's layout holds no head", "Use --format onnx, or leave --evaluation out.")
    path, progress, catalog = Path(encoder), progress or Progress(), catalog or load()
    predictor = open_predictor(path, evaluation, None, None, catalog) if evaluation is not None else None
    reader = predictor.reader if predictor else open_reader(path, None, catalog)
    folder = Path(out) if out is not None else path / "export"
    _may_write_card(made_folder(folder))
    if format == "onnx":
        require_onnx()
    inputs, said = _inputs(reader, progress)
    if format == "onnx":
        files, outputs, difference = _to_onnx(reader, predictor, inputs, folder)
    else:
        files, outputs, difference = _to_timm(reader, inputs, folder)
    shape = None if inputs is None else tuple(inputs.shape[1:])
    card = model_card(reader, folder, shape, predictor.entry if predictor else None)
    write_text(folder / "README.md", card)
    return Exported(folder, (*files, folder / "README.md"), outputs, said, difference)


def _may_write_card(folder: Path) -> None:
    file = folder / "README.md"
    if file.is_file() and MADE not in file.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"{file} is not of `cmcd export`, and would be overwritten", "Pass another --out.")


def _inputs(reader: Reader, progress: Progress) -> tuple[Tensor | None, str]:
    """(n, C, H, W) of the run's own data, as the encoder sees them; generated ones where there are none.

    None: those would have another shape than real ones, as only pictures are brought to the encoder's size.
    """
    for split in SPLITS if reader.run is not None else ():
        try:
            there = reader.split(None, split)
            items = there.items(there.samples[:INPUTS])
            batch = next(iter(reader.batches(items, progress.note, there.bound)))
        except CmcdError:  # the data may be gone or elsewhere: the next split, then generated ones
            continue
        if len(batch.keys) >= 2:
            return batch.pixels, f"{len(batch.keys)} {split} inputs of {there.name}"
    return (_generated(reader) if reader.bound.modality.spatial else None), f"{INPUTS} generated inputs"


def _generated(reader: Reader) -> Tensor:
    shape = (INPUTS, reader.encoder.channels, reader.size, reader.size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(reader.device)


def _to_onnx(
    reader: Reader, predictor: Predictor | None, inputs: Tensor | None, folder: Path
) -> tuple[tuple[Path, ...], tuple[str, ...], float]:
    if inputs is None:
        raise ConfigError(
            f"{reader.folder}: {reader.bound.name} has a shape of its own, and there is no input to see it from",
            "Export the run's folder, where its data are.",
        )
    name = reader.folder.resolve().name if predictor is None else f"evaluation-{predictor.number}"
    path = folder / f"{name}.onnx"
    module, inputs = Portable(reader.encoder, predictor).eval().cpu(), inputs.cpu().contiguous()
    about: dict[str, Any] = {
        "modality": reader.bound.name, "options": reader.encoder.card.get("options", {}), "range": [0, 1],
    }  # fmt: skip
    if predictor is not None:
        about["classes"] = list(predictor.classes or ())
    difference = 0.0
    with replacing(path) as partial:
        names = write_onnx(module, inputs[:2], about, partial)
        for batch in (inputs, inputs[:1], inputs[:3]):
            with torch.inference_mode():
                expected = {name: value.numpy() for name, value in module.named(batch).items()}
            difference = max(difference, _difference(expected, run_onnx(partial, batch), path))
    return (path,), names, difference


def _to_timm(reader: Reader, inputs: Tensor | None, folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...], float]:
    encoder = reader.encoder
    if not isinstance(encoder, TimmEncoder):
        raise ConfigError(
            f"{reader.folder}: a {type(encoder).__name__} is no timm architecture, so timm cannot load it",
            "Use --format onnx.",
        )
    inputs = _generated(reader) if inputs is None else inputs
    # Saved beside the goal first: what does not pass the check must not replace what did.
    trial = encoder.save(folder / ".trial")
    try:
        with torch.inference_mode():
            expected = {"pooled": encoder(inputs).pooled.cpu().numpy()}
        difference = _difference(expected, {"pooled": _by_timm(trial, inputs.cpu())}, folder)
        names = ("model.safetensors", "config.json")
        for name in names:
            (trial / name).replace(folder / name)
    finally:
        for file in trial.iterdir():
            file.unlink()
        trial.rmdir()
    return tuple(folder / name for name in names), ("pooled",), difference


def _by_timm(folder: Path, inputs: Tensor) -> np.ndarray:
    """Features as somebody without cmcd gets them: timm's loader, then mean and std from the configuration."""
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    config: Any = model.pretrained_cfg
    mean, std = (torch.tensor(config[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        features: np.ndarray = model((inputs - mean) / std).numpy()
    return features


def _difference(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], path: Path) -> float:
    """The largest over all outputs: of numbers as a share of the largest; of class ids the share that differs.

    Raises:
        CmcdError: It is too large, or the outputs are others.
    """
    largest = 0.0
    for name, value in expected.items():
        other = got[name]
        if other.shape != value.shape:
            raise CmcdError(f"{path}: not written: {name} has shape {other.shape}, the original {value.shape}")
        if np.issubdtype(value.dtype, np.floating):
            apart = float(np.abs(value - other).max() / max(float(np.abs(value).max()), 1e-12))
        else:
            apart = float((value != other).mean())
        if not apart <= (TOLERANCE if np.issubdtype(value.dtype, np.floating) else 1e-3):
            raise CmcdError(
                f"{path}: not written: its {name} differs from the original's by {apart:.1e}",
                "Please report the architecture, and the versions that `cmcd doctor` prints.",
            )
        largest = max(largest, apart)
    return largest
