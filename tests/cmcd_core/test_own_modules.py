"""``cmcd_core.distill``: any two modules and any data set, without a plugin."""

from __future__ import annotations

import copy
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from cmcd_core import CmcdError, ConfigError, DataError, Features, Objective, distill, load_encoder, load_run
from cmcd_core.stages.watch import Watch

from .test_pipeline import Notes


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Two noisy views of one latent; the source's input differs each time where ``noise`` is not 0."""

    def __init__(self, count: int = 96, noise: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(0)
        latent = torch.randn(count, 4, generator=generator)
        self.a = latent @ torch.randn(4, 12, generator=generator)
        self.b = (latent @ torch.randn(4, 30, generator=generator)).tanh()
        self.noise = noise

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.a[row] + self.noise * torch.randn(12), self.b[row]


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    source = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(0.5))
    target = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 8))
    return source, target


def train(out: Path, pairs: Any = None, objective: Any = "cmd", **options: Any) -> tuple[Any, nn.Module, nn.Module]:
    source, target = networks()
    options = {"epochs": 4, "batch_size": 32, "device": "cpu", **options}
    result = distill(source, target, pairs if pairs is not None else Pairs(), objective, out=out, **options)
    return result, source, target


def test_the_source_is_left_as_it_was_and_the_target_learns(tmp_path: Path) -> None:
    source, target = networks()
    before, start = copy.deepcopy(source.state_dict()), copy.deepcopy(target.state_dict())
    result = distill(source, target, Pairs(), epochs=6, batch_size=32, out=tmp_path / "run", device="cpu")
    assert all(torch.equal(before[name], tensor) for name, tensor in source.state_dict().items())
    assert source.training
    assert all(module.training for module in source.modules())
    assert not torch.equal(start["0.weight"], target.state_dict()["0.weight"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert result.values["distill"]["loss"] == pytest.approx(lines[-1]["loss"])
    assert load_run(tmp_path / "run").values == result.values


def test_the_target_is_saved_under_its_own_names(tmp_path: Path) -> None:
    result, _, target = train(tmp_path / "run")
    saved = load_file(result.folder / "target" / "model.safetensors")
    assert saved.keys() == target.state_dict().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in target.state_dict().items())
    with pytest.raises(ConfigError, match="a module of your own"):
        load_encoder(result.folder / "target")


def test_it_repeats_bit_for_bit_and_follows_its_seed(tmp_path: Path) -> None:
    weights = [train(tmp_path / str(n), seed=seed)[2].state_dict() for n, seed in enumerate((3, 3, 4))]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_kept_features_are_those_of_the_batches_where_the_data_stay_the_same(tmp_path: Path) -> None:
    one, other = (train(tmp_path / str(kept), cache_source=kept)[2] for kept in (False, True))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_features_follow_the_data_where_they_change(tmp_path: Path) -> None:
    one, other = (train(tmp_path / str(kept), Pairs(noise=1.0), cache_source=kept)[2] for kept in (False, True))
    assert not torch.allclose(next(one.parameters()), next(other.parameters()), atol=1e-3)


def test_an_interrupted_training_goes_on_to_the_same_end(tmp_path: Path) -> None:
    _, _, whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", progress=Notes(stop_in="distil into", after=7))
    with pytest.raises(ConfigError, match="something is there already"):
        train(tmp_path / "cut")
    _, _, resumed = train(tmp_path / "cut", resume=True)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_start_that_failed_does_not_take_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        train(tmp_path / "run", objective="dense_l2")
    train(tmp_path / "run", objective="l2")


def test_expressions_options_and_objectives_of_ones_own(tmp_path: Path) -> None:
    class Own(Objective):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 16)

        def forward(self, source: Features, target: Features) -> Tensor:
            return (self.head(target.pooled) - source.pooled).square().mean()

    result, _, _ = train(tmp_path / "own", objective=Own())
    assert "parts.0.head.weight" in load_file(result.folder / "objective" / "objective.safetensors")
    result, _, _ = train(tmp_path / "sum", objective="cmd + 0.5*cmc", options={"cmc": {"queue": "bank"}})
    assert [(term["weight"], term["name"]) for term in result.values["objective"]] == [(1.0, "cmd"), (0.5, "cmc")]
    assert result.values["objective"][1]["options"]["queue"] == "bank"


class Three(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, None, None].expand(-1, 2, 2, -1)


@pytest.mark.parametrize(
    ("source", "pairs", "options", "error", "message"),
    [
        (Three(), Pairs(), {}, ConfigError, r"source: two inputs should give \(2, D\) features, got shape"),
        (nn.Linear(12, 4), Pairs(1), {}, DataError, "at least 2, there are 1"),
        (nn.Linear(12, 4), iter([]), {}, DataError, "expected a map-style Dataset"),
        (nn.Linear(12, 4), TensorDataset(torch.rand(9, 12)), {}, DataError, r"pairs.0.: expected"),
        (nn.Linear(12, 4), Pairs(), {"objective": "cmq"}, Exception, "cmq"),
        (nn.Linear(12, 4), Pairs(), {"options": {"cmc": {}}}, ConfigError, "has no term 'cmc'"),
        (nn.Linear(12, 4), Pairs(), {"options": {"cmd": {"queu": 3}}}, ConfigError, "objective.cmd.queu"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    tmp_path: Path, source: Any, pairs: Any, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        distill(source, networks()[1], pairs, out=tmp_path / "run", epochs=1, device="cpu", **options)
    assert not (tmp_path / "run").exists()


def test_three_dimensional_inputs(tmp_path: Path) -> None:
    """Volumes: nothing here takes its input for a picture."""
    volumes, waves = torch.rand(32, 1, 6, 6, 6), torch.rand(32, 2, 40)
    source = nn.Sequential(nn.Conv3d(1, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    target = nn.Sequential(nn.Conv1d(2, 6, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    result = distill(source, target, TensorDataset(volumes, waves), epochs=1, out=tmp_path / "run", device="cpu")
    assert result.values["distill"]["pairs"] == 32


@pytest.mark.skipif(sys.platform == "win32", reason="loader workers that are forked")
@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_within_an_epoch_of_random_items(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order, the items' own randomness and the networks' all go on where they were."""
    _, _, whole = train(tmp_path / "whole", Pairs(noise=0.1), workers=workers)
    seen, see = 0, Watch.see

    def interrupted(self: Watch, loss: Tensor, number: int) -> None:
        nonlocal seen
        seen += 1
        if seen == 5:
            signal.raise_signal(signal.SIGINT)
        see(self, loss, number)

    monkeypatch.setattr(Watch, "see", interrupted)
    torch.manual_seed(99)  # a script's own randomness is its own
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", Pairs(noise=0.1), workers=workers)
    torch.manual_seed(7)
    progress = Notes()
    _, _, resumed = train(tmp_path / "cut", Pairs(noise=0.1), workers=workers, resume=True, progress=progress)
    assert any("going on after epoch 1 of 4 and 2 steps" in said for said in progress.said)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_interrupted_training_is_not_taken_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmcd_core.own_modules.write_tensors", lambda *args: pytest.fail("stopped before its end"))
    with pytest.raises(pytest.fail.Exception):
        train(tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="its training was interrupted in or after epoch 4"):
        train(tmp_path / "run", resume=True, lr=0.5)


def test_a_loss_that_is_not_finite_names_its_pairs(tmp_path: Path) -> None:
    pairs = Pairs()
    pairs.b[17] = float("nan")
    with pytest.raises(CmcdError, match="the loss is not finite in epoch 1") as caught:
        train(tmp_path / "run", pairs)
    assert "pairs[17]" in caught.value.message
