"""`cmcd plugins new`: packages that are right as they are written, and names that are refused."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

import cmcd_core
import cmcd_core.plugin
import cmcd_core.testing
from cmcd_core.catalog import KINDS, RESERVED, load
from cmcd_core.cli import main
from cmcd_core.cli.plugin_new import check_name
from cmcd_core.cli.plugin_package import camel, templates, write_package

New = Callable[..., tuple[int, str, str]]
PUBLIC = {
    "cmcd_core": cmcd_core.__all__,
    "cmcd_core.plugin": cmcd_core.plugin.__all__,
    "cmcd_core.testing": cmcd_core.testing.__all__,
}


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> New:
    """The command in an empty folder: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(["plugins", "new", *words])
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, *capsys.readouterr()

    return run


def write_all(where: Path) -> dict[str, Path]:
    """A package of each kind, by the kind."""
    folders = {kind: where / f"cmcd-plugin-new_{kind}" for kind in KINDS}
    for kind, folder in folders.items():
        write_package(folder, f"new_{kind}", kind)
    return folders


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_all(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def site(written: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, laid_out: Callable[..., None]) -> Path:
    """All four as pip would install them, made without pip."""
    folder = tmp_path_factory.mktemp("site")
    for package in written.values():
        laid_out(package, folder)
    return folder


def python(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(part for part in (str(site), os.environ.get("PYTHONPATH", "")) if part)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_what_is_written_and_said(new: New, tmp_path: Path) -> None:
    code, out, err = new("radar", "--kind", "modality")
    assert (code, err) == (0, "")
    assert out.startswith(
        "wrote cmcd-plugin-radar: a working modality, for you to change\nnext:\n  cd cmcd-plugin-radar\n"
    )
    folder = tmp_path / "cmcd-plugin-radar"
    assert [path.name for path in tmp_path.iterdir()] == ["cmcd-plugin-radar"]
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        ".github/workflows/test.yml",
        ".gitignore",
        "README.md",
        "cmcd_radar/__init__.py",
        "cmcd_radar/modality.py",
        "pyproject.toml",
        "tests/test_radar.py",
    }
    assert folder.stat().st_mode & 0o055 == tmp_path.stat().st_mode & 0o055 or (folder.stat().st_mode & 0o700) == 0o700


@pytest.mark.parametrize("kind", KINDS)
def test_the_project(written: dict[str, Path], kind: str) -> None:
    values = tomllib.loads((written[kind] / "pyproject.toml").read_text())
    project = values["project"]
    assert project["name"] == f"cmcd-plugin-new_{kind}"
    assert project["entry-points"] == {"cmcd": {f"new_{kind}": f"cmcd_new_{kind}"}}
    assert values["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"cmcd_new_{kind}"]
    major, minor = cmcd_core.__version__.split(".")[:2]
    assert project["dependencies"][0] == f"cmcd>={cmcd_core.__version__},<{major}.{int(minor) + 1}"
    imported = {
        alias.split(".")[0]
        for file in (written[kind] / f"cmcd_new_{kind}").glob("*.py")
        for alias in re.findall(r"^\s*(?:from|import) ([a-z]\w+)", file.read_text(), re.MULTILINE)
    }
    ours = {re.split("[<>]", text)[0] for text in project["dependencies"]} | {"cmcd_core"}
    assert imported - set(sys.stdlib_module_names) <= ours


@pytest.mark.parametrize("kind", KINDS)
def test_the_workflow(written: dict[str, Path], kind: str) -> None:
    values = yaml.safe_load((written[kind] / ".github" / "workflows" / "test.yml").read_text())
    job = values["jobs"]["test"]
    assert job["steps"][1]["with"]["python-version"] == "${{ matrix.python }}"
    commands = " ".join(step.get("run", "") for step in job["steps"])
    assert "pip install -e '.[dev]'" in commands
    assert "python -m pytest" in commands


@pytest.mark.parametrize("kind", KINDS)
def test_public_names_alone(written: dict[str, Path], kind: str) -> None:
    for file in sources(written[kind]):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cmcd_core"):
                assert {alias.name for alias in node.names} <= set(PUBLIC[node.module or ""])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_open(written: dict[str, Path], kind: str) -> None:
    for file in written[kind].rglob("*"):
        if file.is_file():
            text = file.read_text()
            assert "NAME" not in text.replace("new NAME --kind", "")
            assert not re.search(r"\$(?!\{\{)", text), file


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["b", "with_a_long_name_of_32_characters"])
def test_well_formatted(tmp_path: Path, kind: str, name: str) -> None:
    write_package(tmp_path / "package", name, kind)  # type: ignore[arg-type]
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "."]
        done = subprocess.run(command, cwd=tmp_path / "package", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_commands_in_the_readme(written: dict[str, Path], kind: str) -> None:
    """Each is one that there is."""
    from cmcd_core.cli import cli

    text = (written[kind] / "README.md").read_text()
    lines = [line.split() for line in re.findall(r"^cmcd .*$", text, re.MULTILINE)]
    assert lines
    for words in lines:
        command = cli
        for word in words[1:3]:
            command = getattr(command, "commands", {}).get(word, command)  # type: ignore[assignment]
        options = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options


def test_listed_as_ok(site: Path, tmp_path: Path) -> None:
    code = "from cmcd_core.catalog import load; print([(p.name, p.status, p.provides) for p in load().plugins])"
    done = python(site, tmp_path, "-c", code)
    rows = {name: rest for name, *rest in ast.literal_eval(done.stdout)}
    for kind in KINDS:
        assert rows[f"new_{kind}"] == ["ok", {kind: [f"new_{kind}"]}]


@pytest.mark.slow
def test_own_tests_pass_unchanged(site: Path, written: dict[str, Path]) -> None:
    folders = [str(folder / "tests") for folder in written.values()]
    done = python(site, site, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_installed_by_pip(pip_install: Callable[..., Path], tmp_path: Path) -> None:
    folders = write_all(tmp_path)
    interpreter = str(pip_install(*folders.values()))

    def run(cwd: Path, *words: str) -> None:
        done = subprocess.run([interpreter, *words], cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(tmp_path, "-m", "pytest", "-q", *(str(folder / "tests") for folder in folders.values()))
    run(folders["objective"], "-m", "pytest")  # as its README says
    run(tmp_path, "-c", "from cmcd_core.cli import main; main()", "plugins", "check", "new_objective")


# --- what is refused


@pytest.mark.parametrize("name", ["", "Radar", "2d", "_x", "a-b", "a b", "a:b", "größe", "../up", "x.y"])
def test_malformed_names(new: New, tmp_path: Path, name: str) -> None:
    code, out, err = new("--kind", "task", "--", name)
    assert (code, out) == (2, "")
    assert err == f"Error: the name {name!r} should be lower case letters, digits and _, a letter first\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(RESERVED - {"ssl-target"}))
def test_reserved_names(new: New, name: str) -> None:
    code, _, err = new(name, "--kind", "task")
    assert code == 2
    assert err.startswith(f"Error: the name {name!r} is reserved\n")


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("depth", "modality", "is taken by plugin depth of cmcd"),
        ("cmd", "objective", "is taken by plugin objectives of cmcd"),
        ("objectives", "task", "is taken by plugin objectives of cmcd"),
        ("core", "task", "is taken: a module cmcd_core is installed"),
        ("loader", "loader", "would make a class LoaderOptions, as cmcd has one"),
        ("paired", "loader", "would make a class PairedLoader, as cmcd has one"),
    ],
)
def test_taken_names(new: New, tmp_path: Path, name: str, kind: str, why: str) -> None:
    code, out, err = new(name, "--kind", kind)
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: the name {name!r} {why}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["class", "none", "modality", "x_", "a__b", "torch", "test"])
def test_names_that_might_clash_do_not(tmp_path: Path, kind: str, name: str) -> None:
    check_name(name, kind)  # type: ignore[arg-type]
    write_package(tmp_path / "package", name, kind)  # type: ignore[arg-type]
    for file in sources(tmp_path / "package"):
        tree = ast.parse(file.read_text())
        defined = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        imported = [a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names]
        assert not set(defined) & set(imported)


