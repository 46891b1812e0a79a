"""dataset.toml, and the user's options over it; the plugin module itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cmcd_datasets import FolderOptions, cmcd_loaders
from pydantic import ValidationError

from cmcd_core import CmcdError, ConfigError, DataError, PairedLoader

FOLDER, DEMO = (next(plugin for plugin in cmcd_loaders() if plugin.name == name) for name in ("folder", "demo"))


def build(root: Path, toml: str | bytes, **options) -> PairedLoader:
    for name in ("image/1.jpg", "depth/1.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "metadata.csv").write_text(
        "id,split,kind,label,image_file_name,depth_file_name\na,val,k,l,image/1.jpg,depth/1.png\n"
    )
    (root / "dataset.toml").write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    return FOLDER.build(FolderOptions(root=root, **options))


FULL = """name = "rig"
licence = "CC0"
pairs = "label"
aligned = ["image", "depth", "mask"]
label_column = "kind"
[depth]
unit = "mm"
"""


def test_the_file_gives_defaults(tmp_path: Path) -> None:
    loader = build(tmp_path, FULL)
    assert (loader.name, loader.licence, loader.pairs) == ("rig", "CC0", "label")
    assert loader.aligned == {"image", "depth"}
    assert loader.classes == {"label": ["k"]}
    assert loader.modality_options("depth") == {"unit": "mm"}
    assert loader.modality_options("image") == {}


def test_the_user_wins(tmp_path: Path) -> None:
    loader = build(tmp_path, FULL, pairs="instance", aligned=(), label_column="label")
    assert loader.pairs == "instance"
    assert loader.aligned == frozenset()
    assert loader.classes == {"label": ["l"]}


def test_without_the_file(tmp_path: Path) -> None:
    loader = build(tmp_path, "")
    assert (loader.name, loader.licence, loader.pairs) == (tmp_path.name, "", "instance")
    assert loader.aligned == frozenset()


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('licens = "CC0"', ["'licens'", "Did you mean 'licence'"]),
        ('[dept]\nunit = "mm"', ["[dept]", "Did you mean 'depth'", "depth, image"]),
        ('pairs = "instances"', ["pairs", "'instances'", '"label"']),
        ('aligned = "image"', ["aligned", "list"]),
        ('aligned = ["image", "dept"]', ["aligned", "'dept'", "Did you mean 'depth'"]),
        ("name = 3", ["name", "3", "text"]),
        ("[label_column]\nx = 1", ["label_column", "text"]),
        ('name = "a"\nlicence = CC0', ["not valid TOML", "line 2"]),
        ('label_column = "kinds"', ["label_column", "no column 'kinds'", "Did you mean 'kind'"]),
        (FULL.encode("utf-16"), ["UTF-16"]),
    ],
)
def test_wrong_files(tmp_path: Path, toml: str | bytes, said: list[str]) -> None:
    with pytest.raises(DataError) as error:
        build(tmp_path, toml)
    for part in ["dataset.toml", *said]:
        assert part in str(error.value)


def test_the_user_s_own_mistake_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.aligned: 'dept'"):
        build(tmp_path, "", aligned=("dept",))


@pytest.mark.parametrize(
    "wrong", [{"val_share": 0.5}, {"test_share": -0.1}, {"split_seed": -1}, {"pairs": "x"}, {"lable_column": "x"}]
)
def test_bounds(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        FolderOptions(**wrong)


def test_every_option_is_described() -> None:
    for plugin in (FOLDER, DEMO):
        for name, field in plugin.options.model_fields.items():
            assert field.description, name
            assert not field.is_required()


def test_the_demo_data_lies_at_no_path(tmp_path: Path) -> None:
    assert (FOLDER.name, DEMO.name) == ("folder", "demo")
    assert DEMO.recognises(tmp_path) is False


def test_the_module_is_light() -> None:
    code = (
        "import sys, cmcd_datasets; cmcd_datasets.cmcd_loaders(); sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("root", "kind", "said"),
    [
        (None, ConfigError, "needs a folder"),
        ("absent", DataError, "does not exist"),
        ("metadata.csv", DataError, "--data"),
    ],
)
def test_wrong_roots(tmp_path: Path, root: str | None, kind: type[CmcdError], said: str) -> None:
    build(tmp_path, "")
    with pytest.raises(kind, match=said):
        FOLDER.build(FolderOptions(root=None if root is None else tmp_path / root))
