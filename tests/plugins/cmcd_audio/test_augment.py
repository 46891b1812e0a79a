"""Augmentation: reproducible, different for each sound, within the range, and off when it is off."""

from __future__ import annotations

import time

import pytest
import torch
from cmcd_audio import AudioOptions, build
from hypothesis import given, settings
from hypothesis import strategies as st

STRENGTHS = ("gain", "shift", "tempo", "warp", "noise", "time_mask", "frequency_mask")
OFF: dict[str, float] = dict.fromkeys(STRENGTHS, 0)
FLOOR = -50.0


def augmented(batch: torch.Tensor, seed: int = 0, **options: float) -> torch.Tensor:
    return build(AudioOptions(**options)).augment(batch, torch.Generator().manual_seed(seed))


@pytest.fixture
def batch() -> torch.Tensor:
    """A loud blob in silence, with quiet things about it."""
    g = torch.Generator().manual_seed(5)
    x = torch.full((32, 1, 64, 100), FLOOR)
    x[..., 10:50, 30:70] = -30 * torch.rand(32, 1, 40, 40, generator=g)
    return x


def test_all_off_changes_nothing(batch: torch.Tensor) -> None:
    assert torch.equal(augmented(batch, **OFF), batch)


@pytest.mark.parametrize("name", [*STRENGTHS, "all"])
def test_reproducible_and_each_sound_has_its_own_draw(name: str, batch: torch.Tensor) -> None:
    options = {} if name == "all" else {**OFF, name: AudioOptions.model_fields[name].default}
    one = (batch[:1] / 2).expand(32, -1, -1, -1).contiguous()
    before = one.clone()
    first, again, other = augmented(one, **options), augmented(one, **options), augmented(one, seed=1, **options)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(one, before), "the batch itself is left alone"
    assert (first.shape, first.dtype) == (one.shape, one.dtype)
    assert len({tuple(x.flatten().tolist()) for x in first}) >= 24  # narrow masks may agree


def test_only_the_generator_is_drawn_from(batch: torch.Tensor) -> None:
    state = torch.get_rng_state()
    augmented(batch)
    assert torch.equal(torch.get_rng_state(), state)


@settings(max_examples=30)
@given(st.data())
def test_any_strength_stays_in_range(data: st.DataObject) -> None:
    bounds = {"gain": 40, "noise": 80}
    options = {name: data.draw(st.floats(0, bounds.get(name, 1))) for name in STRENGTHS}
    x = FLOOR * torch.rand(4, 1, 64, 100, generator=torch.Generator().manual_seed(0))
    out = augmented(x, data.draw(st.integers(0, 99)), mask_count=data.draw(st.integers(1, 10)), **options)
    assert out.isfinite().all()
    assert out.min() >= FLOOR
    assert out.max() <= 0


def test_gain_is_one_number_a_sound_and_keeps_silence(batch: torch.Tensor) -> None:
    loud = batch.clamp_max(-15)
    out = augmented(loud, **{**OFF, "gain": 10})
    inside = (slice(None), 0, slice(10, 50), slice(30, 70))
    gains = (out - loud)[inside].flatten(1)
    assert torch.allclose(gains, gains[:, :1], atol=1e-4)
    assert -10 <= gains.min() < -6
    assert 6 < gains.max() <= 10
    assert (out[loud == FLOOR] == FLOOR).all()


def peaks(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(band, column) of the centre of what is heard."""
    heights = (batch[:, 0] - FLOOR).double()
    total = heights.sum((1, 2))
    band = (heights.sum(2) * torch.arange(64)).sum(1) / total
    return band, (heights.sum(1) * torch.arange(100)).sum(1) / total


def point() -> torch.Tensor:
    x = torch.full((200, 1, 64, 100), FLOOR)
    x[..., 38:43, 48:53] = 0
    return x


def test_shift_moves_in_time_alone() -> None:
    band, column = peaks(augmented(point(), **{**OFF, "shift": 0.2}))
    assert torch.allclose(band, torch.tensor(40.0).double(), atol=1e-3)
    assert 28 < column.min() < 34
    assert 66 < column.max() < 72
    away = augmented(point(), **{**OFF, "shift": 1.0})
    assert (away.amax((1, 2, 3)) == FLOOR).any(), "what leaves does not come in again"


def test_tempo_stretches_in_time_alone(batch: torch.Tensor) -> None:
    x = batch.clone()
    x[..., 10:50, 30:70] = 0
    out = augmented(x, **{**OFF, "tempo": 0.5})
    lengths = (out[:, 0, 30] > FLOOR / 2).sum(1)
    assert 25 <= lengths.min() < 32
    assert 50 < lengths.max() <= 61
    assert ((out[:, 0, :, 50] > FLOOR / 2).sum(1) == 40).all()


def test_warp_multiplies_frequencies() -> None:
    """A tone in band 40 of 64 from 50 to 8000 Hz goes where 1 + warp times its frequency lies."""
    from cmcd_audio import hertz, mel

    low, high = mel(50), mel(8000)
    step = (high - low) / 65
    expected = [(mel(hertz(low + 41 * step) * factor) - low) / step - 1 for factor in (1 / 1.2, 1.2)]
    band, column = peaks(augmented(point(), **{**OFF, "warp": 0.2}))
    assert torch.allclose(column, torch.tensor(50.0).double(), atol=1e-3)
    assert band.min().item() == pytest.approx(expected[0], abs=0.4)
    assert band.max().item() == pytest.approx(expected[1], abs=0.4)


def test_noise_fills_silence_and_leaves_what_is_loud(batch: torch.Tensor) -> None:
    out = augmented(batch, **{**OFF, "noise": 15})
    levels = out[..., :25].mean((1, 2, 3)) - FLOOR
    assert levels.min() < 5 < 10 < levels.max() < 17
    loud = batch > -15
    assert (out - batch)[loud].abs().max() < 2


@pytest.mark.parametrize(("name", "axis"), [("time_mask", 3), ("frequency_mask", 2)])
def test_masks(name: str, axis: int) -> None:
    full = torch.zeros(400, 1, 64, 100)
    out = augmented(full, **{**OFF, name: 0.25}, mask_count=2)
    assert set(out.unique().tolist()) == {FLOOR, 0.0}
    hidden = (out == FLOOR).all(dim=5 - axis).float().mean((1, 2))
    assert torch.allclose(hidden, (out == FLOOR).float().mean((1, 2, 3))), "whole columns or whole bands"
    assert hidden.max() <= 0.5
    assert 0.15 < hidden.mean() < 0.3


def test_fast_enough() -> None:
    """A wide margin over the 6 ms measured on one core, for busy machines."""
    audio, x = build(AudioOptions()), FLOOR * torch.rand(64, 1, 64, 100)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        audio.augment(x, torch.Generator().manual_seed(0))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.08