def test_what_is_there_is_not_touched(new: New, tmp_path: Path) -> None:
    for make in (Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")):
        folder = tmp_path / "cmcd-plugin-radar"
        make(folder)
        code, out, err = new("radar", "--kind", "modality")
        assert (code, out) == (2, "")
        assert err.startswith("Error: cmcd-plugin-radar: is there already, and nothing in it was changed\n")
        assert list(tmp_path.iterdir()) == [folder]
        folder.rmdir() if folder.is_dir() else folder.unlink()


def test_where_nothing_can_be_written(new: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    code, out, err = new("radar", "--kind", "modality")
    assert (code, out, err) == (2, "", "Error: cmcd-plugin-radar: cannot be written: No space left on device\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["radar"], ["radar", "--kind", "sensor"], ["--kind", "task"]])
def test_usage(new: New, words: list[str]) -> None:
    code, out, err = new(*words)
    assert (code, out) == (2, "")
    assert "Error: " in err


# --- the templates


def test_templates_are_no_python_of_ours() -> None:
    """They would be linted, type-checked and collected by pytest."""
    folder = files(cmcd_core) / "templates"
    assert isinstance(folder, Path)
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) > 15
    assert {path.suffix for path in found} == {".in"}
    assert {path.name for path, _ in templates(folder / "task")} == {
        "__init__.py",
        "task.py",
        "test_NAME.py",
        "about.toml",
    }


def test_names_of_classes() -> None:
    assert [camel(name) for name in ("radar", "my_radar_2", "a__b")] == ["Radar", "MyRadar2", "AB"]


def test_kinds_are_those_of_the_catalog() -> None:
    from cmcd_core.cli.plugin_new import new as command

    (kind,) = [parameter for parameter in command.params if parameter.name == "kind"]
    assert list(kind.type.choices) == list(KINDS)  # type: ignore[attr-defined]
    assert load().plugins
