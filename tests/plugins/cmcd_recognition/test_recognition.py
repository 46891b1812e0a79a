"""Recognition against counts made by hand."""

from __future__ import annotations

import cmcd_recognition
import numpy as np
import pytest
import torch
from cmcd_recognition import RecognitionOptions, build
from pydantic import ValidationError
from torch import nn

from cmcd_core import DataError, Encoder, Features

TASK = build(RecognitionOptions())


class Flat(Encoder):
    dim, channels = 6, 1

    def forward(self, x: torch.Tensor) -> Features:
        return Features(pooled=x.flatten(1)[:, :6])


def logits(classes: list[int], k: int) -> torch.Tensor:
    return torch.eye(k)[classes] * 5


def test_descriptor() -> None:
    (plugin,) = cmcd_recognition.cmcd_tasks()
    task = plugin.build(plugin.options())
    assert (plugin.name, task.primary, task.target_name, task.spatial) == ("recognition", "top1", "label", False)


def test_target_and_stratum() -> None:
    for value in (3, np.int32(3), np.uint8(3)):
        target = TASK.target(value)
        assert (target.dtype, target.shape) == (torch.int64, ())
        assert TASK.stratum(target) == 3
    for bad in (-1, 1.5, "cat", None, True):
        with pytest.raises(DataError, match="class id"):
            TASK.target(bad)
    TASK.check(torch.tensor(1), ["a", "b"])
    with pytest.raises(DataError, match="class 2, but there are 2 classes"):
        TASK.check(torch.tensor(2), ["a", "b"])


def test_head_and_loss() -> None:
    encoder = Flat()
    head = TASK.head(encoder, ["a", "b", "c"])
    output = head(encoder(torch.rand(5, 1, 3, 3)))
    assert output.shape == (5, 3)
    target = torch.tensor([0, 1, 2, 0, 1])
    loss = TASK.loss(output, target)
    rows = output.log_softmax(1)
    assert loss.item() == pytest.approx(-rows[range(5), target].mean().item(), rel=1e-5)
    smooth = build(RecognitionOptions(label_smoothing=0.3)).loss(output, target)
    assert smooth.item() == pytest.approx((0.7 * loss - 0.3 * rows.mean()).item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize("classes", [None, [], ["only"]])
def test_too_few_classes(classes: list[str] | None) -> None:
    with pytest.raises(DataError, match="two classes"):
        TASK.head(Flat(), classes)
    with pytest.raises(DataError, match="two classes"):
        TASK.metrics(classes)


def test_predict() -> None:
    out = TASK.predict(logits([2, 0], 3).half())
    assert out["class"].tolist() == [2, 0]
    assert out["probability"].dtype == torch.float32
    assert torch.allclose(out["probability"].sum(1), torch.ones(2))


def test_metrics_by_hand() -> None:
    # Class 3 has no target but is predicted once: it is no part of balanced accuracy.
    metrics = TASK.metrics(["a", "b", "c", "d"])
    metrics.update(logits([0, 0, 3], 4), torch.tensor([0, 0, 0]))
    metrics.update(logits([1, 0, 2], 4), torch.tensor([1, 1, 2]))
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert set(found) == {"top1", "balanced_accuracy"}
    assert found["top1"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    metrics.reset()
    metrics.update(logits([0], 4), torch.tensor([0]))
    assert metrics.compute()["balanced_accuracy"] == 1


def test_top5_only_with_more_than_five_classes() -> None:
    assert "top5" not in TASK.metrics(list("abcde"))
    metrics = TASK.metrics(list("abcdefg"))
    ranked = torch.arange(7, 0, -1).float().expand(3, 7)  # class 0 first, class 6 last
    metrics.update(ranked, torch.tensor([0, 4, 5]))
    found = metrics.compute()
    assert found["top1"].item() == pytest.approx(1 / 3)
    assert found["top5"].item() == pytest.approx(2 / 3)


def test_options() -> None:
    with pytest.raises(ValidationError):
        RecognitionOptions(label_smoothing=1.0)
    assert isinstance(TASK.head(Flat(), ["a", "b"]), nn.Module)
