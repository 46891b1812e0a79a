"""The small texts of the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from cmcd_core import ConfigError
from cmcd_core.grammar import Term, merge, parse_data, parse_expression, parse_labels, read_toml, set_key

# --- objective expressions


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("cmd", [(1, "cmd", "cmd")]),
        ("  cmd  ", [(1, "cmd", "cmd")]),
        ("cmd + 0.5*cmc", [(1, "cmd", "cmd"), (0.5, "cmc", "cmc")]),
        ("cmd+.5 * cmc+2*l2", [(1, "cmd", "cmd"), (0.5, "cmc", "cmc"), (2, "l2", "l2")]),
        ("1e-3*cmd", [(0.001, "cmd", "cmd")]),
        ("3e2*cmd", [(300, "cmd", "cmd")]),
        ("cmd + cmd@wide", [(1, "cmd", "cmd"), (1, "cmd", "cmd@wide")]),
        ("objectives:cmd + 0.1*mine:cmd@b", [(1, "objectives:cmd", "cmd"), (0.1, "mine:cmd", "cmd@b")]),
    ],
)
def test_expressions(text: str, terms: list) -> None:
    assert parse_expression(text) == [Term(float(weight), name, key) for weight, name, key in terms]


@pytest.mark.parametrize("text", ["", "+", "cmd +", "cmd cmc", "cmd - cmc", "cmd*0.5", "-1*cmd", "Cmd", "a.b", "cmd@"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot read") as caught:
        parse_expression(text)
    assert "cmd + 0.5*cmc" in caught.value.hint


@pytest.mark.parametrize("text", ["0*cmd", "cmd + 0.0*cmc"])
def test_weights_are_above_zero(text: str) -> None:
    with pytest.raises(ConfigError, match="should be above 0"):
        parse_expression(text)


@pytest.mark.parametrize("text", ["cmd + cmd", "cmd + objectives:cmd", "cmd@a + cmd@a"])
def test_one_options_table_serves_one_term(text: str) -> None:
    with pytest.raises(ConfigError, match="appears twice"):
        parse_expression(text)


@pytest.mark.parametrize("text", ["1.2.3*cmd", ".*cmd"])
def test_a_weight_that_is_no_number(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_expression(text)


def test_a_weight_is_finite() -> None:
    with pytest.raises(ConfigError):
        parse_expression("1e999*cmd")


# --- data references


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("my/pairs", {"root": "my/pairs"}),
        ("C:\\pairs", {"root": "C:\\pairs"}),
        ("c:\\pairs", {"root": "c:\\pairs"}),
        ("c:/pairs", {"root": "c:/pairs"}),
        ("folder:x", {"loader": "folder", "root": "x"}),
        ("folder:C:\\x", {"loader": "folder", "root": "C:\\x"}),
        ("folder:/a/b c", {"loader": "folder", "root": "/a/b c"}),
        ("demo:", {"loader": "demo"}),
        ("datasets:folder:x", {"loader": "datasets:folder", "root": "x"}),
        ("./folder:x", {"root": "./folder:x"}),
        ("Folder:x", {"root": "Folder:x"}),
    ],
)
def test_data_references(text: str, meaning: dict) -> None:
    assert parse_data(text) == meaning


def test_what_exists_is_a_path_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder:x").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_data("folder:x") == {"root": "folder:x"}
    assert parse_data("folder:y") == {"loader": "folder", "root": "y"}


# --- label budgets


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("5", (5, None)), ("100", (100, None)), ("10%", (None, 0.1)), ("100%", (None, 1.0)), ("0.5%", (None, 0.005))],
)
def test_labels(text: str, meaning: tuple) -> None:
    assert parse_labels(text) == pytest.approx(meaning)


@pytest.mark.parametrize("text", ["", "0", "-1", "5.5", "0%", "101%", "%", "ten", "5 %", "all"])
def test_what_is_no_label_budget(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_labels(text)
    assert repr(text) in caught.value.message
    assert "10%" in caught.value.message


@pytest.mark.parametrize("text", ["1.2.3%", ".%"])
def test_a_share_that_is_no_number(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_labels(text)


# --- -o SECTION.KEY=VALUE


@pytest.mark.parametrize(
    ("assignment", "result"),
    [
        ("distill.epochs=20", {"distill": {"epochs": 20}}),
        ("distill.lr=1e-3", {"distill": {"lr": 0.001}}),
        ("distill.flip=false", {"distill": {"flip": False}}),
        ("evaluate.labels=['5', '10%']", {"evaluate": {"labels": ["5", "10%"]}}),
        ("target.unit=mm", {"target": {"unit": "mm"}}),
        ('target.unit="mm"', {"target": {"unit": "mm"}}),
        ("target.unit = mm ", {"target": {"unit": "mm"}}),
        ("data.label_column=", {"data": {"label_column": ""}}),
        ("data.root=C:\\a=b", {"data": {"root": "C:\\a=b"}}),
        ("objective.cmd.temperature_target=0.1", {"objective": {"cmd": {"temperature_target": 0.1}}}),
        ("objective.cmd@wide.queue=bank", {"objective": {"cmd@wide": {"queue": "bank"}}}),
        ("distill.model_args={width = 3}", {"distill": {"model_args": {"width": 3}}}),
    ],
)
def test_assignments(assignment: str, result: dict) -> None:
    values: dict[str, Any] = {}
    set_key(values, assignment)
    assert values == result
    assert all(type(a) is type(b) for a, b in zip(_leaves(values), _leaves(result), strict=True))


def _leaves(value: Any) -> list[Any]:
    return [leaf for inner in value.values() for leaf in _leaves(inner)] if isinstance(value, dict) else [value]


def test_assignments_go_on_top_of_what_is_there() -> None:
    values = {"distill": {"epochs": 3, "lr": 0.1}, "run": {"seed": 1}}
    set_key(values, "distill.epochs=4")
    assert values == {"distill": {"epochs": 4, "lr": 0.1}, "run": {"seed": 1}}


@pytest.mark.parametrize(
    ("before", "assignment", "after"),
    [
        ({"source": "image"}, "source.blur=0", {"source": {"name": "image", "blur": 0}}),
        (
            {"objective": "cmd + cmc"},
            "objective.cmc.temperature=1",
            {"objective": {"expression": "cmd + cmc", "cmc": {"temperature": 1}}},
        ),
    ],
)
def test_a_text_becomes_a_section(before: dict, assignment: str, after: dict) -> None:
    set_key(before, assignment)
    assert before == after


def test_a_data_reference_becomes_a_section() -> None:
    values = {"data": "folder:x"}
    set_key(values, "data.on_error=skip")
    assert values == {"data": {"loader": "folder", "root": "x", "on_error": "skip"}}


@pytest.mark.parametrize("assignment", ["", "x", "x=1", "=1", ".x=1", "a..b=1", "a.=1", "distill.epochs"])
def test_what_is_no_assignment(assignment: str) -> None:
    with pytest.raises(ConfigError, match=r"expected SECTION.KEY=VALUE"):
        set_key({}, assignment)


def test_a_value_is_no_section() -> None:
    with pytest.raises(ConfigError, match="epochs is not a section"):
        set_key({"distill": {"epochs": 3}}, "distill.epochs.x=1")


@given(st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.lists(st.integers(0, 9))))
def test_toml_literals_come_through(value: Any) -> None:
    text = tomli_w.dumps({"v": value}).partition("=")[2].strip()
    values: dict[str, Any] = {}
    set_key(values, f"a.b={text}")
    assert values["a"]["b"] == value
    assert type(values["a"]["b"]) is type(value)


# --- TOML and merging


def test_read_toml(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('\ufefftarget = "depth"\n[distill]\nepochs = 3\n', encoding="utf-8")
    assert read_toml(file) == {"target": "depth", "distill": {"epochs": 3}}


@pytest.mark.parametrize("content", [b"target = depth\n", b"a = '\xff'\n", b"[x]\n[x]\n"])
def test_read_toml_that_is_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="not valid TOML") as caught:
        read_toml(file)
    assert str(file) in caught.value.message


def test_read_toml_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone.toml: No such file"):
        read_toml(tmp_path / "gone.toml")


def test_merge() -> None:
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    over = {"a": {"y": {"w": 4}}, "b": {"c": 5}, "d": 6}
    assert merge(base, over) == {"a": {"x": 1, "y": {"z": 2, "w": 4}}, "b": {"c": 5}, "d": 6}
    assert base == {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    assert tomllib.loads(tomli_w.dumps(merge(base, over)))["d"] == 6
