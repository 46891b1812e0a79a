"""One page over several runs: what differs, scores side by side, seeds taken together, unfairness told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmcd_core.cli import main
from cmcd_core.report.evidence import read_run
from cmcd_core.report.groups import apart, common_keys, differing, grouped

from .conftest import HOSTILE, Page

Made = Callable[..., Path]


@pytest.fixture
def made(hostile_run: Path, tmp_path: Path) -> Made:
    """``made("a", seed=1, lr=0.01, shift=0.1)``: the run as another seed, setting or score would have left it."""

    def make(name: str, *, seed: int = 0, lr: float | None = None, shift: float = 0.0, **changed: object) -> Path:
        folder = Path(shutil.copytree(hostile_run, tmp_path / name))
        config = (folder / "config.toml").read_text()
        if lr is not None:
            assert "[distill]\n" in config
            config = config.replace("[distill]\n", f"[distill]\nlr = {lr}\n", 1)
        (folder / "config.toml").write_text(config.replace("\nseed = 0", f"\nseed = {seed}"))
        values = json.loads((folder / "result.json").read_text()) | {"seed": seed} | changed
        for entry in values["evaluations"]:
            if entry["encoder"] == "distilled":
                metric = entry["primary"]
                entry["metrics"][metric] += shift
                entry["intervals"][metric] = [end + shift for end in entry["intervals"][metric]]
        for gain in values["comparisons"]:
            gain["difference"] += shift
            gain["interval"] = [end + shift for end in gain["interval"]]
        (folder / "result.json").write_text(json.dumps(values))
        for file in folder.glob("evaluations/*/evaluation.json"):
            entry = json.loads(file.read_text())
            if entry["encoder"] == "distilled":
                entry["metrics"][entry["primary"]] += shift
                file.write_text(json.dumps(entry))
                replicates = np.load(file.parent / "replicates.npy")
                np.save(file.parent / "replicates.npy", replicates + shift)
        return folder

    return make


def compared(*words: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", *map(str, words)])
    assert stopped.value.code == code


def test_two_settings_side_by_side(made: Made, tmp_path: Path) -> None:
    runs = [made("plain"), made("higher", lr=0.02, shift=0.2)]
    compared(*runs, "--out", tmp_path / "both.html")
    page = Page.of(tmp_path / "both.html")
    assert page.one("h1").words.startswith("lr 0.02 is ahead: ")
    words = page.text
    assert "The paired difference is +20.0 points, with a 95 % interval of +20.0 to +20.0." in words
    row = next(element for element in page.all("tr") if element.words.startswith("distill.lr"))
    assert row.words == "distill.lr–0.02"
    assert not page.all("script")
    assert HOSTILE not in (tmp_path / "both.html").read_text()
    assert {"differences", "results", "cost", "distance", "repeat"} <= {
        e.attributes.get("id") for e in page.all("section")
    }
    assert "label efficiency" in words.lower()


def test_seeds_are_taken_together_and_paired(made: Made) -> None:
    folders = [made("a0"), made("a1", seed=1), made("b0", lr=0.02, shift=0.1), made("b1", seed=1, lr=0.02, shift=0.1)]
    groups = grouped([read_run(folder) for folder in folders])
    assert [group.seeds for group in groups] == [[0, 1], [0, 1]]
    assert [group.name for group in groups] == ["lr by default", "lr 0.02"]
    assert differing(groups) == {"distill.lr": [None, 0.02]}
    key = common_keys(groups)[0]
    assert key[:3] == ("recognition", "linear", "2")
    difference = apart(groups[1], groups[0], key)
    assert difference is not None
    assert difference[0] == pytest.approx(0.1)
    assert groups[1].gains[key][0] == pytest.approx(groups[0].gains[key][0] + 0.1)


def test_other_seeds_and_other_tests_are_not_paired(made: Made, tmp_path: Path) -> None:
    runs = [made("one"), made("other", seed=4, lr=0.02, shift=0.3)]
    compared(*runs, "--out", tmp_path / "both.html")
    words = Page.of(tmp_path / "both.html").text
    assert "The runs share no seed" in words
    assert "The paired difference is" not in words
    groups = grouped([read_run(made("third")), read_run(made("fourth", lr=0.02))])
    key = common_keys(groups)[0]
    assert apart(groups[0], groups[1], key) is not None
    object.__setattr__(groups[0].own[key], "n_test", 7)
    assert apart(groups[0], groups[1], key) is None


def test_one_configuration_over_seeds(made: Made, tmp_path: Path) -> None:
    compared(made("s0"), made("s1", seed=1), "--out", tmp_path / "seeds.html")
    page = Page.of(tmp_path / "seeds.html")
    assert "2 seeds of one configuration" in page.one("h1").words
    assert "Nothing but the seed differs." in page.text


def test_a_comparison_stands_for_its_runs(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "compare"
    for name, lr in (("a", 0.005), ("b", 0.02)):
        shutil.move(made(name, lr=lr), folder / "cells" / name)
    (folder / "compare.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    compared(folder)
    assert "2 runs" in Page.of(tmp_path / "comparison.html").text
    shutil.rmtree(folder / "cells")
    compared(folder, code=2)


def test_runs_without_replicates_are_refused_in_a_line(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [made("a"), made("b", lr=0.02)]
    for file in runs[0].glob("evaluations/*/replicates.npy"):
        file.unlink()
    compared(*runs, "--out", runs[0] / "page.html", code=2)
    assert "replicates.npy: not readable" in capsys.readouterr().err


def test_runs_that_share_nothing(made: Made, shuffled_run: Path, tmp_path: Path) -> None:
    compared(made("a"), shuffled_run, "--out", tmp_path / "both.html")
    page = Page.of(tmp_path / "both.html")
    assert page.one("h1").words == "2 runs side by side"


def seen_as(folder: Path, modality: str) -> Path:
    """The run as one of another target modality on the same data would have left it."""
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("depth:depth", f"{modality}:{modality}"))
    for file in (folder / "result.json", *folder.glob("evaluations/*/evaluation.json")):
        file.write_text(file.read_text().replace('"depth"', f'"{modality}"'))
    return folder


def test_other_modalities_are_shown_side_by_side_and_not_paired(made: Made, tmp_path: Path) -> None:
    compared(made("depth"), seen_as(made("sketch", shift=0.1), "sketch"), "--out", tmp_path / "both.html")
    words = Page.of(tmp_path / "both.html").text
    assert "is ahead" in words
    assert "The two see other modalities" in words


def evaluated_on(folder: Path, place: str, shift: float) -> Path:
    """The run after `cmcd evaluate --data` on a further data set, whose every score is ``shift`` higher there."""
    values = json.loads((folder / "result.json").read_text())
    further = []
    for file in sorted(folder.glob("evaluations/*/evaluation.json")):
        copy = folder / "evaluations" / str(int(file.parent.name) + 100)
        shutil.copytree(file.parent, copy)
        entry = json.loads(file.read_text())
        entry |= {"data": place, "digest": f"{entry['digest']} there"}
        entry["metrics"][entry["primary"]] += shift
        (copy / "evaluation.json").write_text(json.dumps(entry))
        further.append(entry)
    values["evaluations"] += further
    values["comparisons"] += [{**gain, "data": place} for gain in values["comparisons"]]
    (folder / "result.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("seeds", [1, 2])
def test_scores_of_two_data_sets_are_kept_apart(seeds: int, made: Made, tmp_path: Path) -> None:
    first = [evaluated_on(made(f"a{n}", seed=n), "folder:/far/other", 0.25) for n in range(seeds)]
    second = [made(f"b{n}", seed=n, lr=0.02, shift=0.1) for n in range(seeds)]
    groups = grouped([read_run(folder) for folder in (*first, *second)])
    here = groups[1].first.result["data"]
    assert {key[-1] for key in common_keys(groups)} == {here}
    key = ("recognition", "linear", "2")
    own = groups[0].own
    assert own[*key, "folder:/far/other"].value == pytest.approx(own[*key, here].value + 0.25)
    difference = apart(groups[1], groups[0], (*key, here))
    assert difference is not None
    assert difference[0] == pytest.approx(0.1)
    compared(*first, *second, "--out", tmp_path / "both.html")
    assert "other" in {element.words for element in Page.of(tmp_path / "both.html").all("td")}


def test_runs_without_a_configuration_are_no_seeds_of_one(made: Made, tmp_path: Path) -> None:
    runs = []
    for name, seed in (("x0", 0), ("x1", 1)):
        (tmp_path / name).mkdir()
        runs.append(Path(shutil.move(made(f"plain-{name}", seed=seed), tmp_path / name / "run")))
        (runs[-1] / "config.toml").unlink()
    assert len(grouped([read_run(folder) for folder in runs])) == 2
    compared(*runs, "--out", tmp_path / "both.html")
    assert "Once more" not in Page.of(tmp_path / "both.html").text


def test_steps_done_one_by_one_are_repeated_one_by_one(made: Made, tmp_path: Path) -> None:
    runs = [made("whole"), made("taught", lr=0.02, steps=["pretrain", "distill"])]
    compared(*runs, "--out", tmp_path / "both.html")
    words = Page.of(tmp_path / "both.html").text
    assert f"cmcd run -c {runs[0] / 'config.toml'}" in words
    assert f"cmcd distill AGAIN -c {runs[1] / 'config.toml'}" in words
