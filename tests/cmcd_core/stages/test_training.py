"""The one training loop: what is stopped goes on as if it had not been."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from cmcd_core import CmcdError
from cmcd_core.stages.training import Plan, Session, batch_seed, fit, shuffled_batches, steps_an_epoch

EPOCHS = 5
X = torch.randn(21, 6, generator=torch.Generator().manual_seed(0))
Y = X @ torch.randn(6, 1, generator=torch.Generator().manual_seed(1))


class Model(nn.Module):
    """A BatchNorm, dropout, a scalar, a buffer that counts, and a frozen weight: everything that a state may hold."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        self.scale = nn.Parameter(torch.ones(()))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.net(x) * self.scale - y).square().mean()

    def after_step(self) -> None:
        self.steps += 1


def batches(epoch: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
    for number, rows in enumerate(shuffled_batches(len(X), 8, 3, epoch)):
        noise = torch.Generator().manual_seed(batch_seed(3, epoch, number))
        yield len(rows), (X[rows] + 0.1 * torch.randn(len(rows), 6, generator=noise), Y[rows])


def train(fabric: Fabric, session: Session, epochs: int = EPOCHS, model: Model | None = None) -> tuple[Model, Any]:
    model = model or Model()
    plan = Plan(epochs=epochs, steps_per_epoch=steps_an_epoch(len(X), 8), lr=0.01, weight_decay=0.01)
    return model, fit(fabric, model, plan, batches, seed=3, session=session, title="step", after_step=model.after_step)


def equal(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns(fabric: Fabric) -> None:
    model, history = train(fabric, Session(), epochs=60)
    assert len(history.losses) == 60
    assert history.last == history.losses[-1] < 0.5 * history.losses[0]
    assert model.steps == 60 * 3
    assert torch.equal(model.frozen, torch.ones(3))


def test_it_is_the_same_every_time(fabric: Fabric) -> None:
    one, first = train(fabric, Session())
    torch.manual_seed(99)
    state = torch.get_rng_state()
    other, second = train(fabric, Session())
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
    assert equal(one, other)
    assert first.losses == second.losses
    assert not equal(one, Model())


@pytest.mark.parametrize("done", [1, 2, EPOCHS - 1])
def test_a_resumed_training_ends_bit_for_bit_where_an_uninterrupted_one_does(
    fabric: Fabric, recorder: Callable[..., Any], small: Any, done: int
) -> None:
    whole, history = train(fabric, Session())
    with pytest.raises(small.StoppedError):
        train(fabric, recorder(stop_after=done).session())
    going_on = recorder()
    resumed, after = train(fabric, going_on.session())
    assert equal(whole, resumed)
    assert after.losses == history.losses
    assert going_on.rewound == [done]
    assert [entry["epoch"] for entry in going_on.logged] == list(range(done, EPOCHS))


def test_it_may_be_stopped_twice(fabric: Fabric, recorder: Callable[..., Any], small: Any) -> None:
    whole, _ = train(fabric, Session())
    for done in (1, 3):
        with pytest.raises(small.StoppedError):
            train(fabric, recorder(stop_after=done).session())
    assert equal(whole, train(fabric, recorder().session())[0])


def test_a_finished_training_is_not_repeated(fabric: Fabric, recorder: Callable[..., Any]) -> None:
    first, history = train(fabric, recorder().session())
    again = recorder()
    second, after = train(fabric, again.session())
    assert again.logged == []
    assert equal(first, second)
    assert after.losses == history.losses


@pytest.mark.parametrize("name", ["safetensors", "json"])
@pytest.mark.parametrize("size", [0, 100])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(
    fabric: Fabric, recorder: Callable[..., Any], small: Any, name: str, size: int
) -> None:
    whole, _ = train(fabric, Session())
    stopped = recorder(stop_after=3)
    with pytest.raises(small.StoppedError):
        train(fabric, stopped.session())
    newest = stopped.folder / f"step-00003.{name}"
    newest.write_bytes(newest.read_bytes()[: min(size, newest.stat().st_size - 9)])
    going_on = recorder()
    resumed, _ = train(fabric, going_on.session())
    assert going_on.rewound == [2]
    assert equal(whole, resumed)


def test_a_missing_tensor_file_falls_back_too(fabric: Fabric, recorder: Callable[..., Any], small: Any) -> None:
    stopped = recorder(stop_after=3)
    with pytest.raises(small.StoppedError):
        train(fabric, stopped.session())
    (stopped.folder / "step-00003.safetensors").unlink()
    going_on = recorder()
    train(fabric, going_on.session())
    assert going_on.rewound == [2]


def test_a_checkpoint_of_other_inputs_is_not_used(fabric: Fabric, recorder: Callable[..., Any], small: Any) -> None:
    with pytest.raises(small.StoppedError):
        train(fabric, recorder(stop_after=3).session())
    fresh = recorder(digest="other")
    whole, _ = train(fabric, Session())
    assert equal(whole, train(fabric, fresh.session())[0])
    assert fresh.rewound == [0]
    assert len(fresh.logged) == EPOCHS


def test_a_loss_that_is_not_finite(fabric: Fabric, recorder: Callable[..., Any]) -> None:
    class Broken(Model):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            loss = super().forward(x, y)
            return loss * math.nan if self.steps >= 2 * 3 + 1 else loss  # in the third epoch

    bad = recorder()
    with pytest.raises(CmcdError) as caught:
        train(fabric, bad.session(), model=Broken())
    assert "step: the loss is not finite in epoch 3" in caught.value.message
    assert "learning rate" in caught.value.hint
    assert caught.value.exit_code == 1
    assert [entry["epoch"] for entry in bad.logged] == [0, 1]
    assert sorted(path.name for path in bad.folder.glob("*.safetensors")) == [
        "step-00001.safetensors",
        "step-00002.safetensors",
    ]
    going_on = recorder()
    resumed, _ = train(fabric, going_on.session())
    assert going_on.rewound == [2]
    assert equal(resumed, train(fabric, Session())[0])


def test_numbers_of_an_epoch_are_logged(fabric: Fabric, recorder: Callable[..., Any]) -> None:
    kept = recorder()
    model = Model()
    plan = Plan(epochs=2, steps_per_epoch=3, lr=0.01, weight_decay=0)
    fit(
        fabric, model, plan, batches, seed=0, session=kept.session(), title="", after_epoch=lambda: {"temperature": 0.5}
    )
    assert [entry["epoch"] for entry in kept.logged] == [0, 1]
    assert all(entry["temperature"] == 0.5 and math.isfinite(entry["loss"]) for entry in kept.logged)


def test_the_loss_is_a_mean_over_samples(fabric: Fabric) -> None:
    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zero = nn.Parameter(torch.zeros(()))

        def forward(self, loss: Tensor) -> Tensor:
            return loss + 0 * self.zero

    plan = Plan(epochs=1, steps_per_epoch=2, lr=0.01, weight_decay=0)
    uneven = [(1, (torch.tensor(5.0),)), (9, (torch.tensor(1.0),))]
    history = fit(fabric, Given(), plan, lambda epoch: uneven, seed=0, session=Session(), title="")
    assert history.last == pytest.approx(1.4)


def test_no_epochs(fabric: Fabric, recorder: Callable[..., Any]) -> None:
    model, history = train(fabric, recorder().session(), epochs=0)
    assert equal(model, Model())
    assert history.last is None


def test_matrices_decay_and_vectors_do_not(fabric: Fabric) -> None:
    class Still(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))

        def forward(self) -> Tensor:
            return 0 * (self.matrix.sum() + self.vector.sum())

    model = Still()
    plan = Plan(epochs=1, steps_per_epoch=4, lr=0.1, weight_decay=0.5)
    fit(fabric, model, plan, lambda epoch: [(1, ())] * 4, seed=0, session=Session(), title="")
    expected = math.prod(1 - plan.lr_at(step) * 0.5 for step in range(4))
    assert torch.allclose(model.matrix, torch.full((2, 2), expected))
    assert torch.equal(model.vector, torch.ones(2))


# --- batches


@given(count=st.integers(1, 300), size=st.integers(1, 64), seed=st.integers(0, 2**31), epoch=st.integers(0, 99))
def test_each_sample_is_seen_once_an_epoch(count: int, size: int, seed: int, epoch: int) -> None:
    parts = shuffled_batches(count, size, seed, epoch)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert len(parts) == steps_an_epoch(count, size)
    sizes = [len(part) for part in parts]
    assert max(sizes) <= max(size, 3)
    assert max(sizes) - min(sizes) <= 1


def test_the_order_follows_seed_and_epoch() -> None:
    orders = {tuple(np.concatenate(shuffled_batches(50, 8, s, e)).tolist()) for s in range(3) for e in range(3)}
    assert len(orders) == 9
    again = shuffled_batches(50, 8, 1, 2)
    assert all(np.array_equal(a, b) for a, b in zip(again, shuffled_batches(50, 8, 1, 2), strict=True))


def test_batch_seeds_differ() -> None:
    seeds = {batch_seed(s, e, n) for s in range(5) for e in range(5) for n in range(20)}
    assert len(seeds) == 500


# --- learning rate


@pytest.mark.parametrize(("epochs", "steps"), [(10, 20), (1, 40), (100, 3)])
def test_the_rate_warms_up_and_falls_to_nothing(epochs: int, steps: int) -> None:
    plan = Plan(epochs=epochs, steps_per_epoch=steps, lr=0.5, weight_decay=0)
    rates = [plan.lr_at(step) for step in range(plan.steps)]
    warm = plan.steps // 20
    assert max(rates) == pytest.approx(0.5)
    assert rates[warm] == pytest.approx(0.5)
    assert rates[:warm] == pytest.approx([0.5 * (step + 1) / warm for step in range(warm)])
    assert all(a > b for a, b in zip(rates[warm:], rates[warm + 1 :], strict=False))
    middle = (warm + plan.steps) // 2
    assert rates[middle] == pytest.approx(0.25, abs=0.02)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_rate_of_a_few_steps_is_above_zero(steps: int) -> None:
    plan = Plan(epochs=1, steps_per_epoch=steps, lr=0.5, weight_decay=0)
    assert all(0 < plan.lr_at(step) <= 0.5 for step in range(steps))
