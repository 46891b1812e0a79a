"""`cmcd cache` lists what is there and deletes only what cmcd made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cmcd_core import ConfigError, cache_folder
from cmcd_core.cache import Entry, cached_entry, contents, remove
from cmcd_core.cli import cli

DAY = 86_400


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test alone."""
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def filled(root: Path) -> Path:
    """Two decoded entries, one of them four days old, and one of features."""
    for kind, address, size in (("decoded", "old", 3000), ("decoded", "new", 2000), ("features", "one", 1000)):
        cached_entry(kind, address, lambda partial, size=size: filling(partial, size))
    aged(root / "decoded" / "old", 4 * DAY)
    return root


def filling(partial: Path, size: int) -> None:
    (partial / "views.npy").write_bytes(bytes(size))


def aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    for part in (*path.rglob("*"), path):
        os.utime(part, (then, then))


def cache(*words: str, **more: object) -> Result:
    return CliRunner().invoke(cli, ["cache", *words], standalone_mode=False, **more)  # type: ignore[arg-type]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Pretend that there is a terminal whose user answers so."""

    def answering(answer: bool) -> None:
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
        monkeypatch.setattr(click, "confirm", lambda text: answer)

    return answering


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_empty_cache_is_said_and_not_made(root: Path) -> None:
    assert "nothing in it yet" in cache("list").stdout
    assert "nothing to delete" in cache("clear").stdout
    assert not root.exists()


def test_list_counts_sizes_and_ages(filled: Path) -> None:
    lines = cache("list").stdout.splitlines()
    assert lines[0] == f"cache: {filled}"
    assert lines[2].split()[:7] == ["decoded", "2", "0.0", "4", "days", "0", "s"]
    assert lines[-1].split() == ["in", "all", "3", "0.0"]
    assert max(map(len, lines[1:])) <= 100
    values = json.loads(cache("list", "--json").stdout)
    decoded, features = values["kinds"]
    assert values["folder"] == str(filled)
    assert (decoded["kind"], decoded["entries"], decoded["bytes"]) == ("decoded", 2, 5000)
    assert decoded["oldest"] < decoded["newest"]
    assert features["made_by_cmcd"] is True


def test_nothing_is_deleted_without_a_yes(filled: Path) -> None:
    done = cache("clear")
    assert isinstance(done.exception, ConfigError)
    assert done.exception.exit_code == 2
    assert "--yes" in str(done.exception)
    assert "2 entries" in done.stdout
    assert len(names(filled / "decoded")) == 2


@pytest.mark.parametrize(("answer", "left"), [(True, 0), (False, 2)])
def test_a_terminal_is_asked(filled: Path, terminal: Callable[[bool], None], answer: bool, left: int) -> None:
    terminal(answer)
    done = cache("clear", "decoded")
    assert done.exception is None
    assert len(names(filled / "decoded")) == left
    assert names(filled / "features") == ["one"]


def test_clear_all(filled: Path) -> None:
    assert "deleted 3 entries" in cache("clear", "--yes").stdout
    assert names(filled / "decoded") == names(filled / "features") == []
    assert contents()[0].ours  # what comes next is cleared too
    cached_entry("decoded", "again", lambda partial: filling(partial, 1))
    assert "deleted 1 entry" in cache("clear", "--yes").stdout


def test_older_than(filled: Path) -> None:
    assert "deleted 1 entry" in cache("clear", "--older-than", "3", "--yes").stdout
    assert names(filled / "decoded") == ["new"]


@pytest.mark.parametrize("kind", ["decodet", "..", "", "decoded/old", "/"])
def test_an_unknown_kind_is_refused(filled: Path, kind: str) -> None:
    done = cache("clear", "features", kind, "--yes")
    assert isinstance(done.exception, ConfigError)
    assert "decoded, demo, features, pretrained" in str(done.exception)
    assert names(filled / "features") == ["one"]


def test_a_known_kind_that_is_not_there_is_nothing_to_do(filled: Path) -> None:
    done = cache("clear", "pretrained", "--yes")
    assert done.exception is None
    assert "nothing to delete" in done.stdout


def test_a_plugins_kind_is_known_once_it_is_made(root: Path) -> None:
    (cache_folder("thermal") / "table").write_text("x")
    assert "thermal" in cache("list").stdout
    assert cache("clear", "thermal", "--yes").exception is None
    assert names(root / "thermal") == []


