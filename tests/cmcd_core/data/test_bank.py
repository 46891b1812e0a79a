"""The frozen source's features: computed once, equal to what the encoder says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cmcd_core import Encoder, Features, Sample, TimmEncoder
from cmcd_core.data import bank as module
from cmcd_core.data.bank import FeatureBank, feature_bank
from cmcd_core.data.decoded import BoundModality, DecodedViews
from cmcd_core.data.digest import weights_digest
from cmcd_core.data.views import Views
from cmcd_core.progress import Progress

COUNT = 11


class Tiny(Encoder):
    channels, dim = 2, 5

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(2, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.calls = 0

    def forward(self, x: Tensor) -> Features:
        self.calls += 1
        return Features(pooled=self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.fixture
def views(decode: Callable[..., DecodedViews], plain: Any) -> Views:
    rng = np.random.default_rng(0)
    samples = [Sample(str(i), {"plain": rng.random((2, 10, 10), dtype=np.float32)}) for i in range(COUNT)]
    return Views(decode(samples, plain), BoundModality("plain", {}, plain), 8, torch.device("cpu"))


def make(encoder: Encoder, views: Views, count: int = 3, seed: int = 0, **changed: Any) -> FeatureBank:
    geometry = {"area_min": 0.4, "flip": True, **changed}
    return feature_bank(encoder, views, count=count, seed=seed, progress=Progress(), title="features", **geometry)


def entries(cache: Path) -> int:
    return len(list((cache / "features").iterdir()))


def test_view_0_is_what_the_encoder_says_of_the_whole_picture(views: Views) -> None:
    encoder = Tiny()
    bank = make(encoder.train(), views)
    with torch.no_grad():
        expected = encoder.eval()(views.plain(np.arange(COUNT))).pooled
    assert torch.allclose(bank.whole(), expected, atol=1e-6)
    rows = np.array([7, 2, 7])
    assert torch.allclose(bank.pooled(np.zeros(3, int), rows), expected[rows], atol=1e-6)
    assert encoder.norm.num_batches_tracked == 0


@pytest.mark.parametrize("chunk", [4, 11, 256])
def test_chunks_do_not_show_in_view_0(views: Views, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    with torch.no_grad():
        expected = Tiny().eval()(views.plain(np.arange(COUNT))).pooled
    assert torch.allclose(make(Tiny(), views).whole(), expected, atol=1e-6)


def test_the_other_views_are_augmented_each_by_itself(views: Views) -> None:
    bank = make(Tiny(), views, count=4)
    assert bank.views == 4
    assert bank.array.shape == (4, COUNT, 5)
    for one in range(4):
        for other in range(one):
            assert np.abs(bank.array[one] - bank.array[other]).max(1).min() > 1e-4


def test_pooled_picks_view_and_row(views: Views) -> None:
    bank = make(Tiny(), views)
    picked = bank.pooled(np.array([2, 0, 1]), np.array([5, 5, 9]))
    assert torch.equal(picked, torch.from_numpy(bank.array[[2, 0, 1], [5, 5, 9]]))


def test_it_is_memory_mapped_and_the_file_stays_as_it_is(views: Views) -> None:
    bank = make(Tiny(), views)
    before = bank.array.copy()
    assert isinstance(bank.array, np.memmap)
    bank.whole().zero_()
    assert np.array_equal(make(Tiny(), views).array, before)


def test_a_hit_is_not_computed_again(views: Views, cache: Path) -> None:
    encoder, other = Tiny(), Tiny()
    first = make(encoder, views)
    assert encoder.calls == 3
    again = make(other, views)
    assert other.calls == 0
    assert np.array_equal(first.array, again.array)
    assert entries(cache) == 1


@pytest.mark.parametrize("count", [1, 3])
def test_another_weight_has_another_address(views: Views, cache: Path, count: int) -> None:
    make(Tiny(), views, count)
    changed = Tiny()
    with torch.no_grad():
        changed.conv.weight[0, 0, 0, 0] += 1e-6
    make(changed, views, count)
    assert changed.calls == count
    assert entries(cache) == 2


def test_a_buffer_counts_too(views: Views, cache: Path) -> None:
    make(Tiny(), views)
    changed = Tiny()
    changed.norm.running_mean[0] = 1
    make(changed, views)
    assert entries(cache) == 2


@pytest.mark.parametrize("changed", [{"seed": 1}, {"area_min": 0.5}, {"flip": False}, {"count": 2}])
def test_what_the_views_were_drawn_from_has_another_address(views: Views, cache: Path, changed: dict) -> None:
    make(Tiny(), views)
    make(Tiny(), views, **changed)
    assert entries(cache) == 2


def test_the_whole_picture_alone_needs_no_seed(views: Views, cache: Path) -> None:
    make(Tiny(), views, count=1)
    make(Tiny(), views, count=1, seed=1, area_min=0.5, flip=False)
    assert entries(cache) == 1


def test_it_is_the_same_in_another_cache(views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(Tiny(), views)
    torch.manual_seed(99)
    np.random.seed(99)
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "elsewhere"))
    encoder = Tiny()
    again = make(encoder, views)
    assert encoder.calls == 3
    assert np.array_equal(first.array, again.array)


def test_weights_digest() -> None:
    encoder = Tiny()
    assert weights_digest(encoder) == weights_digest(Tiny())
    assert weights_digest(encoder) != weights_digest(Tiny(seed=1))
    renamed = nn.Sequential(encoder.conv)
    assert weights_digest(renamed) != weights_digest(nn.Sequential(nn.Identity(), encoder.conv))


def test_another_normalisation_has_another_address(views: Views, cache: Path) -> None:
    for mean in (0.5, 0.0):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            encoder = TimmEncoder("resnet10t", in_chans=2, mean=(mean,) * 2, channels=[8] * 4, stem_width=8)
        make(encoder, views)
    assert entries(cache) == 2
