"""The examples are packages of their own: found, short, written with public names only, and fit for a run."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cmcd_core.plugin

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("cmcd-plugin-huber", "cmcd-plugin-thermal")
PROVIDES = {"huber": {"objective": ["huber"]}, "thermal": {"modality": ["thermal"]}}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages folder with both examples as pip would install them, made without pip or network."""
    folder = tmp_path_factory.mktemp("site")
    for name in NAMES:
        install(EXAMPLES / name, folder)
    return folder


def install(example: Path, site: Path) -> None:
    """Copy the packages that pyproject.toml names, and write the metadata it describes."""
    values = tomllib.loads((example / "pyproject.toml").read_text(encoding="utf-8"))
    project = values["project"]
    for package in values["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(example / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Dist: {text}" for text in project["dependencies"]]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    points = [f"{key} = {value}" for key, value in project["entry-points"]["cmcd"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[cmcd]", *points]) + "\n")


def cmcd(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line with the examples installed, as a process of its own."""
    return python(site, cwd, "-c", "from cmcd_core.cli import main; main()", *words)


def python(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(part for part in (str(site), os.environ.get("PYTHONPATH", "")) if part)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8")


def modules(name: str) -> list[Path]:
    return sorted((EXAMPLES / name).glob("cmcd_*/*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_short(name: str) -> None:
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in modules(name))
    assert 0 < lines < 60


@pytest.mark.parametrize("name", NAMES)
def test_only_public_names(name: str) -> None:
    public = {"cmcd_core": cmcd_core.__all__, "cmcd_core.plugin": cmcd_core.plugin.__all__}
    for file in modules(name):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.startswith("cmcd_")]
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("cmcd_"):
                assert {alias.name for alias in node.names} <= set(public[node.module or ""])


def test_listed_as_ok(site: Path, tmp_path: Path) -> None:
    done = cmcd(site, tmp_path, "plugins", "list", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["plugin"]: row for row in json.loads(done.stdout)}
    for plugin, provides in PROVIDES.items():
        row = rows[plugin]
        assert (row["status"], row["reason"], row["provides"]) == ("ok", "", provides)
        assert (row["distribution"], row["version"]) == (f"cmcd-plugin-{plugin}", "0.1.0")


@pytest.mark.parametrize(("name", "shown"), [("thermal", ("low_c", "high_c")), ("huber", ("objective.huber", "delta"))])
def test_options_are_shown(site: Path, tmp_path: Path, name: str, shown: tuple[str, ...]) -> None:
    done = cmcd(site, tmp_path, "plugins", "show", name)
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in shown)


@pytest.mark.parametrize("name", NAMES)
def test_own_tests_pass(site: Path, name: str) -> None:
    done = python(site, EXAMPLES.parent, "-m", "pytest", "-p", "no:cacheprovider", str(EXAMPLES / name / "tests"))
    assert done.returncode == 0, done.stdout


def test_a_misspelt_option_is_found_at_once(site: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", count=10)
    done = cmcd(site, tmp_path, "run", "--target", "thermal", "--data", "pairs", "-o", "target.low=3", "--dry-run")
    assert done.returncode == 2
    assert "low: unknown option, did you mean 'low_c'?" in done.stderr


def test_dry_run_writes_the_options_out(site: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", count=10)
    done = cmcd(site, tmp_path, "run", "--target", "thermal", "--data", "pairs", "--objective", "huber", "--dry-run")
    assert done.returncode == 0, done.stderr
    values = tomllib.loads(done.stdout)
    assert values["target"] == {"name": "thermal:thermal", "low_c": -20.0, "high_c": 60.0}
    assert values["objective"]["huber"] == {"delta": 1.0}
    assert values["plugins"]["thermal"] == values["plugins"]["huber"] == "0.1.0"


@pytest.mark.slow
def test_a_miniature_run(site: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", count=60)
    words = ["run", "--source", "image", "--target", "thermal", "--data", "pairs", "--objective", "huber + 0.5*cmd"]
    words += ["-o", "objective.huber.delta=0.5", "-o", "target.high_c=45", "--epochs", "1", "--label-draws", "1"]
    done = cmcd(site, tmp_path, *words, "--baseline", "none", "--out", "out", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["target"], result["objective"]) == ("thermal", "huber + 0.5*cmd")
    assert {entry["encoder"] for entry in result["evaluations"]} == {"distilled", "untrained", "source"}
    config = tomllib.loads((tmp_path / "out" / "config.toml").read_text(encoding="utf-8"))
    assert config["objective"]["huber"] == {"delta": 0.5}
    assert config["target"]["high_c"] == 45.0
    load = "import cmcd_core; e = cmcd_core.load_encoder('out/target'); print(e.channels, e.card['modality'])"
    loaded = python(site, tmp_path, "-c", load)
    assert loaded.stdout.split() == ["1", "thermal:thermal"], loaded.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_builds_as_a_package(name: str, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    shutil.copytree(EXAMPLES / name, tmp_path / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), "."]
    done = subprocess.run(build, cwd=tmp_path / name, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "dist").glob("*.whl"))) == 1


def write_pairs(root: Path, count: int) -> None:
    """A colour picture and a thermal one of each thing; warm things are bright, in two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        kind = ("cold", "warm")[number % 2]
        y, x = np.mgrid[:24, :24]
        inside = np.hypot(y - rng.uniform(9, 15), x - rng.uniform(9, 15)) < rng.uniform(5, 8)
        degrees = np.where(inside, 36.0 if kind == "warm" else 5.0, 20.0) + rng.normal(0, 0.5, (24, 24))
        grey = np.where(inside, 220.0 if kind == "warm" else 60.0, 140.0) + rng.normal(0, 8, (24, 24))
        pictures = {
            "image": np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2),
            "thermal": ((degrees + 273.15) * 100).round().astype(np.uint16),
        }
        for modality, pixels in pictures.items():
            folder = root / modality / kind
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number:03d}.png")
