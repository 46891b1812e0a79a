"""The task: ids are checked, classes found, and the loss is that of the pixels that count."""

from __future__ import annotations

import subprocess
import sys

import cmcd_segmentation
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cmcd_segmentation import SegmentationOptions, build
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cmcd_core import DataError

TASK = build(SegmentationOptions())
NAMES = ("a", "b", "c")


def test_descriptor() -> None:
    (plugin,) = cmcd_segmentation.cmcd_tasks()
    task = plugin.build(plugin.options())
    assert (plugin.name, task.primary, task.target_name, task.spatial) == ("segmentation", "miou", "mask", True)
    assert task.stratum(torch.zeros(2, 2)) is None
    code = "import sys, cmcd_segmentation; cmcd_segmentation.cmcd_tasks(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_options_are_described_and_bounded() -> None:
    for name, field in SegmentationOptions.model_fields.items():
        assert field.description, name
    for wrong in (
        {"ignore": 256},
        {"ignore": -1},
        {"balance": "yes"},
        {"levels": "all"},
        {"width": 0},
        {"nonsense": 1},
    ):
        with pytest.raises(ValidationError):
            SegmentationOptions(**wrong)


# --- ids and classes


@given(st.lists(st.integers(0, 255), min_size=1, max_size=12), st.integers(2, 9))
def test_ids_without_a_name_are_refused(ids: list[int], count: int) -> None:
    mask, names = torch.tensor([ids], dtype=torch.uint8), [str(n) for n in range(count)]
    wrong = sorted({value for value in ids if value >= count and value != 255})
    if not wrong:
        TASK.check(mask, names)
        return
    with pytest.raises(DataError, match=f"holds class {wrong[0]}, and the data set names {count} classes"):
        TASK.check(mask, names)


def test_the_ignored_id_is_no_class_of_its_own() -> None:
    mask = torch.tensor([[0, 9, 1]], dtype=torch.uint8)
    with pytest.raises(DataError, match=r"task\.segmentation\.ignore"):
        TASK.check(mask, NAMES)
    build(SegmentationOptions(ignore=9)).check(mask, NAMES)
    with pytest.raises(DataError):  # 255 is one then
        build(SegmentationOptions(ignore=9)).check(torch.full((1, 1), 255, dtype=torch.uint8), NAMES)


@given(st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=4), max_size=4))
def test_classes_that_nobody_names_are_numbered(pictures: list[list[int]]) -> None:
    found = TASK.find_classes(torch.tensor([ids], dtype=torch.uint8) for ids in pictures)
    known = [value for ids in pictures for value in ids if value != 255]
    if max(known, default=0) < 1:
        assert found is None  # one class is none
    else:
        assert found == [f"class {n}" for n in range(max(known) + 1)]
        for ids in pictures:
            TASK.check(torch.tensor([ids], dtype=torch.uint8), found)


@pytest.mark.parametrize("classes", [None, [], ["only"]])
def test_too_few_classes(classes: list[str] | None) -> None:
    with pytest.raises(DataError, match="two classes") as caught:
        TASK.metrics(classes)
    assert "mask_classes.txt" in caught.value.hint


# --- the loss


def drawn(seed: int, classes: int = 3, shape: tuple[int, int] = (5, 4)) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(2, classes, *shape)))
    target = rng.choice([*range(classes), 255], size=(2, *shape), p=[0.5, *[0.3 / (classes - 1)] * (classes - 1), 0.2])
    return logits, torch.from_numpy(target.astype(np.uint8))


def pixel_losses(logits: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of the pixels that count: -log p of the truth, and the truth."""
    scores = np.moveaxis(logits.numpy(), 1, -1).reshape(-1, logits.shape[1])
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    truth = target.numpy().ravel()
    known = truth != 255
    return -log_p[np.arange(len(truth)), np.where(known, truth, 0)][known], truth[known]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), balance=st.sampled_from(["none", "sqrt", "inverse"]), classes=st.integers(2, 5))
def test_against_a_twin_in_numpy(seed: int, balance: str, classes: int) -> None:
    logits, target = drawn(seed, classes)
    losses, truth = pixel_losses(logits, target)
    power = {"none": 0, "sqrt": 0.5, "inverse": 1}[balance]
    share = np.bincount(truth, minlength=classes) / len(truth)
    weight = share[truth] ** -power
    loss = build(SegmentationOptions(balance=balance)).loss(logits, target)
    assert loss.item() == pytest.approx((weight * losses).sum() / weight.sum(), rel=1e-5)


def test_inverse_balance_is_the_mean_over_the_classes_that_occur() -> None:
    logits, target = drawn(1, 4)
    target[target == 2] = 255  # one that does not
    losses, truth = pixel_losses(logits, target)
    expected = np.mean([losses[truth == number].mean() for number in np.unique(truth)])
    assert build(SegmentationOptions(balance="inverse")).loss(logits, target).item() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("balance", ["none", "sqrt", "inverse"])
def test_ignored_pixels_get_no_gradient(balance: str) -> None:
    logits, target = drawn(3)
    logits.requires_grad_()
    build(SegmentationOptions(balance=balance)).loss(logits, target).backward()
    assert logits.grad is not None
    of_pixel = logits.grad.abs().sum(1)
    assert of_pixel[target == 255].max() == 0
    assert of_pixel[target != 255].min() > 0


@pytest.mark.parametrize("balance", ["none", "inverse"])
def test_a_batch_without_a_known_pixel_is_0_and_still_trains(balance: str) -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = build(SegmentationOptions(balance=balance)).loss(logits, torch.full((2, 8, 8), 255, dtype=torch.uint8))
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_logits_are_brought_to_the_masks_size() -> None:
    logits, target = drawn(0, shape=(3, 2))[0].float(), drawn(0, shape=(12, 10))[1]
    expected = TASK.loss(F.interpolate(logits, (12, 10), mode="bilinear", align_corners=False), target)
    torch.testing.assert_close(TASK.loss(logits, target), expected)
    blocks = target[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2)
    flat = torch.randn(2, 3, 1, 1).expand(2, 3, 6, 5)  # one value everywhere: no matter how often
    torch.testing.assert_close(TASK.loss(flat, target[:, ::2, ::2]), TASK.loss(flat, blocks))


def test_half_precision_is_lifted() -> None:
    logits, target = drawn(4)
    loss = TASK.loss(logits.half(), target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, TASK.loss(logits.half().float(), target))


def test_predictions_are_ids_at_the_outputs_size() -> None:
    output = torch.randn(2, 7, 5, 4)
    mask = TASK.predict(output)["mask"]
    assert mask.dtype == torch.uint8
    assert torch.equal(mask.long(), output.argmax(1))
