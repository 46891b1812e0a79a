"""Encoders from elsewhere: saved folders, pretrained teachers, and a student that starts from its source."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .errors import CmcdError, ConfigError, one_line
from .interfaces.encoder import Encoder, Features
from .interfaces.modality import Modality
from .interfaces.side_by_side import SideBySide
from .interfaces.timm_encoder import TimmEncoder


def load_encoder(folder: str | Path) -> Encoder:
    """An encoder that ``Encoder.save`` wrote (a run's ``source/`` or ``target/``), in eval mode.

    Args:
        folder: The encoder's folder. A timm folder (``save_for_hf``) works too.

    Raises:
        ConfigError: There is no encoder, or its weights do not fit.
        PluginError: It needs a modality that is not installed.

    Example:
        >>> encoder = load_encoder(result.folder / "target")
        >>> features = encoder(torch.rand(8, encoder.channels, 64, 64)).pooled
        >>> features.shape == (8, encoder.dim)
        True
    """
    folder = Path(folder)
    config = _read_config(folder)
    encoder: Encoder
    try:
        card = config.get("cmcd") or {}
        if "module" in card:
            raise ConfigError(
                f"{folder}: these are weights of a module of your own ({card['module']}), which cmcd cannot build",
                "Build it and load model.safetensors with safetensors.torch.load_model.",
            )
        if "members" in card:
            encoder = _side_by_side(folder, card)
        elif card.get("foreign"):
            encoder = _foreign(folder, card)
        else:
            encoder = TimmEncoder.from_folder(folder, config)
    except CmcdError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = f"its config.json has no {error}" if isinstance(error, KeyError) else one_line(error)
        raise ConfigError(f"{folder}: not an encoder that cmcd or timm saved ({reason})") from error
    return encoder.eval()


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder}: no encoder here (no config.json)", "An encoder's folder is a run's source/ or target/."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: not readable: {error}") from None
    if not (folder / "model.safetensors").is_file():
        raise ConfigError(f"{folder}: config.json has no model.safetensors beside it")
    return config


def _foreign(folder: Path, card: dict[str, Any]) -> Encoder:
    """Rebuild an encoder that is no timm architecture through its modality's plugin."""
    from .catalog import load

    plugin = load().modality(card["modality"])
    modality = plugin.build(plugin.options(**card.get("options", {})))
    arguments = dict(card.get("arguments", {}))
    encoder = modality.encoder(arguments.pop("architecture", None), None, **arguments)
    encoder.load_state_dict(load_file(folder / "model.safetensors"))
    encoder.arguments = dict(card.get("arguments", {}))
    own = ("arguments", "foreign", "note")
    encoder.card = {key: value for key, value in card.items() if key not in own}
    return encoder


def _side_by_side(folder: Path, card: dict[str, Any]) -> Encoder:
    """Put the members that ``SideBySide.save`` wrote together again."""
    if odd := [name for name in card["members"] if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name)]:
        raise ConfigError(f"{folder}: its config.json names a member {odd[0]!r}; expected the name of a folder in it")
    statistics = load_file(folder / "model.safetensors")
    encoder = SideBySide([load_encoder(folder / name) for name in card["members"]], **statistics)
    encoder.card = {key: value for key, value in card.items() if key not in ("members", "foreign", "note")}
    return encoder


def load_teacher(name: str, architecture: str | None, modality: Modality) -> Encoder:
    """``--teacher``: an encoder folder, a .safetensors file, or a timm name (pretrained, from the hub).

    Args:
        name: What the user passed.
        architecture: timm architecture of a file; None: taken from the file's name.

    Raises:
        ConfigError: It cannot be found, or its weights are of another architecture or channel count.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        encoder = load_encoder(path)
    elif path.suffix == ".safetensors":
        encoder = modality.encoder(architecture or architecture_in(path.name), _existing(path))
    elif path.exists() or path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".onnx", ".pkl"):
        raise ConfigError(
            f"--teacher {name}: expected a timm name, an encoder's folder or a .safetensors file",
            "Other checkpoint formats can hold code; convert them to safetensors first.",
        )
    elif len(path.parts) > 1 and not name.startswith("hf-hub:"):
        raise ConfigError(f"--teacher {name}: no such folder")
    else:
        encoder = modality.encoder(name, "pretrained")
    if encoder.channels != modality.channels:
        raise ConfigError(
            f"--teacher {name} takes {encoder.channels} channels, but the source modality gives {modality.channels}"
        )
    return encoder.eval().requires_grad_(False)


def fixed_size(encoder: Encoder) -> int | None:
    """The only picture side in pixels that a timm architecture takes, such as a ViT's; None: any."""
    if not isinstance(encoder, TimmEncoder):
        return None
    pretrained = encoder.model.pretrained_cfg
    size: int | None = pretrained["input_size"][-1] if pretrained.get("fixed_input_size") else None
    return size


