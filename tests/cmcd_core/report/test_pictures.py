"""The pictures that matplotlib draws: any name of the data, one line an encoder and protocol, one panel a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cmcd_core.report.compare_plot import compare_plot
from cmcd_core.report.pictures import Shown, confusion_matrix, mask_sheet, mistakes_sheet, retrieval_sheet

DOLLARS = ("$5_$", "a$5_$b", r"$\nothing{$")
GREY = np.full((8, 8, 3), 128, np.uint8)
MASK = np.zeros((8, 8), np.int64)


def row(encoder: str, n_train: int = 10, mean: float = 0.5, **about: Any) -> dict[str, Any]:
    every = {"task": "recognition", "data": "demo", "protocol": "linear", "modality": "depth", "metric": "top1"}
    seen = {"encoder": encoder, "labels": str(n_train), "n_train": n_train, "mean": mean, "interval": [0.4, 0.6]}
    return {**every, **seen, **about}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that was saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **options: Any) -> None:
        saved.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def shown(name: str) -> Shown:
    return Shown(name, {name: GREY}, f"is {name}", MASK, MASK)


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: confusion_matrix(np.arange(3), np.arange(3), DOLLARS, path),
        lambda path: mistakes_sheet([shown(name) for name in DOLLARS], path),
        lambda path: mask_sheet([shown(name) for name in DOLLARS], DOLLARS, -1, path),
        lambda path: retrieval_sheet([[shown(name) for name in DOLLARS]], path),
        lambda path: compare_plot({"rows": [row(name, task=name) for name in DOLLARS]}, path),
    ],
    ids=["confusion", "mistakes", "masks", "retrieval", "comparison"],
)
def test_dollars_in_a_name_are_no_formula(draw: Callable[[Path], None], tmp_path: Path) -> None:
    draw(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


def lines_of(axes: Axes) -> dict[str, list[float]]:
    """The heights of each line of the legend."""
    handles, names = axes.get_legend_handles_labels()
    assert len(set(names)) == len(names)
    return {name: list(handle.lines[0].get_ydata()) for name, handle in zip(names, handles, strict=True)}


def test_each_protocol_has_a_line_of_its_own(drawn: list[Figure], tmp_path: Path) -> None:
    rows = [row("distilled", n, n / 100) for n in (10, 20)]
    rows += [row("distilled", n, n / 200, protocol="knn") for n in (10, 20)]
    rows += [row("scratch", n, 0.3, protocol="supervised") for n in (10, 20)]
    compare_plot({"rows": rows}, tmp_path / "both.png")
    both = lines_of(drawn[-1].axes[0])
    assert both == {"distilled, linear": [0.1, 0.2], "distilled, knn": [0.05, 0.1], "scratch": [0.3, 0.3]}
    compare_plot({"rows": [one for one in rows if one["protocol"] != "knn"]}, tmp_path / "one.png")
    assert list(lines_of(drawn[-1].axes[0])) == ["distilled", "scratch"]


def test_each_data_set_has_a_panel_of_its_own(drawn: list[Figure], tmp_path: Path) -> None:
    rows = [row("distilled", n, n / 100) for n in (10, 20)] + [row("distilled", 30, 0.9, data="folder:/far/other")]
    compare_plot({"rows": rows}, tmp_path / "both.png")
    here, there = drawn[-1].axes
    assert lines_of(here) == {"distilled": [0.1, 0.2]}
    assert [label.get_text() for label in there.get_yticklabels()] == ["distilled"]
    assert (here.get_title(), there.get_title()) == ("demo", "other")
    assert here.bbox.height > there.bbox.height


def test_the_source_is_drawn_where_it_sees_the_same(drawn: list[Figure], tmp_path: Path) -> None:
    rows = [row("distilled"), row("source", modality="image")]
    compare_plot({"rows": rows}, tmp_path / "other.png")
    compare_plot({"rows": [rows[0], row("source")]}, tmp_path / "same.png")
    assert [len(figure.axes[0].get_yticklabels()) for figure in drawn] == [1, 2]


def test_nothing_to_draw_is_no_picture(tmp_path: Path) -> None:
    compare_plot({"rows": []}, tmp_path / "none.png")
    compare_plot({"rows": [row("source")]}, tmp_path / "none.png")
    assert not list(tmp_path.iterdir())
