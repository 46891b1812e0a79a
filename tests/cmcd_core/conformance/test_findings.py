"""Checks run one after another, whatever a part does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cmcd_core import ConfigError
from cmcd_core.catalog import Plugin
from cmcd_core.conformance.findings import Failed, Finding, Skipped, Subject, once, require, run_checks

PLUGIN = Plugin("case", "unknown", "unknown", "ok", module=__name__)
PART = SimpleNamespace(name="part")


def outcome(check: Any) -> tuple[str, str, str]:
    (finding,) = run_checks([("title", check)], Subject(PLUGIN, PART), "modality")
    assert (finding.plugin, finding.kind, finding.name, finding.check) == ("case", "modality", "part", "title")
    return finding.outcome, finding.why, finding.hint


def raiser(error: BaseException) -> Any:
    def check(subject: Subject) -> None:
        raise error

    return check


def test_ok() -> None:
    assert outcome(lambda subject: require(True, "never said")) == ("ok", "", "")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Failed("wrong", "do this"), ("failed", "wrong", "do this")),
        (Skipped("no sample", "pass one"), ("skipped", "no sample", "pass one")),
        (ConfigError("no folder", "name it"), ("failed", "no folder", "name it")),
    ],
)
def test_what_a_check_says(error: Exception, expected: tuple[str, str, str]) -> None:
    assert outcome(raiser(error)) == expected


@pytest.mark.parametrize("error", [ValueError("too\nsmall"), SystemExit("no licence"), ZeroDivisionError()])
def test_other_errors_are_named_with_their_place(error: BaseException) -> None:
    said, why, _ = outcome(raiser(error))
    assert said == "failed"
    assert why.startswith(type(error).__name__)
    assert "\n" not in why
    assert "(test_findings.py:" in why
    assert why.endswith("in check)")


def test_an_interrupt_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        outcome(raiser(KeyboardInterrupt()))


class Chain(Subject):
    made = 0

    @once
    def first(self) -> int:
        Chain.made += 1
        raise self.part

    @once
    def second(self) -> int:
        return self.first + 1

    @once
    def other(self) -> int:
        Chain.made += 1
        return 3


@pytest.mark.parametrize(("error", "word"), [(ValueError("x"), "failed"), (Skipped("x"), "was skipped")])
def test_what_fails_is_told_once(error: Exception, word: str) -> None:
    subject = Chain(PLUGIN, error)
    with pytest.raises(type(error), match="x"):
        _ = subject.first
    for _ in range(2):
        with pytest.raises(Skipped, match=f"needs what {word} above"):
            _ = subject.second
    with pytest.raises(Skipped, match=f"needs what {word} above"):
        _ = subject.first


def test_what_is_shared_is_made_once() -> None:
    subject, before = Chain(PLUGIN, None), Chain.made
    assert (subject.other, subject.other) == (3, 3)
    assert Chain.made == before + 1


def test_a_finding_as_text() -> None:
    finding = Finding("p", "task", "t", "loss is finite", "failed", "it is nan", "look for 0/0")
    assert str(finding) == "failed   loss is finite\n         it is nan\n         look for 0/0"
    assert str(Finding("p", "task", "t", "loss is finite", "ok")) == "ok       loss is finite"
