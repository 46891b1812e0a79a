"""Listing plugins must not cost torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "PIL", "torchvision", "torchmetrics")


@pytest.mark.parametrize("module", ["cmcd_image", "cmcd_depth", "cmcd_recognition"])
def test_light_import(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_build_and_descriptor() -> None:
    import cmcd_image

    (plugin,) = cmcd_image.cmcd_modalities()
    modality = plugin.build(plugin.options())
    assert (plugin.name, modality.channels, modality.spatial, modality.storage) == ("image", 3, True, "uint8")
