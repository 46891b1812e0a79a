"""report.html of one run: what is in it, that nothing in it acts or loads, and what is left where files are missing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cmcd_core import ConfigError
from cmcd_core.cli import main
from cmcd_core.report.evidence import read_run
from cmcd_core.report.page import write_report

from .conftest import CLASSES, HOSTILE, KEY, Page

SECTIONS = [
    "labels", "cost", "learning", "distance", "map", "retrieval", "predictions", "data", "repeat",
]  # fmt: skip
CONTENT = "http-equiv"


def report(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of ``cmcd report``."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["report", *map(str, words)])
    said = capsys.readouterr()
    assert stopped.value.code == code, said.err
    assert "Traceback" not in said.err
    return said.out, said.err


def edited(folder: Path, change: Callable[[dict[str, Any]], None], name: str = "result.json") -> Path:
    """The run with one of its JSON files changed."""
    values = json.loads((folder / name).read_text(encoding="utf-8"))
    change(values)
    (folder / name).write_text(json.dumps(values), encoding="utf-8")
    return folder


def page_of(folder: Path) -> Page:
    return Page.of(write_report(folder))


def test_a_run_leaves_its_report_with_every_part(hostile_run: Path) -> None:
    page = Page.of(hostile_run / "report.html")
    sections = [element.attributes.get("id") for element in page.all("section")]
    assert [name for name in sections if name in SECTIONS] == SECTIONS
    assert re.search(r"over training from scratch|against training from scratch", page.one("h1").words)
    words = page.text
    config = (hostile_run / "config.toml").read_text()
    assert config in [element.words for element in page.all("code")]
    assert f"cmcd run -c {hostile_run}/config.toml" in [element.words for element in page.all("code")]
    for said in ("95 % interval", "24 unlabelled pairs", "Label efficiency", "t-SNE", "Only 24 test samples"):
        assert said in words, said


def test_nothing_in_the_page_acts_or_loads(hostile_run: Path) -> None:
    text = (hostile_run / "report.html").read_text(encoding="utf-8")
    page = Page.of(hostile_run / "report.html")
    assert not page.all("script") + page.all("iframe") + page.all("object") + page.all("form")
    for element in page.elements:
        acting = [name for name in element.attributes if name.startswith("on") or name == "style"]
        assert not acting, element
        for name in ("src", "href", "data", "action"):
            where = element.attributes.get(name, "#")
            assert where.startswith(("#", "data:")), where[:80]
    policy = next(e.attributes["content"] for e in page.all("meta") if e.attributes.get(CONTENT))
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    known = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.split("; ")[:3] == ["default-src 'none'", "img-src data:", f"style-src 'sha256-{known}'"]
    assert "@import" not in style[1]
    assert "url(" not in style[1]


def test_names_from_the_data_are_words_and_no_markup(hostile_run: Path) -> None:
    text = (hostile_run / "report.html").read_text(encoding="utf-8")
    page = Page.of(hostile_run / "report.html")
    assert HOSTILE not in text
    assert "<img src=x" not in text
    shown = page.text
    for name in CLASSES:
        assert name in shown
    assert any(KEY in element.attributes["alt"] for element in page.all("img"))
    assert {element.attributes["src"][:16] for element in page.all("img")} == {"data:image/jpeg;"}


def test_the_page_can_be_heard_and_walked(hostile_run: Path) -> None:
    page = Page.of(hostile_run / "report.html")
    assert page.one("html").attributes["lang"] == "en"
    levels = [int(e.tag[1]) for e in page.elements if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    names = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(names) == len(set(names))
    for link in page.all("a"):
        assert link.attributes["href"][1:] in names
    for picture in page.all("img"):
        assert picture.attributes["alt"].strip()
    for drawing in page.all("svg"):
        assert drawing.attributes.get("aria-hidden") == "true" or drawing.attributes["aria-label"].strip()
    for head in page.all("th"):
        assert head.attributes["scope"] in ("col", "row")
    assert len(page.all("caption")) == len(page.all("table"))


def test_it_is_made_again_from_the_folder_alone(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copied / "report.html").read_text()
    (copied / "report.html").unlink()
    shutil.rmtree(copied / "source")  # neither encoders nor data are opened
    out, _ = report(capsys, copied)
    assert out.strip() == f"report: {copied}/report.html"
    after = (copied / "report.html").read_text()
    assert len(before) - 2000 < len(after) < len(before) + 2000
    report(capsys, copied, "--out", copied.parent / "elsewhere" / "page.html")
    assert (copied.parent / "elsewhere" / "page.html").is_file()


@pytest.mark.parametrize(
    ("gone", "sections"),
    [
        ("report", {"map", "retrieval", "data"}),
        ("report/space.npz", {"map"}),
        ("evaluations", {"predictions"}),
        ("metrics.jsonl", {"learning"}),
        ("config.toml", set()),
        ("report/retrieval/", set()),
    ],
)
def test_what_is_missing_costs_its_own_part(copied: Path, gone: str, sections: set[str]) -> None:
    path = copied / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = {element.attributes.get("id") for element in page_of(copied).all("section")}
    assert set(SECTIONS) - found == sections


@pytest.mark.parametrize("name", ["report/space.npz", "report/retrieval.json", "metrics.jsonl", "config.toml"])
def test_what_is_broken_is_told(copied: Path, name: str) -> None:
    (copied / name).write_bytes((copied / name).read_bytes()[:20] + b"\xff\x00{")
    words = page_of(copied).text
    if name != "metrics.jsonl":  # half a line is what a crash leaves there
        assert f"{name} cannot be read" in words


def test_predictions_without_keys_cost_their_own_part(copied: Path) -> None:
    for file in copied.glob("evaluations/*/predictions.npz"):
        with np.load(file) as opened:
            kept = {name: opened[name] for name in opened.files if name != "key"}
        np.savez(file, **kept)
    assert "predictions" not in {element.attributes.get("id") for element in page_of(copied).all("section")}


def test_pictures_of_other_places_are_not_shown(copied: Path) -> None:
    """A run's folder may come from somebody else."""
    secret = copied.parent / "secret.jpg"
    Image.new("RGB", (9, 9), (1, 200, 3)).save(secret)
    (copied / "report" / "seen" / "text.jpg").write_text("<svg onload=alert(1)>")

    def other(values: dict[str, Any]) -> None:
        values["samples"][0]["views"]["source"] = ["../../secret.jpg", "seen/text.jpg"]

    page = page_of(edited(copied, other, "report/seen.json"))
    assert base64.b64encode(secret.read_bytes()).decode() not in (copied / "report.html").read_text()
    assert page.text.count("no picture") == 2