def test_what_is_being_written_stays(filled: Path) -> None:
    for name, seconds in ((".partial-live", 60), (".partial-dead", 7200), (".partial-long", 7200)):
        (filled / "decoded" / name).mkdir()
        filling(filled / "decoded" / name, 10)
        aged(filled / "decoded" / name, seconds)
    (filled / "decoded" / ".partial-long" / "views.npy").write_bytes(b"still at it")
    done = cache("clear", "--yes")
    assert "2 entries (0.0 MB) left alone, being written" in done.stdout
    assert names(filled / "decoded") == [".partial-live", ".partial-long"]


def test_a_foreign_folder_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path))
    for file in ("decoded/holiday.jpg", "photos/one.jpg", "notes.txt", ".config/x"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("mine")
    cached_entry("decoded", "entry", lambda partial: filling(partial, 1))
    cached_entry("features", "entry", lambda partial: filling(partial, 1))
    done = cache("clear", "--yes")
    assert "decoded: not marked as made by cmcd, left alone" in done.stdout
    assert f"delete it yourself: {tmp_path / 'decoded'}" in done.stdout
    assert "photos" not in done.stdout
    for file in ("decoded/holiday.jpg", "photos/one.jpg", "notes.txt", ".config/x", "decoded/entry/complete"):
        assert (tmp_path / file).is_file(), file
    assert names(tmp_path / "features") == []


def test_a_forged_list_leads_nowhere(filled: Path) -> None:
    (filled.parent / "outside").mkdir()
    (filled.parent / "outside" / "file").write_text("mine")
    with (filled / ".cmcd-cache").open("a") as out:
        out.write(f"../outside\n..\n.\n/\n{filled.parent / 'outside'}\n\n")
    assert cache("clear", "--yes").exception is None
    assert (filled.parent / "outside" / "file").is_file()
    assert (filled / ".cmcd-cache").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="makes links")
def test_links_are_not_followed(filled: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    (filled / "features" / "link").symlink_to(mine)
    (filled / "features" / "one" / "inner").symlink_to(mine)
    (filled / "features" / "one" / "inner_file").symlink_to(mine / "file")
    (filled / "decoded").rename(tmp_path / "moved")
    (filled / "decoded").symlink_to(tmp_path / "moved")
    done = cache("clear", "--yes")
    assert "decoded: not marked" in done.stdout
    assert len(names(tmp_path / "moved")) == 2
    assert (mine / "file").read_text() == "mine"
    assert names(filled / "features") == ["link"]


def test_a_failing_deletion_is_said(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(self: Path, target: Path) -> None:
        raise PermissionError(13, "in use", str(self))

    monkeypatch.setattr(Path, "rename", rename)
    done = cache("clear", "features", "--yes")
    assert done.return_value == 1
    assert f"could not delete {filled / 'features' / 'one'}: in use" in done.stderr
    assert "deleted 0 entries" in done.stdout


def test_a_deletion_cut_short_leaves_nothing_that_looks_whole(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rmtree(path: Path) -> None:
        raise KeyboardInterrupt

    (entry,) = contents()[1].entries
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", rmtree)
        with pytest.raises(KeyboardInterrupt):
            remove(entry)
    assert [name.startswith(".partial-") for name in names(filled / "features")] == [True]
    aged(filled / "features", 7200)
    cache("clear", "--yes")
    assert names(filled / "features") == []


def test_an_entry_that_is_gone_already_is_no_error(root: Path) -> None:
    remove(Entry(root / "decoded" / "gone", 0, 0.0, False))


def test_list_and_clear_do_without_torch(filled: Path) -> None:
    for words in (["cache", "list"], ["cache", "clear", "--yes"]):
        code = (
            f"import sys\nfrom cmcd_core.cli import main\ntry: main({words!r})\n"
            "except SystemExit as e: assert not e.code\n"
            "sys.exit(str([n for n in ('torch', 'pydantic', 'numpy', 'rich') if n in sys.modules] or ''))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stderr.strip() == ""


def test_the_command_itself_exits_2_in_words(filled: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from cmcd_core.cli import main; main()", "cache", "clear"],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "Error: nothing was deleted: there is no terminal to ask on\nAdd --yes.\n"
