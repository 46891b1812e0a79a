"""The checks that every plugin and every part meets, each with one that fails it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from pydantic import ConfigDict

from cmcd_core.catalog import Plugin
from cmcd_core.conformance.descriptor import OF_A_PART, OF_A_PLUGIN
from cmcd_core.conformance.findings import Finding, Subject
from cmcd_core.plugin import Field, Options, TaskPlugin

About = Callable[..., Finding]
HEAD = "from cmcd_core.plugin import Options, TaskPlugin, hookimpl\n"
HOOK = """
@hookimpl
def cmcd_tasks():
    {body}
    return [TaskPlugin(name="case", summary="A case.", options=Options, build=len)]
"""


def part(options: type[Options] = Options, summary: str = "A case.", **given: Any) -> Subject:
    owner = Plugin("case", "unknown", "unknown", "ok")
    descriptor: Any = TaskPlugin(name="case", summary=summary, options=options, build=lambda options: None)  # type: ignore[arg-type, return-value]
    return Subject(owner, descriptor, given)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (f"import torch\n{HEAD}{HOOK.format(body='')}", "conformance_case.py:1 imports torch"),
        (HEAD + HOOK.format(body="import scipy"), "conformance_case.py:5 imports scipy"),
    ],
)
def test_heavy_imports(about: About, plugin_of: Callable[[str], Plugin], source: str, where: str) -> None:
    plugin = plugin_of(source)
    finding = about(OF_A_PLUGIN, Subject(plugin, plugin), "light")
    assert (finding.outcome, finding.why) == ("failed", where)
    assert "inside build()" in finding.hint


def test_light_imports(about: About, plugin_of: Callable[[str], Plugin]) -> None:
    plugin = plugin_of(f"print('hello')\n{HEAD}{HOOK.format(body='import json')}")
    assert about(OF_A_PLUGIN, Subject(plugin, plugin), "light").outcome == "ok"


def test_what_fails_in_a_new_process_only(
    about: About, plugin_of: Callable[[str], Plugin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFORMANCE_CASE", "here")
    plugin = plugin_of(f"import os\nos.environ['CONFORMANCE_CASE']\n{HEAD}{HOOK.format(body='')}")
    monkeypatch.delenv("CONFORMANCE_CASE")
    finding = about(OF_A_PLUGIN, Subject(plugin, plugin), "light")
    assert (finding.outcome, finding.why) == ("failed", "in a new process: KeyError: 'CONFORMANCE_CASE'")


@pytest.mark.parametrize(
    ("requires", "outcome"),
    [
        (["cmcd>=0.1,<0.2", "numpy"], "ok"),
        (["numpy"], "failed"),
        (["cmcd"], "failed"),
        (None, "failed"),
        (["???", "cmcd==0.1"], "ok"),
    ],
)
def test_which_cmcd(about: About, monkeypatch: pytest.MonkeyPatch, requires: list[str] | None, outcome: str) -> None:
    monkeypatch.setattr("cmcd_core.conformance.descriptor.requires", lambda name: requires)
    plugin = Plugin("case", "cmcd-plugin-case", "1", "ok")
    finding = about(OF_A_PLUGIN, Subject(plugin, plugin), "its distribution")
    assert finding.outcome == outcome
    assert outcome == "ok" or "do not name cmcd" in finding.why


def test_which_cmcd_where_there_is_no_distribution(about: About) -> None:
    plugin = Plugin("case", "unknown", "unknown", "ok")
    assert about(OF_A_PLUGIN, Subject(plugin, plugin), "its distribution").outcome == "skipped"
    plugin = replace(plugin, distribution="cmcd")
    assert about(OF_A_PLUGIN, Subject(plugin, plugin), "its distribution").outcome == "ok"


class Fine(Options):
    gain: float = Field(1.0, description="A factor.")
    window: tuple[float, float] = Field((0.0, 1.0), description="Ends.")
    near: float | None = Field(None, description="Metres.")


class Mute(Options):
    gain: float = 1.0
    bias: float = Field(0.0, description=" ")


class Demanding(Options):
    gain: float = Field(description="A factor.")


class Lax(Options):
    model_config = ConfigDict(extra="allow")


class Mutable(Options):
    model_config = ConfigDict(frozen=False)


class Forgetful(Options):
    salt: int = Field(3, exclude=True, description="Kept out of files.")


class Aged(Options):
    since: datetime | str = Field(datetime(2020, 1, 1), description="A date, or a text.")


@pytest.mark.parametrize("title", [title for title, _ in OF_A_PART])
def test_fine_options(about: About, title: str) -> None:
    assert about(OF_A_PART, part(Fine), title).outcome == "ok"


@pytest.mark.parametrize(
    ("subject", "title", "why"),
    [
        (part(summary=" "), "it and every option", "its summary is empty"),
        (part(Mute), "it and every option", "no description: gain, bias"),
        (part(Demanding), "every option has", "no default: gain"),
        (part(Lax), "options are frozen", "extra"),
        (part(Mutable), "options are frozen", "frozen"),
        (part(Aged), "options are the same", "changed by writing and reading: since"),
        (part(Forgetful, salt=4), "options are the same", "changed by writing and reading: salt"),
    ],
)
def test_what_is_caught(about: About, subject: Subject, title: str, why: str) -> None:
    finding = about(OF_A_PART, subject, title)
    assert finding.outcome == "failed"
    assert why in finding.why
    assert finding.hint


def test_given_options_count_as_defaults(about: About) -> None:
    assert about(OF_A_PART, part(Demanding, gain=2.0), "every option has").outcome == "ok"
