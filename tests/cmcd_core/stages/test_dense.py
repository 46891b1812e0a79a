"""Dense maps of both sides show the same places: proved by pictures whose pixels are coordinates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from cmcd_core import ConfigError, Encoder, Features, Modality, Objective, RunConfig, Sample, run
from cmcd_core.data import bank as bank_module
from cmcd_core.data.bank import feature_bank
from cmcd_core.data.decoded import BoundModality, decode_views
from cmcd_core.data.views import Views
from cmcd_core.progress import Progress
from cmcd_core.stages.distill import distill
from cmcd_core.stages.pairs import match_pairs
from cmcd_core.stages.training import Session

COUNT, SIDE = 10, 32


class Coordinates(Modality):
    """What it decodes is where it is."""

    channels = 3

    def decode(self, raw: Path | bytes | np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(raw))


class Eye(Encoder):
    """Its dense map is the picture, averaged."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.channels = self.dim = self.dense_dim = 3
        self.cells = cells
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Features:
        maps = F.adaptive_avg_pool2d(x, self.cells) * self.scale
        return Features(pooled=maps.mean((2, 3)), dense=maps)


class Spy(Objective):
    needs = frozenset({"dense"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, source: Features, target: Features) -> Tensor:
        assert source.dense is not None
        assert target.dense is not None
        self.seen.append((source.dense, target.dense.detach()))
        return target.pooled.square().mean() * 0


def pictures(size: int) -> Views:
    """Each sample's pixels hold their own place (two ramps) and the sample's number."""
    ramp = torch.linspace(0, 1, SIDE)
    samples = []
    for number in range(COUNT):
        value = torch.stack(
            [ramp[:, None].expand(SIDE, SIDE), ramp.expand(SIDE, SIDE), torch.full((SIDE, SIDE), number / COUNT)]
        )
        samples.append(Sample(str(number), {"where": value.numpy()}))
    bound = BoundModality("where", {"name": "where"}, Coordinates())
    return Views(
        decode_views(samples, bound, size, on_error="fail", progress=Progress(), title=""),
        bound,
        size,
        torch.device("cpu"),
    )


@pytest.mark.parametrize("chunk", [4, 256])
def test_both_sides_show_the_same_places(fabric: Fabric, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "CHUNK", chunk)
    source_views, target_views = pictures(28), pictures(24)
    source, target, spy = Eye(4), Eye(8), Spy()
    bank = feature_bank(
        source, source_views, count=4, seed=chunk, area_min=0.3, flip=True, progress=Progress(), title="", grid=(4, 4)
    )
    config = RunConfig(target="where", distill={"batch_size": 5, "crop_min": 0.3, "lr": 1e-9}).distill
    pairs = match_pairs(source_views, target_views, [1.0] * COUNT)
    distill(fabric, source, target, spy, bank, target_views, pairs, config, 8, seed=0, session=Session())
    assert len(spy.seen) == 16
    spread = 0.0
    for a, b in spy.seen:
        assert a.shape == b.shape == (5, 3, 4, 4)
        assert torch.allclose(a[:, 2], b[:, 2], atol=2e-3)  # of the same sample
        assert torch.allclose(a[:, :2], b[:, :2], atol=0.045)  # of the same place, to a pixel
        spread = max(spread, float((a[:, :2] - a[:1, :2]).abs().max()))
    assert spread > 0.3  # there were crops and mirrorings to follow


def test_principal_directions_keep_the_cosines_of_the_cells() -> None:
    views = pictures(24)
    options: Any = {"count": 2, "seed": 0, "area_min": 0.4, "flip": True, "progress": Progress(), "title": ""}
    full = feature_bank(Eye(4), views, **options, grid=(4, 4))
    all_three, two = (feature_bank(Eye(4), views, **options, grid=(4, 4), dims=dims) for dims in (3, 2))
    view, rows = np.array([0, 1, 1]), np.array([1, 4, 8])
    cells = [bank.dense(view, rows).permute(0, 2, 3, 1).flatten(0, 2) for bank in (full, all_three, two)]
    assert [each.shape[1] for each in cells] == [3, 3, 2]
    gram, kept, reduced = (each @ each.T for each in cells)
    assert torch.allclose(gram, kept, atol=5e-3), "as many directions as channels: a rotation"
    assert (gram - reduced).norm() < 0.15 * gram.norm()
    for two_channels in ([0, 1], [0, 2], [1, 2]):
        others = cells[0][:, two_channels] @ cells[0][:, two_channels].T
        assert (gram - reduced).norm() < (gram - others).norm(), "two directions hold more than any two channels"


def test_dense_cache_options(tiny_folder: Path, tmp_path: Path) -> None:
    """The grid and the directions reach the objective, whose head fits them."""
    config: dict[str, Any] = {
        "source": "image", "target": "depth", "data": {"root": str(tiny_folder)}, "objective": "dense_l2 + dense_cmd",
        "pretrain": {"epochs": 0, "model_args": {"output_stride": 8}},
        "distill": {"epochs": 1, "views": 2, "dense_grid": 3, "dense_dims": 5,
        "output_stride": 8}, "run": {"size": 32, "out": str(tmp_path / "run")}, "task": {"names": ["recognition"]},
        "evaluate": {"baselines": ["none"], "label_draws": 1},
    }  # fmt: skip
    result = run(RunConfig.from_mapping(config))
    from safetensors.torch import load_file

    heads = load_file(result.folder / "objective" / "objective.safetensors")
    assert [tuple(t.shape) for name, t in heads.items() if name.endswith("head.weight")] == [(5, 256)]
    assert result.encoder()(torch.rand(2, 1, 32, 32)).dense.shape[-2:] == (4, 4)


class Holed(Coordinates):
    """Its left half was never measured."""

    def valid(self, batch: Tensor) -> Tensor:
        return batch[:, 1] > 0.5


def test_the_share_of_measured_pixels_follows_the_crops(fabric: Fabric) -> None:
    views = pictures(24)
    views.modality = Holed()
    bank = feature_bank(
        Eye(4), views, count=3, seed=1, area_min=0.3, flip=True, progress=Progress(), title="", grid=(4, 4)
    )
    seen: list[tuple[Tensor, Tensor]] = []

    class Look(Spy):
        def forward(self, source: Features, target: Features) -> Tensor:
            assert source.dense is not None
            assert target.valid is not None
            assert source.valid is None
            seen.append((source.dense[:, 1], target.valid))
            return target.pooled.sum() * 0

    config = RunConfig(target="where", distill={"batch_size": 5, "crop_min": 0.3, "lr": 1e-9}).distill
    pairs = match_pairs(views, views, [1.0] * COUNT)
    distill(fabric, Eye(4), Eye(8), Look(), bank, views, pairs, config, 4, seed=0, session=Session())
    for across, share in seen:
        assert share.shape == across.shape == (5, 4, 4)
        assert (share[across > 0.7] == 1).all()
        assert (share[across < 0.3] == 0).all()


def test_maps_come_back_from_the_cache_with_their_geometry() -> None:
    views = pictures(24)
    options: Any = {
        "count": 3,
        "seed": 5,
        "area_min": 0.4,
        "flip": True,
        "progress": Progress(),
        "title": "",
        "grid": (2, 2),
    }
    one, again = (feature_bank(Eye(4), views, **options) for _ in range(2))
    view, rows = np.array([0, 1, 2, 1]), np.array([3, 0, 9, 7])
    assert torch.equal(one.dense(view, rows), again.dense(view, rows))
    moved = views.augmented(rows, 0, area_min=1, flip=False, geometry=again.geometry(view, rows))
    assert torch.allclose(F.adaptive_avg_pool2d(moved, 2), again.dense(view, rows), atol=2e-3)
    assert feature_bank(Eye(4), views, **{**options, "grid": None}).maps is None


def test_a_full_disk_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmcd_core.data.bank.shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(ConfigError, match="the cache's disk has"):
        feature_bank(
            Eye(4), pictures(24), count=2, seed=77, area_min=0.4, flip=True, progress=Progress(), title="", grid=(3, 3)
        )


def test_modalities_on_different_grids_are_refused_before_training(tiny_folder: Path, tmp_path: Path) -> None:
    import shutil

    apart = Path(shutil.copytree(tiny_folder, tmp_path / "apart"))
    (apart / "dataset.toml").write_text('[depth]\nunit = "mm"\n')
    values: dict[str, Any] = {
        "target": "depth", "objective": "dense_cmd", "run": {"size": 64, "out": str(tmp_path / "run"), "device": "cpu"},
        "pretrain": {"epochs": 1}, "distill": {"epochs": 1, "batch_size": 16},
        "evaluate": {"baselines": ["none"], "label_draws": 1},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"dense_cmd compares places.*one pixel grid"):
        run(RunConfig.from_mapping(values | {"data": str(apart)}))
    rival = {"objective": "cmd", "evaluate": {"baselines": ["dense_cmd"], "label_draws": 1}}
    with pytest.raises(ConfigError, match=r"dense_cmd compares places.*one pixel grid"):  # to compare with, too
        run(RunConfig.from_mapping(values | rival | {"data": str(apart)}))
    result = run(RunConfig.from_mapping(values | {"data": str(tiny_folder)}))
    assert result.values["distill"]["loss"] > 0