@pytest.mark.parametrize(
    ("difference", "interval", "said"),
    [
        (0.157, [0.117, 0.2], "Distillation paid: +15.7 points over training from scratch"),
        (-0.05, [-0.08, -0.01], "Distillation did not pay: −5.0 points against training from scratch"),
        (0.01, [-0.02, 0.04], "No clear gain over training from scratch"),
    ],
)
def test_the_answer_follows_the_interval(copied: Path, difference: float, interval: list[float], said: str) -> None:
    def measured(values: dict[str, Any]) -> None:
        for one in values["comparisons"]:
            one |= {"difference": difference, "interval": interval}

    page = page_of(edited(copied, measured))
    assert page.one("h1").words == said
    doubted = "The distilled encoder is not clearly above scratch" in page.text
    assert doubted == (interval[0] <= 0) == ("--protocol finetune is like with like" in page.text)


def test_a_gain_that_random_weights_have_too_is_none(copied: Path) -> None:
    def measured(values: dict[str, Any]) -> None:
        for one in values["comparisons"]:
            one |= {"difference": 0.1, "interval": [-0.01 if one["over"] == "untrained" else 0.05, 0.15]}

    page = page_of(edited(copied, measured))
    said = "No clear gain: +10.0 points over training from scratch, but an untrained network does as well"
    assert page.one("h1").words == said
    assert "Not above an untrained network" in page.text


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (None, "The student began as a copy of the teacher"),
        ([-0.01, 0.05], "Not clearly above the teacher on depth"),
        ([0.01, 0.05], None),
    ],
)
def test_what_a_copy_owes_to_the_teacher_is_told(copied: Path, gain: list[float] | None, said: str | None) -> None:
    def measured(values: dict[str, Any]) -> None:
        like = next(one for one in values["comparisons"] if one["over"] == "scratch")
        if gain:
            values["comparisons"].append({**like, "over": "source", "difference": 0.02, "interval": gain})

    both = ("began as a copy of", "above the teacher")
    assert not any(words in page_of(edited(copied, measured)).text for words in both)
    (copied / "start.json").write_text('{"init": "source"}')
    text = page_of(copied).text
    assert said in text if said else not any(words in text for words in both)


