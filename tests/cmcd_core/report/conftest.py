"""Small finished runs to report on: one on data with hostile names, and what a browser or a parser makes of a page."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

HOSTILE = "<script>alert(1)</script>"
KEY = '"><img src=x onerror=alert(2)>&amp;'
CLASSES = (HOSTILE, "a & b", "' onload='alert(3)")
SIDE = 24


def write_pairs(root: Path, rows: list[list[Any]], head: list[str], shuffled: bool = False) -> None:
    """Pictures of discs, bright or dark, and their depth; in another order where ``shuffled``."""
    rng = np.random.default_rng(0)
    for name in ("image", "depth"):
        (root / name).mkdir(parents=True)
    y, x = np.mgrid[:SIDE, :SIDE]
    depths = []
    for number in range(len(rows)):
        centre, radius = rng.uniform(8, 16, 2), rng.uniform(3, 9)
        inside = np.hypot(y - centre[0], x - centre[1]) < radius
        paint = np.where(inside[..., None], rng.uniform(20, 250), 130.0) + rng.normal(0, 4, (SIDE, SIDE, 3))
        Image.fromarray(paint.clip(0, 255).astype(np.uint8)).save(root / "image" / f"{number:03}.png")
        depths.append(np.where(inside, 700 + 60 * radius, 1900) + rng.normal(0, 10, (SIDE, SIDE)))
    order = rng.permutation(len(rows)) if shuffled else np.arange(len(rows))
    for number, at in enumerate(order):
        Image.fromarray(depths[at].astype(np.uint16)).save(root / "depth" / f"{number:03}.png")
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*head, "image_file_name", "depth_file_name"])
        writer.writerows([*row, f"image/{n:03}.png", f"depth/{n:03}.png"] for n, row in enumerate(rows))
    (root / "dataset.toml").write_text('aligned = ["image", "depth"]\n[depth]\nunit = "mm"\n')


def small(data: Path, out: Path, **sections: Any) -> dict[str, Any]:
    """A configuration of an epoch each, at the smallest size."""
    return {
        "source": "image", "target": "depth", "data": {"root": str(data)}, "pretrain": {"epochs": 1},
        "distill": {"epochs": 2, "views": 2}, "run": {"size": 32, "out": str(out)},
        "evaluate": {"labels": ["2", "100%"], "label_draws": 2, "train_steps": 2, "train_epochs": 1,
                     "scratch_lrs": [1e-3]},
        **sections,
    }  # fmt: skip


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on data whose classes and keys are markup, with scratch and two label budgets. Read only: copy it."""
    from cmcd_core import RunConfig, run

    root = tmp_path_factory.mktemp("hostile")
    splits = [("train", 24), ("val", 9), ("test", 24)]
    rows = [[f"{KEY}{split}{n}", split, CLASSES[n % 3]] for split, count in splits for n in range(count)]
    write_pairs(root / "data", rows, ["id", "split", "label"])
    run(RunConfig.from_mapping(small(root / "data", root / "run")))
    return root / "run"


@pytest.fixture(scope="session")
def shuffled_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pairs in the wrong order, without labels and without a val or test split of any size. Read only."""
    from cmcd_core import RunConfig, run

    root = tmp_path_factory.mktemp("shuffled")
    rows = [[f"{n:03}", "train" if n < 90 else "val" if n < 93 else "test"] for n in range(96)]
    write_pairs(root / "data", rows, ["id", "split"], shuffled=True)
    run(RunConfig.from_mapping(small(root / "data", root / "run", distill={"epochs": 1, "views": 2})))
    return root / "run"


@pytest.fixture
def copied(hostile_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(hostile_run, tmp_path / "run"))


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    words: str = ""


@dataclass
class Page(HTMLParser):
    """What a parser makes of a page: its elements in order, with the words directly in them."""

    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[Element] = []

    @classmethod
    def of(cls, file: Path) -> Page:
        page = cls()
        page.feed(file.read_text(encoding="utf-8"))
        page.close()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in ("meta", "link", "img"):
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.words += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    @property
    def text(self) -> str:
        """All words of the page, with plain spaces."""
        return self.one("body").words.replace("\N{NO-BREAK SPACE}", " ")

    def one(self, tag: str) -> Element:
        (found,) = self.all(tag)
        return found
