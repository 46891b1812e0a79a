"""From a configuration to checked parts: every message in the user's terms, and no torch."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from cmcd_core import CmcdError, ConfigError, DataError, PluginError, RunConfig
from cmcd_core.built import built_objective
from cmcd_core.catalog import Catalog, load
from cmcd_core.grammar import parse_expression
from cmcd_core.plugin import Widths
from cmcd_core.resolve import Resolved, chosen_objective, resolve


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


def test_an_objective_speaks_of_the_term_that_it_is(catalog: Catalog) -> None:
    """Following the hint of cmd@wide must not change cmd."""
    for expression in ("cmd", "cmd@wide"):
        (term,) = parse_expression(expression)
        chosen = chosen_objective(catalog, term, {"head_hidden": 8})
        with pytest.raises(
            ConfigError, match=f"^objective.{expression}.head_hidden=8 .*\nType -o objective.{expression}.head"
        ):
            built_objective(chosen, Widths(source=6, target=6))


@pytest.fixture
def resolved(catalog: Catalog, tiny_folder: Path) -> Any:
    def make(**sections: Any) -> Resolved:
        values = {"source": "image", "target": "depth", "data": str(tiny_folder), **sections}
        return resolve(RunConfig.from_mapping(values), catalog)

    return make


def fails(resolved: Any, kind: type[CmcdError], **sections: Any) -> str:
    with pytest.raises(CmcdError) as caught:
        resolved(**sections)
    assert type(caught.value) is kind
    return str(caught.value)


# --- names


def test_unknown_modality_suggests(resolved: Any) -> None:
    message = fails(resolved, PluginError, target="dept")
    assert "no modality called 'dept'" in message
    assert "Did you mean 'depth'?" in message


def test_a_misspelt_modality_is_told_before_the_data_are_looked_at(resolved: Any) -> None:
    assert "'dept'" in fails(resolved, PluginError, target="dept", data="/nowhere")


def test_modality_that_the_data_do_not_have(
    resolved: Any, fake_plugins: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(target="glimpse", data=tiny_folder)
    with pytest.raises(DataError) as caught:
        resolve(config, load())
    assert caught.value.message == f"--target glimpse: the data (folder:{tiny_folder}) has no such views"
    assert caught.value.hint == "It has depth, image."


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"objective": "cmb"}, "no objective called 'cmb'"),
        ({"task": {"names": ["recognise"]}}, "no task called 'recognise'"),
        ({"data": "foldr:/x"}, "no loader called 'foldr'"),
        ({"target": "image:depth"}, "no modality called 'image:depth'"),
    ],
)
def test_unknown_names(resolved: Any, sections: dict, message: str) -> None:
    assert message in fails(resolved, PluginError, **sections)


# --- data


def test_data_that_are_not_there(resolved: Any, tmp_path: Path) -> None:
    assert "no such file or folder" in fails(resolved, DataError, data=str(tmp_path / "gone"))


def test_data_that_nobody_reads(resolved: Any, tmp_path: Path) -> None:
    message = fails(resolved, DataError, data=str(tmp_path))
    assert "no installed loader recognises" in message
    assert "datasets:folder" in message
    assert "metadata.csv" in message


def test_without_loader_or_root_it_is_the_demo(resolved: Any) -> None:
    found = resolved(data={"train": 4, "val": 1, "test": 1})
    assert (found.main.part.name, found.main.part.options.train) == ("demo", 4)
    assert found.main.name == "demo"


def test_the_folder_is_recognised_and_its_root_absolute(
    resolved: Any, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_folder.parent)
    found = resolved(data=tiny_folder.name)
    assert found.main.part.name == "folder"
    assert found.main.part.options.root == tiny_folder
    assert found.main.name == f"folder:{tiny_folder}"


def test_too_few_pairs(resolved: Any, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(
        "id,split,image_file_name,depth_file_name\na,train,a.png,a_d.png\nb,train,b.png,\n"
        "c,test,c.png,c_d.png\nd,val,c.png,c_d.png\n"
    )
    for name in ("a.png", "a_d.png", "b.png", "c.png", "c_d.png"):
        (tmp_path / name).write_bytes(b"x")
    message = fails(resolved, DataError, data=str(tmp_path))
    assert "has 1 pairs of image and depth among 2 samples" in message


# --- options


@pytest.mark.parametrize(
    ("sections", "parts"),
    [
        ({"source": {"name": "image", "blurr": 1}}, ("blurr: unknown option", "did you mean 'blur'?")),
        ({"target": {"name": "depth", "unit": "cm"}}, ("unit: should be", "'mm'", "(got 'cm')")),
        ({"target": {"name": "depth", "near": 2, "far": 1}}, ("near (2 m) must be less than far (1 m)",)),
        (
            {"objective": {"expression": "cmd", "cmd": {"temperature_sourc": 1}}},
            ("did you mean 'temperature_source'?",),
        ),
        ({"objective": {"expression": "cmd", "cmd": {"temperature_source": 0}}}, ("temperature_source: should be",)),
        ({"task": {"recognition": {"smooth": 1}}}, ("smooth: unknown option",)),
        ({"pretrain": {"temperature": 1000}}, ("temperature",)),
    ],
)
def test_option_errors(resolved: Any, sections: dict, parts: tuple) -> None:
    message = fails(resolved, ConfigError, **sections)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("sections", "start"),
    [
        ({"source": {"name": "image", "blurr": 1}}, "source"),
        ({"target": {"name": "depth", "unit": "cm"}}, "target"),
        ({"objective": {"expression": "cmd", "cmd": {"x": 1}}}, "objective.cmd"),
        ({"objective": {"expression": "cmd + cmd@b", "cmd@b": {"x": 1}}}, "objective.cmd@b"),
        ({"task": {"recognition": {"x": 1}}}, "task.recognition"),
    ],
)
def test_option_errors_name_their_section(resolved: Any, sections: dict, start: str) -> None:
    assert fails(resolved, ConfigError, **sections).startswith(start)


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"source": {"name": "image", "blurr": 1}}, "source.blurr: "),
        ({"objective": {"expression": "cmd", "cmd": {"temperature_source": 0}}}, "objective.cmd.temperature_source: "),
        ({"task": {"recognition": {"x": 1}}}, "task.recognition.x: "),
    ],
)
def test_option_errors_name_the_key_as_it_is_typed(resolved: Any, sections: dict, key: str) -> None:
    assert fails(resolved, ConfigError, **sections).startswith(key)


def test_options_that_are_no_table(resolved: Any) -> None:
    message = fails(resolved, ConfigError, objective={"expression": "cmd", "cmd": 3})
    assert "cmd: expected a table of options, got 3" in message


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"objective": {"expression": "cmd", "cmc": {}}}, "objective.cmc: this run has no such objective"),
        ({"objective": {"expression": "cmd + cmd@b", "cmd@c": {}}}, "objective.cmd@c: this run has no such objective"),
        ({"task": {"counting": {}}}, "task.counting: this run has no such task"),
    ],
)
def test_tables_that_belong_to_nothing(resolved: Any, sections: dict, message: str) -> None:
    text = fails(resolved, ConfigError, **sections)
    assert message in text
    assert "options go under" in text


def test_the_data_sets_own_options_hold(resolved: Any) -> None:
    assert resolved().target.options.unit == "mm"
    assert resolved(target={"name": "depth", "noise": 0.01}).target.options.unit == "mm"


def test_the_users_options_win_over_the_data_sets(resolved: Any) -> None:
    assert resolved(target={"name": "depth", "unit": "m"}).target.options.unit == "m"


def test_each_term_gets_its_own_options(resolved: Any) -> None:
    found = resolved(
        objective={"expression": "cmd + 0.5*cmd@b", "cmd": {"head_layers": 0}, "cmd@b": {"head_layers": 1}}
    )
    assert [(term.weight, chosen.options.head_layers) for term, chosen in found.objectives] == [(1, 0), (0.5, 1)]


# --- what comes out


def test_all_tasks_by_default_and_the_named_ones_else(resolved: Any) -> None:
    found = resolved()
    assert "recognition" in [chosen.name for chosen in found.tasks]
    named = resolved(task={"names": ["recognition:recognition"]})
    assert [chosen.name for chosen in named.tasks] == ["recognition"]


def test_step_one_needs_no_loss_where_a_teacher_is_given(resolved: Any) -> None:
    assert resolved().contrast.name == "nt_xent"
    assert resolved(pretrain={"temperature": 0.5}).contrast.options.temperature == 0.5
    assert resolved(pretrain={"teacher": "resnet18"}).contrast is None


def test_the_configuration_is_filled_in(resolved: Any, tiny_folder: Path, tmp_path: Path) -> None:
    config = resolved(run={"out": str(tmp_path), "seed": 4}).config
    values = config.to_mapping()
    assert values["source"]["name"] == "image:image"
    assert values["target"] == {**values["target"], "name": "depth:depth", "encoding": "percentile"}
    assert "unit" not in values["target"]  # the data set says it, and another step's may say otherwise
    assert values["data"] == {**values["data"], "loader": "datasets:folder", "root": str(tiny_folder)}
    assert values["objective"]["cmd"]["standardise"] == "center"
    assert values["plugins"].keys() == {"datasets", "image", "depth", "objectives", "recognition", "segmentation"}
    assert config.run.out == tmp_path


def test_the_filled_in_configuration_resolves_to_itself(resolved: Any, catalog: Catalog) -> None:
    first = resolved(objective={"expression": "cmd + cmd@b", "cmd@b": {"head_layers": 1}}).config
    text = tomli_w.dumps(first.to_mapping())
    again = resolve(RunConfig.from_mapping(tomllib.loads(text)), catalog).config
    assert again == first
    assert tomli_w.dumps(again.to_mapping()) == text


def test_identity_follows_the_options(resolved: Any) -> None:
    one, other = resolved().target.identity, resolved(target={"name": "depth", "noise": 0.01}).target.identity
    assert one["plugin"] == "depth"
    assert one["options"]["unit"] == "mm"
    assert one != other
    assert one == resolved().target.identity


def test_a_loader_that_fails_is_named(catalog: Catalog, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    plugin, part = catalog.find("loader", "folder")

    def broken(options: Any) -> Any:
        raise KeyError("x")

    def loading(build: Any) -> Catalog:
        mine = replace(plugin, parts={"loader": (replace(part, build=build),)})
        return Catalog((*(p for p in catalog.plugins if p.name != plugin.name), mine))

    config = RunConfig(target="depth", data=tiny_folder)
    with pytest.raises(PluginError, match="loader 'folder' of plugin datasets failed: KeyError: 'x'"):
        resolve(config, loading(broken))
    with pytest.raises(PluginError, match=r"built a dict, expected a cmcd_core.PairedLoader"):
        resolve(config, loading(lambda options: {}))


def test_a_recogniser_that_fails_harms_nobody(catalog: Catalog, tiny_folder: Path) -> None:
    from dataclasses import replace

    plugin, part = catalog.find("loader", "folder")

    def broken(path: Path) -> bool:
        raise OSError

    rude = replace(plugin, name="rude", parts={"loader": (replace(part, name="rude", recognises=broken),)})
    config = RunConfig(target="depth", data=tiny_folder)
    assert resolve(config, Catalog((*catalog.plugins, rude))).main.part.name == "folder"
    greedy = replace(plugin, name="greedy", parts={"loader": (replace(part, name="all", recognises=Path.exists),)})
    with pytest.raises(DataError, match=r"more than one loader reads it \(datasets:folder, greedy:all\)"):
        resolve(config, Catalog((*catalog.plugins, greedy)))


@pytest.mark.parametrize("data", ["folder", "demo"])
def test_resolving_needs_no_torch(tiny_folder: Path, data: str) -> None:
    sections = {"loader": "demo", "train": 4, "val": 1, "test": 1} if data == "demo" else str(tiny_folder)
    code = (
        "import sys; from cmcd_core import RunConfig; from cmcd_core.catalog import load\n"
        "from cmcd_core.resolve import resolve\n"
        f"print(resolve(RunConfig(target='depth', data={sections!r}), load()).target.name)\n"
        "print([m for m in ('torch', 'timm', 'torchvision', 'torchmetrics') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split("\n")[:2] == ["depth", "[]"]
