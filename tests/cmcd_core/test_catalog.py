"""Finding plugins: whatever one of them does, the others are there and the reason is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from cmcd_core import PluginError
from cmcd_core.catalog import RESERVED, Catalog, Plugin, load

FIRST_PARTY = {"datasets", "depth", "image", "objectives", "recognition"}
HEAD = """
from pathlib import Path
from cmcd_core.plugin import LoaderPlugin, ModalityPlugin, ObjectivePlugin, Options, TaskPlugin, hookimpl
def build(*args): raise NotImplementedError
"""


@pytest.fixture
def catalog(fake_plugins: Path) -> Catalog:
    return load()


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Plugin]:
    """Load a plugin from its source text, and nothing else."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def loaded(source: str) -> Plugin:
        monkeypatch.delitem(sys.modules, "inline_plugin", raising=False)
        (tmp_path / "inline_plugin.py").write_text(HEAD + source)
        (plugin,) = load([EntryPoint("inline", "inline_plugin", "cmcd")]).plugins
        monkeypatch.delitem(sys.modules, "inline_plugin", raising=False)
        return plugin

    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the same file changes within a second
    return loaded


def named(catalog: Catalog, name: str) -> Plugin:
    (plugin,) = (plugin for plugin in catalog.plugins if plugin.name == name)
    return plugin


@pytest.mark.parametrize(
    ("name", "distribution", "version", "status", "reason", "provides"),
    [
        ("good", "cmcd-plugin-fakes", "1.0", "ok", "", {"modality": ["glow"], "objective": ["huber"]}),
        ("foreign", "cmcd-plugin-fakes", "1.0", "ok", "", {"modality": ["glimpse"]}),
        ("clash", "cmcd-plugin-rival", "2.0", "ok", "", {"modality": ["glow"]}),
        ("exits", "cmcd-plugin-fakes", "1.0", "broken", "SystemExit: fake: no licence", {}),
        (
            "import_error",
            "cmcd-plugin-fakes",
            "1.0",
            "broken",
            "ModuleNotFoundError: No module named 'a_package_that_nobody_has'",
            {},
        ),
        ("late_error", "cmcd-plugin-fakes", "1.0", "broken", "RuntimeError: the sensor is unplugged", {}),
        (
            "typo",
            "cmcd-plugin-fakes",
            "1.0",
            "broken",
            "PluginError: unknown hook 'cmcd_modalites': did you mean cmcd_modalities?",
            {},
        ),
        (
            "wrong_type",
            "cmcd-plugin-fakes",
            "1.0",
            "broken",
            "PluginError: cmcd_tasks must return TaskPlugin objects, got str",
            {},
        ),
        ("too_new", "cmcd-plugin-future", "0.1", "incompatible", "needs cmcd>=99, this is ", {}),
    ],
)
def test_each_fake(
    catalog: Catalog, name: str, distribution: str, version: str, status: str, reason: str, provides: dict
) -> None:
    plugin = named(catalog, name)
    assert (plugin.distribution, plugin.version, plugin.status) == (distribution, version, status)
    assert plugin.provides == provides
    if status == "incompatible":
        assert plugin.reason.startswith(reason)
    else:
        assert plugin.reason == reason


def test_nobody_is_harmed_by_the_broken_ones(catalog: Catalog) -> None:
    for name in FIRST_PARTY:
        plugin = named(catalog, name)
        assert plugin.status == "ok", plugin.reason
        assert plugin.provides
    for kind, name in [("modality", "image"), ("loader", "demo"), ("objective", "cmd"), ("task", "recognition")]:
        assert catalog.find(kind, name)[1].name == name


def test_plugins_come_in_the_order_of_their_names(catalog: Catalog) -> None:
    names = [plugin.name for plugin in catalog.plugins]
    assert names == sorted(names)


def test_what_is_incompatible_is_not_imported(catalog: Catalog) -> None:
    assert "fake_too_new" not in sys.modules
    assert "fake_good" in sys.modules


