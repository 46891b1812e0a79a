"""Where a student starts: at random, from the source, or from whichever of them can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cmcd_core import RunConfig, load_encoder, run
from cmcd_core.catalog import load
from cmcd_core.config import DistillConfig
from cmcd_core.data.digest import weights_digest
from cmcd_core.encoders import blueprint
from cmcd_core.interfaces.encoder import Encoder, Features
from cmcd_core.interfaces.side_by_side import SideBySide
from cmcd_core.progress import Progress
from cmcd_core.resolve import resolve
from cmcd_core.students import from_random, settled_start, student, without_source
from cmcd_core.workbench import Workbench, make_fabric

WIDE = {"channels": [8, 16, 24, 40]}


@pytest.fixture
def bench(tiny_folder: Path) -> Callable[..., Workbench]:
    """A workbench whose ``[distill]`` has these values; ``notes`` collects what the user is told."""

    def made(notes: list[str] | None = None, encoder: str | None = None, **distill: Any) -> Workbench:
        values = {
            "source": "image", "target": "depth", "data": str(tiny_folder), "distill": distill,
            "run": {"size": 24, "device": "cpu"}, "evaluate": {"encoder": encoder} if encoder else {},
        }  # fmt: skip
        config = RunConfig.from_mapping(values)
        note = (lambda text: None) if notes is None else notes.append
        return Workbench.of(resolve(config, load()), make_fabric(config.run)[0], Progress(), note)

    return made


def source_of(bench: Workbench, **arguments: Any) -> Encoder:
    return bench.encoder(bench.source, arguments.pop("architecture", None), arguments, 5, bench.source_size)


class Foreign(Encoder):
    """No timm network, and not to be had for another modality."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dim, self.channels = nn.Linear(3, 4), 4, 3

    def forward(self, x: torch.Tensor) -> Features:
        return Features(pooled=self.layer(x.mean((2, 3))))


def test_auto_is_a_start_from_the_source_where_all_its_weights_fit(bench: Callable[..., Workbench]) -> None:
    told: list[str] = []
    auto, asked = bench(told, init="auto"), bench(init="source")
    source = source_of(auto, **WIDE)
    assert settled_start(auto, source).init == "source"
    first, second = student(auto, source), student(asked, source)
    assert weights_digest(first) == weights_digest(second)
    assert blueprint(first)["channels"] == WIDE["channels"]
    assert any("starts from the source" in text for text in told)


@pytest.mark.parametrize(
    "distill", [{"student": "resnet10t"}, {"model_args": {"channels": [8, 8, 16, 16]}}], ids=["student", "arguments"]
)
def test_auto_is_random_where_the_user_names_a_network(
    bench: Callable[..., Workbench], distill: dict[str, Any]
) -> None:
    told: list[str] = []
    auto, random = bench(told, init="auto", **distill), bench(init="random", **distill)
    source = source_of(auto)
    assert settled_start(auto, source).init == "random"
    assert weights_digest(student(auto, source)) == weights_digest(student(random, source))
    assert not any("starts from" in text for text in told)


def test_auto_is_random_where_the_source_is_of_another_kind(bench: Callable[..., Workbench]) -> None:
    auto = bench(init="auto")
    both = SideBySide([source_of(auto), source_of(auto)], torch.zeros(1), torch.ones(1))
    for source in (Foreign(), both):
        assert settled_start(auto, source).init == "random"
        assert student(auto, source).dim == student(bench(), source).dim


def test_auto_is_random_where_weights_fit_in_part(bench: Callable[..., Workbench]) -> None:
    auto = bench(init="auto")
    source = source_of(auto)
    name = next(key for key in source.state_dict() if key.endswith("layer4.0.conv2.weight"))
    stripped = {key: value for key, value in source.state_dict().items() if key != name}
    source.state_dict = lambda *args, **options: stripped  # type: ignore[method-assign]
    assert settled_start(auto, source).init == "random"
    assert settled_start(bench(init="source"), source).init == "source"


