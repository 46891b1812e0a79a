"""The harness measures what it says, refuses to measure two things that are not the same, and writes one table."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cmcd_objectives.functional import tiles

from tests.benchmarks import choices, data_path, losses, page, teacher_cache, training
from tests.benchmarks.__main__ import ALL, LONG, main
from tests.benchmarks.measuring import Found, Ratio, Row, Seconds, alternating, at_least, at_most, ratio, require

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def tiled_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness's processes choose a form of the losses; tests of this process must not keep it."""
    monkeypatch.setattr(tiles, "TILED_FROM", tiles.TILED_FROM)


def test_sides_take_turns_and_ratios_are_of_pairs() -> None:
    order: list[str] = []
    taken = alternating({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(each) for name, each in taken.items()} == {"a": 3, "b": 3}
    over, under = [Seconds(2, 3), Seconds(4, 3), Seconds(3, 3)], [Seconds(1, 1), Seconds(1, 1), Seconds(1, 1)]
    assert ratio(over, under) == Ratio(3, 2, 4)
    assert ratio(over, under, "cpu", times=2) == Ratio(6, 6, 6)


def test_what_the_sides_are_given_is_made_off_the_clock() -> None:
    def ready() -> tuple[float]:
        time.sleep(0.05)
        return (0.0,)

    taken = alternating({"a": time.sleep}, 2, ready=ready)
    assert max(one.wall for one in taken["a"]) < 0.05


def test_goals_are_met_or_not_by_the_median() -> None:
    found = Ratio(1.02, 0.9, 1.4)
    assert at_most("x", found, 1.05).met
    assert not at_most("x", found, 1.0).met
    assert at_least("x", found, 1.0).met
    assert not at_least("x", found, 1.05).met
    assert at_most("x", found, 1.05).measured == "1.02 (0.90 to 1.40)"


def test_a_requirement_that_does_not_hold_ends_a_benchmark() -> None:
    require(True, "snow is white")
    with pytest.raises(AssertionError, match="not true that snow is black"):
        require(False, "snow is black")


@pytest.mark.slow
def test_nothing_is_measured_of_sides_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "step_two", lambda *given: 1.0)
    monkeypatch.setattr(training, "bare_loop", lambda *given: 2.0)
    with pytest.raises(AssertionError, match="both losses are equal"):
        training.measure(1, True)
    monkeypatch.setattr(teacher_cache, "recomputed", lambda *given: 0.0)
    with pytest.raises(AssertionError, match="the loss is the same with cached features"):
        teacher_cache.measure(1, True)
    monkeypatch.setattr(data_path, "faithful", lambda *given: False)
    with pytest.raises(AssertionError, match="the cache holds the files' pictures"):
        data_path.measure(1, True)


def test_losses_with_other_gradients_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = losses.ours("cmc", "tiled")
    monkeypatch.setattr(losses, "theirs", lambda name: twice)
    assert losses.apart("cmc", "the same", 64) == 0
    monkeypatch.setattr(losses, "theirs", lambda name: lambda a, b: 2 * twice(a, b))
    assert losses.apart("cmc", "twice as much", 64) > 0.4


def test_precision_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "bfloat16_speed", lambda: 0.01)
    assert choices.precision().met
    assert choices.precision().measured == "0.01"


def test_the_page_keeps_what_was_not_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, text = tmp_path / "performance.md", "# Fast\n\nWhy.\n\n" + page.BEGIN + "\n" + page.END + "\n\n## After\n"
    file.write_text(text)
    page.add(file, {"one": ("the first", Found([Row("a|b", "1.00", "≤ 2", True, "c")]), 3.4)})
    page.add(file, {"two": ("the second", Found([Row("d", "9.00", "≤ 2", False)], "\nA profile.\n"), 5.0)})
    page.add(file, {"one": ("the first", Found([Row("e", "3.00")]), 7.0)})
    shown = file.read_text()
    assert shown.startswith("# Fast\n\nWhy.\n\n")
    assert shown.endswith("## After\n")
    assert "| the first | e | 3.00 |  |  |  | 7 |" in shown
    assert "| the second | d | 9.00 | ≤ 2 | **no** |  | 5 |" in shown
    assert "### The second\n\nA profile.\n" in shown
    assert r"a\|b" not in shown
    assert f"torch {torch.__version__.partition('+')[0]}" in shown
    monkeypatch.setattr(page, "machine", lambda: "another machine")
    with pytest.raises(SystemExit, match="measure everything anew"):
        page.add(file, {"one": ("the first", Found([Row("e", "3.00")]), 7.0)})


def test_the_command_refuses_few_repeats_and_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--repeats", "2"], ["--only", "sound"]):
        with pytest.raises(SystemExit, match="2"):
            main(words)
    assert "at least 5" in capsys.readouterr().err
    for name in (*ALL, *LONG):
        assert (Path(__file__).parent / f"{name}.py").is_file()


@pytest.mark.slow
def test_one_benchmark_from_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--only", "start_up", "--quick"],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert "start_up" in done.stdout
    assert "`cmcd --help`: CPU seconds above bare Python" in done.stdout
    assert "written" not in done.stderr


def test_the_page_says_what_the_file_beside_it_says() -> None:
    if page.PAGE.with_suffix(".json").exists():
        values = json.loads(page.PAGE.with_suffix(".json").read_text())
        assert page.written(values) in page.PAGE.read_text()
