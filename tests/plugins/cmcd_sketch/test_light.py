"""Listing the plugin must not cost torch."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "numpy", "PIL", "scipy")


def test_light_import() -> None:
    code = f"import sys, cmcd_sketch; print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_build_and_descriptor() -> None:
    import cmcd_sketch

    (plugin,) = cmcd_sketch.cmcd_modalities()
    modality = plugin.build(plugin.options())
    assert (plugin.name, modality.channels, modality.spatial, modality.storage) == ("sketch", 1, True, "uint8")
    for name, field in plugin.options.model_fields.items():
        assert field.description, name