def test_weights_that_know_something_learn_at_a_tenth_of_the_rate() -> None:
    assert DistillConfig().peak_lr == pytest.approx(10 * DistillConfig(init="source").peak_lr)
    for init in ("source", "random", "auto"):
        assert DistillConfig.model_validate({"init": init, "lr": 0.02}).peak_lr == 0.02


def test_what_has_no_source_does_not_take_its_network(bench: Callable[..., Workbench]) -> None:
    copying, plain = bench(init="source"), bench()
    taught = student(copying, source_of(copying, **WIDE))
    alone = without_source(copying, taught, seed=3)
    assert weights_digest(alone) == weights_digest(from_random(plain, 3))
    named = bench(init="source", student="resnet10t")
    assert without_source(named, taught, seed=3).dim == from_random(bench(student="resnet10t"), 3).dim


def test_the_twin_of_a_brought_encoder_is_of_its_own_kind(bench: Callable[..., Workbench], tmp_path: Path) -> None:
    own = bench(init="source", encoder=str(tmp_path))
    brought = own.encoder(own.target, None, dict(WIDE), 0, 24)
    assert blueprint(without_source(own, brought, seed=3)) == blueprint(brought)
    assert weights_digest(without_source(own, brought, seed=3)) != weights_digest(brought)


def test_arguments_of_the_sources_network_are_kept_from_the_slim_one(bench: Callable[..., Workbench]) -> None:
    both = bench(init="source", model_args={"drop_rate": 0.1}, output_stride=8)
    assert blueprint(from_random(both, 0)) == blueprint(from_random(bench(output_stride=8), 0))


def test_a_run_that_starts_from_its_source_goes_on_where_it_was(tiny_folder: Path, tmp_path: Path) -> None:
    values = {
        "source": "image", "target": "depth", "data": str(tiny_folder), "pretrain": {"epochs": 1, "model_args": WIDE},
        "distill": {"epochs": 1, "init": "auto"}, "run": {"out": str(tmp_path / "run"), "device": "cpu", "size": 24},
        "evaluate": {"labels": ["2"], "label_draws": 2, "train_steps": 2, "train_epochs": 1, "scratch_lrs": [0.01],
                     "baselines": ["scratch", "ssl-target", "l2"]},
    }  # fmt: skip
    first = run(RunConfig.from_mapping(values))
    assert {entry["encoder"] for entry in first.evaluations} >= {"distilled", "scratch", "ssl-target", "l2"}
    again = run(RunConfig.from_mapping(values), resume=True)
    assert again.evaluations == first.evaluations
    for name, channels in (("target", WIDE["channels"]), ("baselines/l2", WIDE["channels"])):
        assert load_encoder(tmp_path / "run" / name).model.layer4[0].conv2.out_channels == channels[-1], name
    alone = load_encoder(tmp_path / "run/baselines/ssl-target")
    assert alone.dim != WIDE["channels"][-1]


@pytest.mark.parametrize(
    ("teachers", "distill", "side"),
    [
        (["t.safetensors"], {"init": "auto"}, (32, 96)),
        (["t.safetensors"], {"init": "source"}, (32, 96)),
        (["t.safetensors"], {"init": "auto", "student": "resnet10t"}, (32, 64)),
        (["t.safetensors"], {}, (32, 64)),
        (["a.safetensors", "b.safetensors"], {"init": "auto"}, (32, 64)),
        ([], {"init": "auto"}, (32, 64)),
    ],
    ids=["auto", "source", "named", "random", "two", "none"],
)
def test_a_copy_of_a_teacher_sees_bigger_pictures(
    teachers: list[str], distill: dict[str, Any], side: tuple[int, int]
) -> None:
    values: dict[str, Any] = {"target": "depth", "pretrain": {"teacher": teachers}, "distill": distill}
    assert RunConfig.from_mapping(values).side == side
    assert RunConfig.from_mapping({**values, "run": {"size": 48}}).side == (48, 48)
