"""Small trees of public data sets, and the loader that recognises them."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cmcd_datasets import cmcd_loaders
from PIL import Image

from cmcd_core import PairedLoader


@pytest.fixture(scope="session")
def recognised() -> Callable[..., tuple[str, PairedLoader]]:
    """``recognised(path, **options)``: the name of the one loader that recognises it, and what it builds."""

    def build(path: Path, **options: Any) -> tuple[str, PairedLoader]:
        (plugin,) = (plugin for plugin in cmcd_loaders() if plugin.recognises(path))
        return plugin.name, plugin.build(plugin.options(root=path, **options))

    return build


@pytest.fixture(scope="session")
def picture() -> Callable[..., Path]:
    """``picture(path, value)``: a file of 6 × 4 pixels of this value, or of an array's own."""

    def write(path: Path, value: Any = 100) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = value if isinstance(value, np.ndarray) else np.full((4, 6, 3), value, np.uint8)
        Image.fromarray(array).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def sound() -> Callable[..., Path]:
    """``sound(path)``: a quarter of a second."""

    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((np.sin(np.arange(2000) / 3) * 9000).astype("<i2").tobytes())
        return path

    return write


@pytest.fixture(scope="session")
def everything() -> Callable[[PairedLoader], list[Any]]:
    """Every sample of every split."""

    def listed(loader: PairedLoader) -> list[Any]:
        return [sample for split in ("train", "val", "test") for sample in loader.split(split)]

    return listed
