"""RunConfig: TOML in, TOML out, and messages that name the key."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from cmcd_core import ConfigError, RunConfig
from cmcd_core.config import DISTILL_SAMPLES, PRETRAIN_SAMPLES

FULL: dict[str, Any] = {
    "source": {"name": "image", "blur": 0.25},
    "target": {"name": "depth", "unit": "mm", "percentiles": [1.0, 99.0]},
    "data": {"loader": "folder", "root": "/data/rig", "on_error": "skip"},
    "objective": {"expression": "cmd + 0.5*cmd@wide", "cmd": {"queue": 0}, "cmd@wide": {"head_width": 512}},
    "task": {"names": ["recognition"], "recognition": {"label_smoothing": 0.1}},
    "pretrain": {"teacher": ["resnet18.a1_in1k"], "epochs": 3, "model_args": {"drop_rate": 0.1}},
    "distill": {"student": "resnet10t", "init": "source", "lr": 0.001, "views": 2},
    "evaluate": {"labels": ["5", "10%"], "label_draws": 3, "baselines": ["none"], "scratch_lrs": [0.01]},
    "run": {"seed": 7, "device": "cpu", "size": 32, "source_size": 96},
    "plugins": {"depth": "0.1"},
}


@pytest.mark.parametrize("values", [{"target": "depth"}, FULL], ids=["least", "full"])
def test_toml_round_trip(values: dict) -> None:
    config = RunConfig.from_mapping(values)
    text = tomli_w.dumps(config.to_mapping())
    again = RunConfig.from_mapping(tomllib.loads(text))
    assert again == config
    assert tomli_w.dumps(again.to_mapping()) == text


def test_the_round_trip_keeps_what_was_given() -> None:
    mapping = RunConfig.from_mapping(FULL).to_mapping()
    for section, values in FULL.items():
        assert mapping[section] == {**mapping[section], **values}
    assert mapping["schema"] == 1


def test_the_output_folder_is_not_part_of_what_is_repeated(tmp_path: Path) -> None:
    config = RunConfig.from_mapping({"target": "depth", "run": {"out": str(tmp_path), "seed": 3}})
    assert config.run.out == tmp_path
    assert "out" not in config.to_mapping()["run"]
    assert config.to_mapping()["run"]["seed"] == 3


def test_texts_stand_for_names() -> None:
    config = RunConfig(source="image", target="depth", data="folder:/x", objective="cmd + cmc", run={"seed": 1})
    assert (config.source.name, config.target.name) == ("image", "depth")
    assert (config.data.loader, config.data.options) == ("folder", {"root": "/x"})
    assert [term.name for term in config.objective.terms] == ["cmd", "cmc"]
    assert config == RunConfig.from_mapping(
        {
            "target": {"name": "depth"},
            "data": {"loader": "folder", "root": "/x"},
            "objective": {"expression": "cmd + cmc"},
            "run": {"seed": 1},
        }
    )


def test_data_may_be_a_path_object(tmp_path: Path) -> None:
    assert RunConfig(target="depth", data=tmp_path).data.options == {"root": str(tmp_path)}


def test_defaults() -> None:
    config = RunConfig(target="depth")
    assert config.source.name == "image"
    assert config.data.loader == "datasets:demo"
    assert config.objective.expression == "objectives:cmd"
    assert config.evaluate.protocols == ("linear",)


@pytest.mark.parametrize(
    ("given", "labels"), [("5", ("5",)), (5, ("5",)), ([5, "10%"], ("5", "10%")), (["1"], ("1",)), (("2",), ("2",))]
)
def test_one_label_budget_or_several(given: Any, labels: tuple) -> None:
    assert RunConfig(target="depth", evaluate={"labels": given}).evaluate.labels == labels


def test_one_teacher_or_several() -> None:
    assert RunConfig(target="depth", pretrain={"teacher": "resnet18"}).pretrain.teacher == ("resnet18",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": {"unit": "mm"}}, "target.name: missing"),
        ({"target": "depth", "distill": {"epoch": 3}}, "distill.epoch: unknown option, did you mean 'epochs'?"),
        ({"target": "depth", "distil": {}}, "distil: unknown option, did you mean 'distill'?"),
        ({"target": "depth", "run": {"zzz": 1}}, "run.zzz: unknown option, known: device, devices, out, precision"),
        ({"target": "depth", "distill": {"epochs": "many"}}, "distill.epochs: should be a valid integer"),
        ({"target": "depth", "distill": {"epochs": "many"}}, "(got 'many')"),
        ({"target": "depth", "distill": {"epochs": 2.5}}, "(got 2.5)"),
        ({"target": "depth", "distill": {"batch_size": 1}}, "distill.batch_size: should be greater than or equal to 2"),
        ({"target": "depth", "distill": {"lr": 0}}, "distill.lr: should be greater than 0 (got 0)"),
        ({"target": "depth", "distill": {"lr": float("nan")}}, "distill.lr: should be a finite number"),
        ({"target": "depth", "distill": {"init": "teacher"}}, "distill.init: should be 'source', 'random' or 'auto'"),
        ({"target": "depth", "distill": 3}, "distill: should be a valid dictionary"),
        ({"target": 3}, "target: should be a valid dictionary"),
        ({"target": "depth", "run": {"device": "gpu"}}, "run.device: should be 'auto', 'cpu', 'cuda' or 'mps'"),
        ({"target": "depth", "evaluate": {"protocols": ["svm"]}}, "evaluate: protocol 'svm'"),
        ({"target": "depth", "evaluate": {"baselines": "l2 +"}}, "l2 +"),
        ({"target": "depth", "evaluate": {"labels": ["5", "x"]}}, "--labels 'x'"),
        ({"target": "depth", "schema": 99}, "written by a newer cmcd (schema 99"),
    ],
)
def test_messages(values: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_mapping(values)
    assert message in caught.value.message
    assert "pydantic" not in str(caught.value)


def test_every_fault_is_told_and_the_file_named() -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_mapping({"distill": {"epochs": -1}, "run": {"sed": 1}}, "my.toml")
    lines = caught.value.message.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("my.toml: ") for line in lines)
    assert any("run.sed: unknown option, did you mean 'seed'?" in line for line in lines)


@pytest.mark.parametrize("evaluate", [{"labels": []}, {"scratch_lrs": []}, {"scratch_lrs": [-1.0]}])
def test_nothing_to_evaluate_with_is_refused_before_training(evaluate: dict) -> None:
    with pytest.raises(ConfigError):
        RunConfig.from_mapping({"target": "depth", "evaluate": evaluate})


def test_task_may_be_a_text_too() -> None:
    assert RunConfig.from_mapping({"target": "depth", "task": "recognition"}).task.names == ("recognition",)


def test_a_config_does_not_change() -> None:
    config = RunConfig(target="depth")
    with pytest.raises(ValueError, match="frozen"):
        config.run.seed = 3  # type: ignore[misc]


def test_epochs_as_asked() -> None:
    config = RunConfig(target="depth", pretrain={"epochs": 3}, distill={"epochs": 0})
    assert (config.pretrain.epochs_for(10, None), config.pretrain.epochs_for(10, 2)) == (3, 3)
    assert config.distill.epochs_for(10) == 0


def test_default_epochs_see_about_as_many_samples_whatever_the_datas_size() -> None:
    config = RunConfig(target="depth")
    for epochs, seen in (
        (config.distill.epochs_for, DISTILL_SAMPLES),
        (lambda count: config.pretrain.epochs_for(count, None), PRETRAIN_SAMPLES),
    ):
        for count in (400, 700, 1000):
            assert abs(epochs(count) * count / seen - 1) < 0.05
        counts = [0, 1, 100, 1_000, 10_000, 1_000_000]
        assert sorted((epochs(count) for count in counts), reverse=True) == [epochs(count) for count in counts]
        assert epochs(0) == epochs(1) <= 120
        assert epochs(10**6) >= 13


def test_the_cap_lowers_the_default_of_step_one_only() -> None:
    config = RunConfig(target="depth").pretrain
    own = config.epochs_for(100, None)
    assert config.epochs_for(100, own - 1) == own - 1
    assert config.epochs_for(100, own + 1) == own


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import cmcd_core", ("torch", "pydantic", "numpy", "pluggy", "timm")),
        ("from cmcd_core import RunConfig; RunConfig(target='depth')", ("torch", "numpy", "timm")),
        ("import cmcd_core.plugin", ("torch", "numpy", "timm")),
        ("import cmcd_core; dir(cmcd_core); cmcd_core.__version__", ("torch", "pydantic", "numpy")),
        (
            "from cmcd_core.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass",
            ("torch", "pydantic", "numpy", "rich"),
        ),
    ],
)
def test_imports_are_light(code: str, absent: tuple) -> None:
    code = f"import sys\n{code}\nprint([m for m in {absent} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_every_public_name_is_there() -> None:
    import cmcd_core

    assert set(cmcd_core.__all__) == set(cmcd_core._PUBLIC)
    for name in cmcd_core.__all__:
        assert getattr(cmcd_core, name).__name__ == name
        assert name in dir(cmcd_core)
    with pytest.raises(AttributeError, match="nonsense"):
        cmcd_core.nonsense  # noqa: B018


def test_the_default_schedule_can_be_stretched() -> None:
    """epochs_factor multiplies what epochs=None stands for, bounds included; epochs itself wins."""
    plain, longer = (RunConfig.from_mapping({"distill": {"epochs_factor": f}}).distill for f in (1, 3))
    for pairs in (10, 864, 1_000_000):
        assert longer.epochs_for(pairs) == 3 * plain.epochs_for(pairs)
    assert RunConfig.from_mapping({"distill": {"epochs_factor": 3, "epochs": 5}}).distill.epochs_for(864) == 5
