"""From decoded arrays to batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from cmcd_core import Modality, Sample
from cmcd_core.data.decoded import BoundModality, DecodedViews
from cmcd_core.data.geometry import apply_geometry, draw_geometry
from cmcd_core.data.views import Views

SIDE = 20


class Noisy(Modality):
    """Augmentation adds noise to 0.5, encoding doubles the channels."""

    channels = 4

    def decode(self, raw: Any) -> Tensor:
        return torch.from_numpy(raw)

    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        return batch + torch.rand(batch.shape, generator=generator) * self.strength

    def encode(self, batch: Tensor) -> Tensor:
        return torch.cat([batch, 1 - batch], dim=1)

    strength = 0.0


@pytest.fixture
def make(decode: Callable[..., DecodedViews]) -> Callable[..., Views]:
    def made(modality: Modality, size: int = 16, count: int = 6, shape: tuple[int, ...] = (2, SIDE, SIDE)) -> Views:
        rng = np.random.default_rng(0)
        samples = [Sample(str(i), {"noisy": rng.random(shape, dtype=np.float32)}) for i in range(count)]
        decoded = decode(samples, modality, size=size, name="noisy", kind=type(modality).__qualname__, shape=shape)
        return Views(decoded, BoundModality("noisy", {}, modality), size, torch.device("cpu"))

    return made


def test_plain_is_resize_then_encode(make: Callable[..., Views]) -> None:
    modality = Noisy()
    views = make(modality)
    x = views.decoded.batch(np.array([4, 2]))
    assert x.shape == (2, 2, SIDE, SIDE)
    assert torch.allclose(views.plain(np.array([4, 2])), modality.encode(modality.resize(x, 16)))
    assert torch.equal(views.plain(torch.tensor([4, 2])), views.plain(np.array([4, 2])))


def test_chunks_are_plain_and_in_order(make: Callable[..., Views]) -> None:
    views = make(Noisy())
    chunks = list(views.chunks(4))
    assert [len(chunk) for chunk in chunks] == [4, 2]
    assert torch.allclose(torch.cat(chunks), views.plain(np.arange(6)))
    assert len(views) == 6


def test_the_seed_decides(make: Callable[..., Views]) -> None:
    modality = Noisy()
    modality.strength = 0.1
    views, rows = make(modality), np.arange(6)

    def batch(seed: int) -> Tensor:
        return views.augmented(rows, seed, area_min=0.3, flip=True)

    assert torch.equal(batch(1), batch(1))
    assert not torch.allclose(batch(1), batch(2), atol=0.2)


def test_augmented_is_geometry_augment_encode(make: Callable[..., Views]) -> None:
    modality = Noisy()
    views, rows = make(modality), np.arange(6)
    boxes = draw_geometry(6, torch.Generator().manual_seed(7), area_min=0.3, flip=True)
    expected = modality.encode(apply_geometry(views.decoded.batch(rows), boxes, modality.resize, 16))
    assert torch.allclose(views.augmented(rows, 7, area_min=0.3, flip=True), expected)
    assert torch.allclose(views.augmented(rows, 99, area_min=1, flip=False, geometry=boxes), expected)


def test_a_shared_geometry_leaves_the_augmentation_free(make: Callable[..., Views]) -> None:
    modality = Noisy()
    modality.strength = 0.1
    views, rows = make(modality), np.arange(6)
    boxes = draw_geometry(6, torch.Generator().manual_seed(7), area_min=0.3, flip=True)
    one, other = (views.augmented(rows, seed, area_min=0.3, flip=True, geometry=boxes) for seed in (1, 2))
    assert not torch.equal(one, other)
    assert (one - other).abs().max() <= 0.1


def test_what_is_no_picture_is_augmented_alone(make: Callable[..., Views]) -> None:
    class Sound(Noisy):
        spatial: ClassVar[bool] = False

        def resize(self, x: Tensor, size: int) -> Tensor:
            raise AssertionError("not a picture")

    modality = Sound()
    views, rows = make(modality, shape=(2, 5, 9)), np.arange(6)
    assert views.plain(rows).shape == (6, 4, 5, 9)
    assert torch.equal(views.augmented(rows, 0, area_min=0.3, flip=True), views.plain(rows))
    modality.strength = 0.1
    assert not torch.equal(views.augmented(rows, 0, area_min=0.3, flip=True), views.plain(rows))


def test_batches_leave_the_stored_views_as_they_are(make: Callable[..., Views]) -> None:
    class Harsh(Noisy):
        def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
            return batch.zero_()

    views = make(Harsh(), size=SIDE)
    before = views.decoded.array.copy()
    views.augmented(np.arange(6), 0, area_min=1, flip=False)
    views.plain(np.arange(6)).zero_()
    assert np.array_equal(views.decoded.array, before)


def test_a_resize_for_one_sample_serves(make: Callable[..., Views]) -> None:
    class Single(Noisy):
        def resize(self, x: Tensor, size: int) -> Tensor:
            channels, _, _ = x.shape
            return super().resize(x, size)[:channels]

    one, usual, rows = make(Single()), make(Noisy()), np.arange(6)
    assert torch.allclose(one.plain(rows), usual.plain(rows), atol=1e-6)
    arguments: dict[str, Any] = {"area_min": 0.3, "flip": True}
    assert torch.allclose(one.augmented(rows, 3, **arguments), usual.augmented(rows, 3, **arguments), atol=1e-6)
