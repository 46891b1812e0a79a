"""`cmcd distance --forecast`: what is measured before any training, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cmcd_core import RunConfig, run
from cmcd_core.cli import main
from cmcd_core.cli.forecast import answers
from cmcd_core.forecasting import statistics
from cmcd_core.theory.forecast import Forecast, Number

DEMO = {"loader": "demo", "train": 80, "val": 20, "test": 20}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("forecast") / "run"
    sizes = {"size": 32, "source_size": 32, "out": str(out)}
    run(RunConfig.from_mapping({"data": DEMO, "pretrain": {"epochs": 1}, "run": sizes}), steps=("pretrain",))
    return out


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["distance", *words])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def test_a_folder_whose_step_1_is_done_is_enough(pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (str(pretrained), "--forecast", "--target", "depth", "--labels", "5", "--labels", "20%", "--json")
    code, out, _ = told(capsys, *words)
    found = json.loads(out)
    assert code == 0
    assert (found["measured"]["pairs"], found["measured"]["looked_at"], found["measured"]["classes"]) == (80, 80, 10)
    assert 0 <= found["measured"]["partner_rank"] <= 1
    assert found["measured"]["explained"] < 1
    assert set(found["forecasts"]) == {"5", "20%"}
    for forecasts in found["forecasts"].values():
        assert forecasts[0]["outcome"] == "gain"
        assert (forecasts[0]["number"] is None) == (forecasts[0]["verdict"] != "number")
    assert not (pretrained / "target").exists(), "nothing is trained"


def test_every_answer_comes_with_its_error_and_the_runs_beside(
    pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = told(capsys, str(pretrained), "--forecast", "--target", "depth")
    assert code == 0
    assert "nothing trained" in out
    assert "on data sets left out" in " ".join(out.split())
    assert "nearest to it" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--forecast", "--target", "depth"), "needs a source encoder"),
        (("nowhere", "--forecast", "--target", "depth"), "no run whose step 1 is done"),
        (("--forecast", "--before"), "--before goes without --forecast"),
        (("nowhere", "--target", "depth"), "--target goes with --forecast"),
        (("nowhere", "--teacher", "x"), "--teacher goes with --forecast"),
        (("--forecast", "--target", "depth", "--labels", "many"), "--labels 'many'"),
        ((), "which run?"),
    ],
)
def test_what_is_missing_is_said(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("-o", "data.train=40", "-o", "data.val=8", "-o", "data.test=8") if "--forecast" in words else ()
    code, _, err = told(capsys, *words, *small)
    assert code == 2
    assert said in err


def test_pairs_without_labels_need_the_number_of_classes(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        for name, pixels in (("image", np.zeros((8, 8, 3), np.uint8)), ("depth", np.full((8, 8), 900, np.uint16))):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels + number).save(tmp_path / name / f"{number}.png")
    words = (str(pretrained), "--forecast", "--target", "depth", "--data", str(tmp_path))
    code, _, err = told(capsys, *words)
    assert code == 2
    assert "Pass --classes N" in err
    code, out, err = told(capsys, *words, "--classes", "7", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["measured"]["classes"] == 7


def test_partners_are_told_from_strangers() -> None:
    generator = np.random.default_rng(0)
    b = generator.standard_normal((120, 6))
    a = np.tanh(b @ generator.standard_normal((6, 10))) + 0.1 * generator.standard_normal((120, 10))
    explained, rank, dependence = statistics(a, b)
    assert explained > 0.5
    assert rank > 0.9
    assert dependence > 0.3
    explained, rank, dependence = statistics(a, generator.permutation(b))
    assert explained < 0.1
    assert abs(rank - 0.5) < 0.1
    assert abs(dependence) < 0.1


def forecast_of(outcome: str, *, number: Number | None, verdict: Any = "number") -> Forecast:
    return Forecast(outcome, verdict, number, 0.02, 0.05, 40, 5, ("pairs is 9",), (-0.1, 0.05, 0.2))


def test_one_is_said_to_help_more_only_where_the_intervals_are_apart() -> None:
    gain = forecast_of("gain", number=Number(0.1, 0.04, 0.16, 0.97))
    labels = forecast_of("more_labels", number=Number(0.08, 0.05, 0.11, 1.0))
    apart = forecast_of("more_pairs", number=Number(0.01, 0.0, 0.02, 0.8))
    near = forecast_of("more_pairs", number=Number(0.04, 0.02, 0.06, 0.9))
    said = list(answers([gain, apart, labels]))
    assert said[0].startswith("distilled − scratch: +10.0 points [+4.0, +16.0], above 0 with a chance of 97%")
    assert said[-1] == "more labels would help more"
    assert "neither is sure" in list(answers([gain, near, labels]))[-1]


def test_no_number_is_explained() -> None:
    unlike = forecast_of("gain", number=None, verdict="unlike the recorded runs")
    constant = forecast_of("more_labels", number=None, verdict="no better than a constant")
    first, second = answers([unlike, constant])
    assert "don't know. pairs is 9" in first
    assert "no better than a constant guess" in second
    assert "-10.0 to +20.0" in second