def test_load_makes_a_fresh_catalog(fake_plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "glow" in {part.name for _, part in load().all("modality")}
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(fake_plugins)])
    assert "glow" not in {part.name for _, part in load().all("modality")}


# --- looking up


def test_a_clash_is_an_error_on_use_that_names_both(catalog: Catalog) -> None:
    with pytest.raises(PluginError) as caught:
        catalog.modality("glow")
    assert "clash:glow (from cmcd-plugin-rival 2.0)" in caught.value.message
    assert "good:glow (from cmcd-plugin-fakes 1.0)" in caught.value.message


@pytest.mark.parametrize(
    ("name", "summary"), [("good:glow", "Light that nobody sees."), ("clash:glow", "The rival's.")]
)
def test_the_full_name_picks_one(catalog: Catalog, name: str, summary: str) -> None:
    assert catalog.modality(name).summary == summary


def test_the_full_name_of_another_plugin_finds_nothing(catalog: Catalog) -> None:
    with pytest.raises(PluginError, match="no modality called 'depth:glow'"):
        catalog.modality("depth:glow")


def test_kinds_do_not_mix(catalog: Catalog) -> None:
    with pytest.raises(PluginError, match="no objective called 'image'"):
        catalog.objective("image")


def test_unknown_name_suggests_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(PluginError) as caught:
        catalog.modality("dept")
    assert "'dept'" in caught.value.message
    assert "Did you mean 'depth'?" in caught.value.hint


