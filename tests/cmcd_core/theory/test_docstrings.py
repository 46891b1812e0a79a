"""The examples in the docstrings of the theory work as they stand, and importing it costs no torch."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import cmcd_core.theory
from cmcd_core.theory import bound, distance

MODULES = [found.name for found in pkgutil.iter_modules(cmcd_core.theory.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(f"cmcd_core.theory.{name}")
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


@pytest.mark.parametrize(
    "function", [getattr(module, name) for module in (distance, bound) for name in module.__all__ if name[0].islower()]
)
def test_every_public_function_has_an_example(function: object) -> None:
    for part in ("Args:", "Raises:", "Example:"):
        assert part in (function.__doc__ or "")


def test_import_is_light() -> None:
    code = (
        "import sys, cmcd_core.theory.distance, cmcd_core.theory.bound; print({'torch', 'sklearn'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "set()"
