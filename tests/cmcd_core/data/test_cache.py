"""A cache entry appears whole or not at all."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cmcd_core import ConfigError, cache_folder
from cmcd_core.cache import cache_root, cached_entry

WRITER = """
import sys, time
from pathlib import Path
from cmcd_core.cache import cached_entry
me, go = sys.argv[1], Path(sys.argv[2])
def write(partial):
    for part in range(5):
        (partial / f"part{part}").write_text(me)
        time.sleep(0.04)
print("ready", flush=True)
while not go.exists():
    time.sleep(0.005)
folder = cached_entry("things", "one", write)
print(",".join((folder / f"part{part}").read_text() for part in range(5)))
"""


def fill(partial: Path) -> None:
    (partial / "value").write_text("new")


def test_an_entry_is_made_once(cache: Path) -> None:
    made = []

    def write(partial: Path) -> None:
        made.append(partial)
        fill(partial)

    folder = cached_entry("things", "one", write)
    assert cached_entry("things", "one", write) == folder == cache / "things" / "one"
    assert (folder / "value").read_text() == "new"
    assert len(made) == 1
    assert cached_entry("things", "two", write) != folder


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_who_may_read_the_cache_may_read_what_is_in_it(cache: Path) -> None:
    cache_folder("things").chmod(0o750)
    assert cached_entry("things", "one", fill).stat().st_mode & 0o777 == 0o750


def test_a_failure_leaves_nothing(cache: Path) -> None:
    def write(partial: Path) -> None:
        fill(partial)
        raise RuntimeError("disc full")

    with pytest.raises(RuntimeError):
        cached_entry("things", "one", write)
    assert list((cache / "things").iterdir()) == []
    assert (cached_entry("things", "one", fill) / "value").is_file()


def test_debris_is_replaced(cache: Path) -> None:
    debris = cache / "things" / "one"
    debris.mkdir(parents=True)
    (debris / "half").write_text("old")
    folder = cached_entry("things", "one", fill)
    assert folder == debris
    assert (folder / "value").read_text() == "new"
    assert not (folder / "half").exists()


def test_the_partial_of_a_dead_process_does_no_harm(cache: Path) -> None:
    (cache / "things" / ".partial-dead").mkdir(parents=True)
    assert (cached_entry("things", "one", fill) / "value").is_file()


def test_many_writers_give_one_whole_entry(cache: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(go)], stdout=subprocess.PIPE, text=True)
        for name in "abcd"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    go.touch()
    seen = {writer.communicate(timeout=30)[0].strip() for writer in writers}
    assert {writer.returncode for writer in writers} == {0}
    assert len(seen) == 1
    assert seen <= {",".join(name * 5) for name in "abcd"}
    assert [path.name for path in (cache / "things").iterdir()] == ["one"]


def test_a_killed_writer_leaves_no_entry(cache: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.touch()
    slow = WRITER.replace("0.04", "30")
    writer = subprocess.Popen([sys.executable, "-c", slow, "a", str(go)], stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while not list((cache / "things").glob(".partial-*/part0")) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        writer.kill()
        writer.wait()
    assert list((cache / "things").glob(".partial-*/part0"))
    assert not (cache / "things" / "one").exists()
    assert (cached_entry("things", "one", fill) / "value").is_file()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "mine"))
    assert cache_folder("demo") == tmp_path / "mine" / "demo"
    assert (tmp_path / "mine" / "demo").is_dir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CMCD_CACHE", "~/other")
    assert cache_root() == tmp_path / "other"
    monkeypatch.delenv("CMCD_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "cmcd"


def test_a_place_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="cannot make the cache folder") as caught:
        cache_folder("demo")
    assert "CMCD_CACHE" in caught.value.hint
