"""The examples are packages of their own: found, short, written with public names only, and fit for a run."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cmcd_core.plugin

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("cmcd-plugin-huber", "cmcd-plugin-npz", "cmcd-plugin-thermal")
PROVIDES = {"huber": {"objective": ["huber"]}, "npz": {"loader": ["npz"]}, "thermal": {"modality": ["thermal"]}}
write_pairs = runpy.run_path(str(EXAMPLES / "cmcd-plugin-thermal" / "tests" / "sample.py"))["write_pairs"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, laid_out: Callable[[Path, Path], None]) -> Path:
    """A site-packages folder with all examples as pip would install them, made without pip or network."""
    folder = tmp_path_factory.mktemp("site")
    for name in NAMES:
        laid_out(EXAMPLES / name, folder)
    return folder


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


def test_an_objective_is_shorter_still() -> None:
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in modules("cmcd-plugin-huber")) < 40


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


@pytest.mark.parametrize(
    ("name", "shown"),
    [("thermal", ("low_c", "high_c")), ("huber", ("objective.huber", "delta")), ("npz", ("aligned", "root"))],
)
def test_options_are_shown(site: Path, tmp_path: Path, name: str, shown: tuple[str, ...]) -> None:
    done = cmcd(site, tmp_path, "plugins", "show", name)
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in shown)


@pytest.mark.slow
def test_own_tests_pass(site: Path) -> None:
    folders = [str(EXAMPLES / name / "tests") for name in NAMES]
    done = python(site, EXAMPLES.parent, "-m", "pytest", "-p", "no:cacheprovider", *folders)
    assert done.returncode == 0, done.stdout


def test_a_misspelt_option_is_found_at_once(site: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", count=10)
    done = cmcd(site, tmp_path, "run", "--target", "thermal", "--data", "pairs", "-o", "target.low=3", "--dry-run")
    assert done.returncode == 2
    assert "low: unknown option, did you mean 'low_c'?" in done.stderr


def test_the_sample_is_a_script(tmp_path: Path) -> None:
    script = EXAMPLES / "cmcd-plugin-thermal" / "tests" / "sample.py"
    subprocess.run([sys.executable, str(script), "my_pairs"], cwd=tmp_path, check=True)
    files = {path.relative_to(tmp_path).parts[:3] for path in tmp_path.rglob("*.png")}
    assert files == {("my_pairs", side, kind) for side in ("image", "thermal") for kind in ("cold", "warm")}
    assert len(list(tmp_path.rglob("*.png"))) == 120


def test_archives_are_recognised(site: Path, tmp_path: Path) -> None:
    rng, root = np.random.default_rng(0), tmp_path / "arrays"
    root.mkdir()
    for split in ("train", "val", "test"):
        image = rng.integers(255, size=(8, 16, 16, 3), dtype=np.uint8)
        np.savez(root / f"{split}.npz", image=image, depth=image[..., 0].astype(np.uint16), label=np.arange(8) % 2)
    words = ["run", "--target", "depth", "--data", "arrays", "-o", "data.aligned=true", "--objective", "dense_cmd"]
    done = cmcd(site, tmp_path, *words, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads(done.stdout)["data"]["loader"] == "npz:npz"


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
def test_installed_by_pip(pip_install: Callable[..., Path], tmp_path: Path) -> None:
    interpreter = str(pip_install(*(EXAMPLES / name for name in NAMES)))

    def run(*words: str) -> str:
        done = subprocess.run([interpreter, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    rows = json.loads(run("-c", "from cmcd_core.cli import main; main()", "plugins", "list", "--json"))
    found = {row["plugin"]: row for row in rows}
    for plugin, provides in PROVIDES.items():
        assert (found[plugin]["distribution"], found[plugin]["status"]) == (f"cmcd-plugin-{plugin}", "ok")
        assert found[plugin]["provides"] == provides
    tests = [str(shutil.copytree(EXAMPLES / name / "tests", tmp_path / name)) for name in NAMES]
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_builds_as_a_package(name: str, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    shutil.copytree(EXAMPLES / name, tmp_path / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), "."]
    done = subprocess.run(build, cwd=tmp_path / name, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "dist").glob("*.whl"))) == 1