def test_the_ranks_of_partners_are_those_of_the_features() -> None:
    import torch

    from cmcd_core.exhibits import flattened, ranks
    from cmcd_core.latents import Latents

    generator = torch.Generator().manual_seed(0)
    source = torch.randn(50, 8, generator=generator)
    alike = Latents(source, 3 * source, tuple(map(str, range(50))), "one")
    assert ranks(alike, "target").tolist() == [1] * 50
    moved = Latents(source, source.roll(1, 0), tuple(map(str, range(50))), "one")
    cosines = torch.nn.functional.cosine_similarity(source[:, None], source.roll(1, 0)[None], dim=2)
    expected = [1 + int((row > row[n]).sum()) for n, row in enumerate(cosines)]
    assert ranks(moved, "source").tolist() == expected
    constant = Latents(source, torch.ones(50, 8), tuple(map(str, range(50))), "one")
    assert set(ranks(constant, "source").tolist()) == {25}
    points, explained = flattened(alike, np.arange(50))
    assert np.allclose(points["pca"][0], points["pca"][1], atol=1e-9)
    assert np.allclose(points["tsne"][0], points["tsne"][1], atol=3.0)
    assert 0 < sum(explained) < 1


def test_shuffled_pairs_and_nothing_to_measure_are_told(shuffled_run: Path) -> None:
    page = Page.of(shuffled_run / "report.html")
    words = page.text
    assert "The pairs look shuffled" in words
    assert page.one("h1").words == "The depth encoder is taught; what that is worth is not measured yet"
    found = {element.attributes.get("id") for element in page.all("section")}
    assert {"map", "retrieval", "distance", "labels", "predictions"}.isdisjoint(found)
    assert {"learning", "data", "cost", "notes", "repeat"} <= found


def test_pairs_that_belong_together_are_not_said_to_be_shuffled(tmp_path: Path) -> None:
    from cmcd_core import RunConfig, run

    from .conftest import small, write_pairs

    rows = [[f"{n:03}", "train" if n < 90 else "val" if n < 93 else "test"] for n in range(96)]
    write_pairs(tmp_path / "data", rows, ["id", "split"])
    values = small(tmp_path / "data", tmp_path / "run", distill={"epochs": 1, "views": 2})
    run(RunConfig.from_mapping(values), steps=("pretrain", "distill"))
    found = read_run(tmp_path / "run").pairing
    assert found["tested"] == 90
    assert found["p"] <= 0.05
    assert "look shuffled" not in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["NOWHERE"], "no finished run here (no result.json)"),
        (["RUN", "RUN"], "named twice"),
        (["RUN", "--out", "TAKEN"], "taken.html: something is there that is no report"),
        (["SPOILT"], "report.html: something is there that is no report\nName another file with --out."),
    ],
)
def test_what_is_refused(copied: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    taken = copied.parent / "taken.html"
    taken.write_text("<p>mine")
    places = {"RUN": str(copied), "NOWHERE": str(copied.parent / "nowhere"), "TAKEN": str(taken)}
    if words == ["SPOILT"]:
        (copied / "report.html").write_text("<p>mine")
        places["SPOILT"] = str(copied)
    _, said = report(capsys, *(places.get(word, word) for word in words), code=2)
    assert told in said
    assert "--out" not in said.splitlines()[0]
    assert taken.read_text() == "<p>mine"


def test_a_run_that_is_not_done_has_no_report(copied: Path) -> None:
    (copied / "result.json").unlink()
    with pytest.raises(ConfigError, match="no finished run here"):
        write_report(copied)
