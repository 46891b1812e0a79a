"""Whatever a data set's files hold: they are read, or an error says in a few words what is wrong; never a traceback."""

from __future__ import annotations

import io
import shutil
import string
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from cmcd_core import CmcdError
from cmcd_core.cli import main
from cmcd_core.config import RunConfig
from cmcd_core.grammar import parse_data, parse_expression, parse_labels, read_toml, set_key

from .bad_input import LINES, WIDTH

MANY = settings(
    max_examples=60, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
"""Few and unshrunk: each example reads a data set."""
QUICK = settings(max_examples=300)
CELL = st.one_of(
    st.sampled_from(
        ["image/train0.png", "depth/train1.png", "train", "val", "cup", "", "1.0", "nan", "../x", "/x", '"']
    ),
    st.text(max_size=12),
    st.text(string.printable, max_size=200),
)
COLUMN = st.sampled_from([
    "id", "split", "label", "weight", "image_file_name", "depth_file_name", "mask_file_name", "x_file_name",
    "file_name", "Split", "",
]) | st.text(max_size=8)  # fmt: skip
Dry = Callable[..., None]
EACH = 20
"""Lines of an error about options: each that is wrong has its own."""


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data"))


@pytest.fixture
def dry(capsys: pytest.CaptureFixture[str]) -> Dry:
    """``cmcd run --dry-run``: the configuration is checked, and the data's index is read."""

    def call(data: Path, *words: str, most: int = LINES) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["run", "--target", "depth", "--data", str(data), "--dry-run", *words])
        said = capsys.readouterr().err
        assert caught.value.code in (0, None, 2), said
        assert "Traceback" not in said, said
        assert " of plugin " not in said, "a loader raised what it did not mean to"
        if caught.value.code == 2:
            require_words(said, most)

    return call


def require_words(said: str, most: int) -> None:
    lines = said[said.index("Error:") :].splitlines()
    assert 1 <= len(lines) <= most, said
    assert all(len(line) < WIDTH for line in lines), said


# --- metadata


@st.composite
def csv_text(draw: st.DrawFn) -> str:
    columns = draw(st.lists(COLUMN, min_size=1, max_size=6))
    rows = draw(st.lists(st.lists(CELL, min_size=0, max_size=7), max_size=6))
    separator, end = draw(st.sampled_from([",", ",", ",", ";", "\t"])), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return end.join(separator.join(cells) for cells in [columns, *rows])


@MANY
@given(text=csv_text(), encoding=st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
@example(text="image_file_name,depth_file_name\nimage/train0.png,depth/train0.png\r\n", encoding="utf-8")
@example(text="image_file_name\nimage/" + "x" * 300 + ".png", encoding="utf-8")
@example(text="image_file_name\nimage/a\x1b[2J\x07.png", encoding="utf-8")
@example(text='id,image_file_name\n"a\nb",nowhere\n', encoding="utf-8")
def test_metadata_of_columns_and_cells(text: str, encoding: str, data: Path, dry: Dry) -> None:
    (data / "metadata.csv").write_bytes(text.encode(encoding, "replace"))
    dry(data)


@MANY
@given(content=st.binary(max_size=300))
@example(content=b"\xff\xfe")
@example(content=b"image_file_name\n\x00")
def test_metadata_of_bytes(content: bytes, data: Path, dry: Dry) -> None:
    (data / "metadata.csv").write_bytes(content)
    dry(data)


@MANY
@given(places=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=3)), min_size=1, max_size=3))
def test_sound_metadata_with_a_few_bytes_changed(
    places: list[tuple[int, bytes]], sound: Path, data: Path, dry: Dry
) -> None:
    content = bytearray((sound / "metadata.csv").read_bytes())
    for place, new in places:
        content[place % len(content) : place % len(content) + len(new)] = new
    (data / "metadata.csv").write_bytes(content)
    dry(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(COLUMN, inner, max_size=4),
    max_leaves=8,
)


@MANY
@given(
    lines=st.lists(JSON, min_size=1, max_size=4),
    tail=st.sampled_from(["", "{", '{"image_file_name": 1e999}', "[" * 3000]),
)
def test_metadata_of_json(lines: list[Any], tail: str, data: Path, dry: Dry) -> None:
    import json

    (data / "metadata.csv").unlink(missing_ok=True)
    (data / "metadata.jsonl").write_text("\n".join([*map(json.dumps, lines), tail]))
    dry(data)


# --- TOML

KEYS = st.sampled_from(["name", "pairs", "aligned", "label_column", "depth", "image", "x"]) | st.text(max_size=5)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["unit", "near", "x", "y.z"]), inner),
    max_leaves=5,
)


def toml(values: Any) -> str:
    import tomli_w

    return tomli_w.dumps(values)


@MANY
@given(values=st.dictionaries(KEYS, VALUES, max_size=4))
@example(values={"depth": {"unit": "mm", "near": float("nan")}})
@example(values={"aligned": [["image"]]})
@example(values={"pairs": {"a": 1}})
def test_settings_of_values(values: dict[str, Any], data: Path, dry: Dry) -> None:
    (data / "dataset.toml").write_text(toml(values), encoding="utf-8")
    dry(data, most=EACH)


