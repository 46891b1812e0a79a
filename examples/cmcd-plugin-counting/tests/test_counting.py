import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from cmcd_counting import CountingOptions, build, cmcd_tasks
from PIL import Image

from cmcd_core import Features
from cmcd_core.testing import check_plugin

IDS = np.array([[0, 0, 3, 255], [0, 7, 7, 255]], np.uint8)  # six are known, three of them object


def test_contract():
    findings = check_plugin("counting")
    assert {finding.outcome for finding in findings} == {"ok"}


@pytest.mark.parametrize("kind", ["array", "bytes", "file"])
def test_shares_by_hand(kind, tmp_path):
    picture = io.BytesIO()
    Image.fromarray(IDS).save(picture, "PNG")
    (tmp_path / "mask.png").write_bytes(picture.getvalue())
    value = {"array": IDS, "bytes": picture.getvalue(), "file": tmp_path / "mask.png"}[kind]
    assert build(CountingOptions()).target(value).item() == 0.5
    assert build(CountingOptions(background=7)).target(value).item() == pytest.approx(4 / 6)


def test_metrics_by_hand():
    task, target = build(CountingOptions()), torch.tensor([0.1, 0.2, 0.3, 0.4])
    for output, expected in (
        (target, 1),
        (torch.full((4,), 0.25), 0),
        (1 - target, 0),  # worse than a constant
        (target + torch.tensor([0.05, -0.05, 0.05, -0.05]), 1 - 4 * 0.05**2 / 0.05),
    ):
        metrics = task.metrics(None)
        metrics.update(output, target)
        assert metrics.compute()["r2"].item() == pytest.approx(expected, abs=1e-6)


def test_the_head_learns_a_number():
    task = build(CountingOptions())
    features = Features(pooled=torch.randn(64, 3, generator=torch.Generator().manual_seed(0)))
    target = (0.4 + 0.1 * features.pooled[:, 1]).clamp(0, 1)
    head = task.head(type("Encoder", (), {"dim": 3}), None)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        task.loss(head(features), target).backward()
        optimiser.step()
    metrics = task.metrics(None)
    metrics.update(head(features), target)
    assert metrics.compute()["r2"] > 0.98
    assert task.predict(head(features))["share"].shape == (64,)
    assert task.stratum(target[0]) is None


def test_options():
    with pytest.raises(ValueError, match="less than or equal to 254"):
        CountingOptions(background=255)
    (part,) = cmcd_tasks()
    assert (part.name, part.options) == ("counting", CountingOptions)


def test_light():
    heavy = "import cmcd_counting, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy]).returncode == 0