def test_unknown_name_lists_what_is_there_and_what_was_lost(catalog: Catalog) -> None:
    with pytest.raises(PluginError) as caught:
        catalog.modality("xyz")
    hint = caught.value.hint
    assert "Installed: audio, depth, glimpse, glow, image, sketch." in hint
    assert "Did you mean" not in hint
    for lost in ("exits", "import_error", "late_error", "too_new", "typo", "wrong_type"):
        assert lost in hint
    assert "pip install cmcd-plugin-xyz" in hint


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("glow", [("modality", "clash", "glow"), ("modality", "good", "glow")]),
        ("good:glow", [("modality", "good", "glow")]),
        ("good", [("modality", "good", "glow"), ("objective", "good", "huber")]),
        ("depth", [("modality", "depth", "depth")]),
        ("cmd", [("objective", "objectives", "cmd")]),
    ],
)
def test_all_that_a_name_means(catalog: Catalog, name: str, found: list[tuple[str, str, str]]) -> None:
    assert [(kind, plugin.name, part.name) for kind, plugin, part in catalog.called(name)] == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exits", "plugin 'exits' is broken: SystemExit: fake: no licence"),
        ("too_new", "plugin 'too_new' is incompatible: needs cmcd>=99"),
        ("glows", "nothing called 'glows' is installed\nDid you mean 'glow'? Installed: audio, "),
        ("depth:glow", "nothing called 'depth:glow' is installed"),
    ],
)
def test_a_name_that_means_nothing(catalog: Catalog, name: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        catalog.called(name)
    assert str(caught.value).startswith(message)


# --- the environment


def test_cmcd_plugins_loads_only_those_named(fake_plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMCD_PLUGINS", "good, depth")
    catalog = load()
    assert {plugin.name for plugin in catalog.plugins if plugin.status == "ok"} == {"good", "depth"}
    assert named(catalog, "clash").status == "off"
    assert "CMCD_PLUGINS" in named(catalog, "exits").reason
    assert catalog.modality("glow").name == "glow"  # its rival is off
    assert "fake_clash" not in sys.modules


def test_empty_cmcd_plugins_loads_none(fake_plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMCD_PLUGINS", "")
    catalog = load()
    assert {plugin.status for plugin in catalog.plugins} == {"off"}
    assert len(catalog.plugins) >= len(FIRST_PARTY) + 9
    with pytest.raises(PluginError, match="no modality called 'image'"):
        catalog.modality("image")


@pytest.mark.parametrize(
    ("name", "error"),
    [("typo", PluginError), ("import_error", ModuleNotFoundError), ("exits", SystemExit), ("late_error", RuntimeError)],
)
def test_strict_raises(fake_plugins: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type) -> None:
    monkeypatch.setenv("CMCD_PLUGINS", name)
    assert named(load(), name).status == "broken"
    monkeypatch.setenv("CMCD_STRICT", "1")
    with pytest.raises(error):
        load()


def test_an_interrupt_is_not_swallowed(one: Callable[[str], Plugin]) -> None:
    with pytest.raises(KeyboardInterrupt):
        one("raise KeyboardInterrupt\n")


# --- what a plugin may return


def modality(name: str, extra: str = "options=Options, build=build") -> str:
    return f"@hookimpl\ndef cmcd_modalities():\n    return [ModalityPlugin(name={name!r}, summary='', {extra})]\n"


def test_a_good_one_is_good(one: Callable[[str], Plugin]) -> None:
    plugin = one(modality("fine_2"))
    assert (plugin.status, plugin.reason, plugin.provides) == ("ok", "", {"modality": ["fine_2"]})
    assert (plugin.distribution, plugin.version) == ("unknown", "unknown")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names(one: Callable[[str], Plugin], name: str) -> None:
    plugin = one(modality(name))
    assert plugin.status == "broken"
    assert f"{name!r} is reserved" in plugin.reason


@pytest.mark.parametrize("name", ["", "Depth", "2d", "_x", "a-b", "a b", "a:b", "tiefe\n", "größe"])
def test_malformed_names(one: Callable[[str], Plugin], name: str) -> None:
    plugin = one(modality(name))
    assert plugin.status == "broken"
    assert "lower case letters" in plugin.reason


@pytest.mark.parametrize("name", ["None", "3"])
def test_a_name_that_is_no_text(one: Callable[[str], Plugin], name: str) -> None:
    plugin = one(modality("x").replace("'x'", name))
    assert plugin.status == "broken"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (modality("x", "options=dict, build=build"), "x: options must be a subclass of cmcd_core.plugin.Options"),
        (modality("x", "options=Options(), build=build"), "x: options must be a subclass"),
        (modality("x", "options=Options, build=None"), "x: build must be callable"),
        (
            "@hookimpl\ndef cmcd_loaders():\n    return [LoaderPlugin(name='x', summary='', options=Options, "
            "build=build, recognises=Path.is_dir)]\n",
            "options must be a subclass of cmcd_core.plugin.LoaderOptions",
        ),
        (
            "@hookimpl\ndef cmcd_tasks():\n    return [ModalityPlugin(name='x', summary='', options=Options, "
            "build=build)]\n",
            "cmcd_tasks must return TaskPlugin objects, got ModalityPlugin",
        ),
        (
            "p = ModalityPlugin(name='x', summary='', options=Options, build=build)\n"
            "@hookimpl\ndef cmcd_modalities():\n    return [p, p]\n",
            "cmcd_modalities names one modality twice: x, x",
        ),
        (
            "@hookimpl\ndef cmcd_modalities():\n    return ModalityPlugin(name='x', summary='', options=Options, "
            "build=build)\n",
            "TypeError",
        ),
        ("@hookimpl\ndef cmcd_modalities(config):\n    return []\n", "PluginValidationError"),
        ("@hookimpl\ndef cmcd_lifecycle():\n    return []\n", "unknown hook 'cmcd_lifecycle': the hooks are "),
        ("def broken(:\n", "SyntaxError"),
    ],
)
def test_what_is_refused(one: Callable[[str], Plugin], source: str, reason: str) -> None:
    plugin = one(source)
    assert plugin.status == "broken"
    assert reason in plugin.reason
    assert "\n" not in plugin.reason
    assert plugin.provides == {}


def test_nothing_offered_is_no_fault(one: Callable[[str], Plugin]) -> None:
    assert one("").status == "ok"
    assert one("@hookimpl\ndef cmcd_modalities():\n    return ()\n").provides == {}


def test_listing_plugins_is_light() -> None:
    code = "import sys; from cmcd_core.catalog import load; load(); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
