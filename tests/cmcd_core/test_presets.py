"""--preset: settings that go well together, under the other flags and over a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmcd_core import ConfigError, RunConfig
from cmcd_core.catalog import load
from cmcd_core.cli.options import configuration
from cmcd_core.comparing import variants
from cmcd_core.presets import preset, preset_names
from cmcd_core.resolve import resolve


def configured(base: dict[str, object], **flags: object) -> RunConfig:
    given = {"target": "depth", **flags}
    return RunConfig.from_mapping(configuration(base, given, None, ()))


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_is_a_run(name: str) -> None:
    resolved = resolve(configured({}, preset=name), load())
    assert resolved.config.objective.expression == preset(name)["objective"]["expression"]


def test_a_preset_goes_over_a_file_and_under_flags() -> None:
    wanted = preset("recommended")
    file = {"objective": {"expression": "cmc", "cmc": {"temperature": 0.2}}, "distill": {"lr": 0.5, "crop_min": 0.9}}
    config = configured(file, preset="recommended", epochs=7)
    assert config.objective.expression == wanted["objective"]["expression"]
    assert config.objective.options.get("cmc", {}) == wanted["objective"].get("cmc", {})  # not the file's
    assert config.distill.epochs == 7
    assert config.distill.crop_min == 0.9  # which the preset does not set


def test_another_objective_leaves_the_presets_out_and_keeps_the_rest() -> None:
    config = configured({}, preset="recommended", objective="l2")
    assert config.objective.expression == "l2"
    assert config.objective.options == {}
    assert config.distill.epochs_factor == preset("recommended")["distill"]["epochs_factor"]


def test_the_objective_of_a_file_may_be_a_bare_name(tmp_path: Path) -> None:
    assert configured({"objective": "cmc"}, preset="recommended").objective.expression != "cmc"


def test_an_unknown_preset_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"^there is no preset '\w+'") as caught:
        configured({}, preset="best")
    assert "recommended" in caught.value.hint
    with pytest.raises(ConfigError, match=r"^there is no preset '\w+'"):
        variants(["cmd", "preset:best"], [])


def test_a_preset_joins_a_comparison() -> None:
    own, other = variants(["preset:recommended", "cmd"], [])
    assert own.values == preset("recommended")
    assert own.slug != other.slug