@MANY
@given(content=st.text(string.printable, max_size=80) | st.binary(max_size=60))
@example(content="a = 1979-05-27T25:00:00Z")
@example(content="a = " + "[" * 2000)
@example(content="a." * 2000 + "a = 1")
def test_settings_of_text(content: str | bytes, data: Path, dry: Dry) -> None:
    (data / "dataset.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    dry(data)


SECTIONS = st.sampled_from([
    "source", "target", "data", "objective", "task", "pretrain", "distill", "evaluate", "run", "plugins", "schema", "x",
])  # fmt: skip
FIELDS = st.sampled_from([
    "name", "loader", "root", "expression", "names", "epochs", "lr", "labels", "baselines", "seed", "out", "size",
    "data", "cmd", "teacher", "protocols", "model_args", "encoder", "scratch_lrs", "aligned",
])  # fmt: skip


@QUICK
@given(values=st.dictionaries(SECTIONS, VALUES | st.dictionaries(FIELDS, VALUES, max_size=4), max_size=4))
@example(values={"data": {"root": "a\0b"}})
@example(values={"evaluate": {"labels": ["1" * 5000]}})
@example(values={"run": {"seed": 2**70}})
@example(values={"source": {"name": "image", "name.x": 1}})
def test_configurations(values: dict[str, Any]) -> None:
    error = raised(lambda: RunConfig.from_mapping(values, "c.toml").to_mapping())
    if error is not None:
        assert error.exit_code == 2
        assert all(line and len(line) < WIDTH for line in error.message.splitlines())


def raised(call: Callable[[], Any]) -> CmcdError | None:
    try:
        call()
    except CmcdError as error:
        return error
    return None


@MANY
@given(values=st.dictionaries(SECTIONS, VALUES | st.dictionaries(FIELDS, VALUES, max_size=3), min_size=1, max_size=3))
@example(values={"target": {"name": "depth", "unit": "mm", "near": -1}})
@example(values={"data": {"root": "a\0b"}})
@example(values={"run": {"out": 3}})
@example(values={"pretrain": {"teacher": ["a\0b"]}})
def test_configuration_files(values: dict[str, Any], data: Path, dry: Dry) -> None:
    file = data.parent / "c.toml"
    file.write_text(toml(values), encoding="utf-8")
    tomllib.loads(file.read_text(encoding="utf-8"))
    dry(data, "-c", str(file), most=EACH)


@QUICK
@given(text=st.text(max_size=30) | st.text("cmd+*0.5e-@: ", max_size=20))
@example(text="9" * 5000 + "*cmd")
def test_small_texts(text: str) -> None:
    for parse in (parse_expression, parse_data, parse_labels, lambda text: set_key({}, text)):
        error = raised(lambda parse=parse: parse(text))
        assert error is None or error.exit_code == 2


def test_a_deep_toml_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("a = " + "[" * 5000)
    with pytest.raises(CmcdError, match="not valid TOML"):
        read_toml(tmp_path / "c.toml")


# --- shards

MEMBER = st.sampled_from([
    "a.image.png", "a.depth.png", "b.image.png", "a.label.txt", "a.json", "a.mask.png", "c/a.image.jpg",
    "../a.image.png", "/a.image.png", ".hidden", "a", "a.target-x.npy", "a.image.npy",
]) | st.text(min_size=1, max_size=20)  # fmt: skip
CONTENT = st.sampled_from(
    [b"", b"{", b'{"cmcd": {"weight": -1}}', b'{"cmcd": {"key": "a"}}', b"cup", b"\xff"]
) | st.binary(max_size=40)
KIND = st.sampled_from([tarfile.REGTYPE] * 6 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])


def tar_of(members: list[tuple[str, bytes, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content) if kind == tarfile.REGTYPE else 0, kind
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "shards").mkdir()
    yield tmp_path / "shards"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shards"], "nothing is written beside them"


@MANY
@given(members=st.lists(st.tuples(MEMBER, CONTENT, KIND), max_size=6))
@example(members=[("a.image.png", b"", tarfile.REGTYPE), ("a.depth.png", b"", tarfile.REGTYPE)])
def test_tars_of_members(members: list[tuple[str, bytes, bytes]], shards: Path, dry: Dry) -> None:
    (shards / "train-0.tar").write_bytes(tar_of([m for m in members if "\0" not in m[0]]))
    dry(shards)


WHOLE = tar_of([(f"{key}.{view}.png", b"x" * 700, tarfile.REGTYPE) for key in "abc" for view in ("image", "depth")])


@MANY
@given(
    places=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, len(WHOLE)),
)
def test_tars_with_a_few_bytes_changed_or_cut(places: list[tuple[int, int]], cut: int, shards: Path, dry: Dry) -> None:
    content = bytearray(WHOLE)
    for place, value in places:
        content[place] = value
    (shards / "train-0.tar").write_bytes(content[:cut] if cut % 2 else content)
    dry(shards)