def blueprint(encoder: Encoder) -> dict[str, Any]:
    """Arguments of ``Modality.encoder`` that build this architecture again; the core's own are kept with it."""
    if encoder.arguments or not isinstance(encoder, TimmEncoder):
        return dict(encoder.arguments)
    return {"architecture": encoder.architecture, **encoder.model_args}


def brought(encoder: Encoder) -> bool:
    """Whether it is a timm network with weights from elsewhere, and none that began here with random ones."""
    return isinstance(encoder, TimmEncoder) and not encoder.arguments


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"--teacher {path}: no such file")
    return path


def architecture_in(file_name: str) -> str:
    """The timm architecture that a file is named after: ``resnet18.a1_in1k.safetensors`` -> ``resnet18``.

    Raises:
        ConfigError: The name says nothing.
    """
    import timm

    stem = file_name.removesuffix(".safetensors")
    known = set(timm.list_models())
    for candidate in (stem, stem.split(".")[0], stem.split("-")[0]):
        if candidate in known:
            return candidate
    raise ConfigError(
        f"--teacher {file_name}: the file's name does not say which timm architecture it holds",
        "Name it with --teacher-architecture.",
    )


@dataclass(frozen=True)
class Start:
    """What a student took over: ``copied`` of its ``total`` tensors, some of them ``adapted`` to other channels."""

    copied: int
    total: int
    adapted: tuple[str, ...]

    def __str__(self) -> str:
        summed = f"; summed over channels: {', '.join(self.adapted)}" if self.adapted else ""
        return f"student starts from the source: {self.copied} of {self.total} tensors copied{summed}"


@torch.no_grad()
def start_from(student: Encoder, source: Encoder) -> Start:
    """Copy the source's weights into the student wherever name and shape allow.

    A first convolution with other input channels gets the source's, summed over channels and spread evenly, as
    timm does for pretrained weights.

    Raises:
        ConfigError: Nothing fits.
    """
    own, given = student.state_dict(), source.state_dict()
    copied, adapted = 0, []
    for name, tensor in own.items():
        other = given.get(name)
        if other is None or not tensor.is_floating_point():
            continue
        if other.shape == tensor.shape:
            tensor.copy_(other)
            copied += 1
        elif (
            other.ndim == tensor.ndim == 4
            and (other.shape[1], tensor.shape[1]) == (source.channels, student.channels)
            and (other.shape[0], *other.shape[2:]) == (tensor.shape[0], *tensor.shape[2:])
        ):
            tensor.copy_(other.sum(1, keepdim=True).expand_as(tensor) / tensor.shape[1])
            adapted.append(f"{name} ({other.shape[1]} -> {tensor.shape[1]} channels)")
            copied += 1
    if not copied:
        raise ConfigError(
            "--init source: the student shares no weights with the source",
            "Give both the same architecture (--student), or use --init random.",
        )
    return Start(copied, sum(tensor.is_floating_point() for tensor in own.values()), tuple(adapted))


class AsItIs(Encoder):
    """The source encoder on another modality's input: channels are repeated, or averaged and repeated.

    Args:
        source: The encoder.
        channels: Of the other modality.
    """

    def __init__(self, source: Encoder, channels: int) -> None:
        super().__init__()
        self.source, self.channels = source, channels
        self.dim, self.dense_dim, self.pyramid_dims = source.dim, source.dense_dim, source.pyramid_dims

    def forward(self, x: Tensor) -> Features:
        if x.shape[1] != self.source.channels:
            x = x.mean(1, keepdim=True).expand(-1, self.source.channels, -1, -1)
        features: Features = self.source(x.contiguous(memory_format=torch.channels_last))
        return features
