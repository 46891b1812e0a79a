"""Bad metadata, settings, configurations and flags: told in a line, before any training, by exit code 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cmcd_core.cli import main

from .bad_input import edited, holding, require_refused, said_by

Change = Callable[[Path], None]
WORDS = ["run", "--target", "depth", "--quiet", "--device", "cpu", "--baseline", "none", "--label-draws", "1"]


@pytest.fixture
def data(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to break, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(sound, tmp_path / "data"))


@pytest.fixture(autouse=True)
def no_training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.training.Standing", lambda *args: pytest.fail("a training began"))
        yield


def without(name: str) -> Change:
    return lambda root: (root / name).unlink()


def linked_nowhere(root: Path) -> None:
    (root / "image" / "train1.png").unlink()
    (root / "image" / "train1.png").symlink_to(root / "gone.png")


def as_utf16(root: Path) -> None:
    file = root / "metadata.csv"
    file.write_text(file.read_text(), encoding="utf-16")


def one_class(root: Path) -> None:
    edited(",hat,", ",cup,")(root)


def no_pairs(root: Path) -> None:
    text = (root / "metadata.csv").read_text().splitlines()
    rows = [line.split(",") for line in text[1:]]
    kept = [[*r[:3], "", *r[4:]] if n % 2 else [*r[:4], "", *r[5:]] for n, r in enumerate(rows)]
    (root / "metadata.csv").write_text("\n".join([text[0], *(",".join(r) for r in kept)]) + "\n")


METADATA = {
    "a column is missing": (edited("image_file_name", "image"), ["'image' is no modality of", "audio, depth"]),
    "no file columns": (holding("metadata.csv", "id,label\n1,cup\n"), ["no column <modality>_file_name", "id, label"]),
    "absolute path": (edited("image/train1.png", "/etc/hostname"), ["row 3, image_file_name", "is absolute", "allow_"]),
    "path of another system": (edited("image/train1.png", "C:\\a.png"), ["row 3, image_file_name", "is absolute"]),
    "path that leaves": (edited("image/train1.png", "../a.png"), ["row 3, image_file_name", "leaves the folder"]),
    "dangling link": (linked_nowhere, ["row 3, image_file_name", "is a link to nowhere"]),
    "missing file": (without("depth/val1.png"), ["row 11, depth_file_name", "does not exist", "on_error=skip"]),
    "a folder": (edited("image/train1.png", "image"), ["row 3, image_file_name", "is a folder"]),
    "key twice": (edited("train1,train", "train0,train"), ["row 3, id", "'train0' stands in row 2 already"]),
    "empty key": (edited("train1,train", ",train"), ["row 3, id", "empty"]),
    "UTF-16": (as_utf16, ["metadata.csv is not UTF-8", "Save it as UTF-8"]),
    "latin-1": (holding("metadata.csv", b"image_file_name,label\na.png,caf\xe9\n"), ["row 2: byte 0xe9", "UTF-8"]),
    "huge field": (edited("cup", "c" * 200_000), ["metadata.csv, row 2", "131072 characters"]),
    "no split of that name": (edited("train1,train", "train1,trian"), ["row 3, split: 'trian'", "mean 'train'"]),
    "half a split column": (edited("train1,train", "train1,"), ["row 3, split: empty", "train, val or test"]),
    "short row": (edited("val1,val,hat", "val1,val"), ["row 11: 6 cells; expected 7"]),
    "long row": (edited("val1,val,hat", "val1,val,hat,hut"), ["row 11: 8 cells; expected 7"]),
    "open quote": (edited("val1,val,hat", 'val1,val,"hat'), ["row 11", "a quoted cell has no end", "never closed"]),
    "semicolons": (holding("metadata.csv", "image_file_name;label\na;b\n"), ["row 1", "semicolons; expected commas"]),
    "no rows": (holding("metadata.csv", "image_file_name,depth_file_name\n"), ["metadata.csv has no rows"]),
    "empty file": (holding("metadata.csv", ""), ["metadata.csv has no rows"]),
    "NUL in a name": (holding("metadata.jsonl", '{"image_file_name": "\\u0000"}'), ["both metadata.csv and"]),
    "column twice": (edited("depth_file_name", "image_file_name"), ["row 1", "'image_file_name' stands there twice"]),
    "odd column": (edited("depth_file_name", "Depth_file_name"), ["header", "depth_file_name"]),
    "odd label": (holding("classes.txt", "cup\nhut\n"), ["row 3, label", "'hat' is not in classes.txt", "mean 'hut'"]),
    "class list with a gap": (holding("classes.txt", "cup\n\nhat\n"), ["classes.txt, row 2: empty"]),
    "class list with a copy": (holding("classes.txt", "cup\nhat\ncup\n"), ["classes.txt, row 3: 'cup' stands in row"]),
    "no pairs": (no_pairs, ["0 pairs of image and depth", "at least 2"]),
    "one class": (one_class, ["recognition needs at least two classes", "names 1"]),
    "no training rows": (edited(",train,", ",test,"), ["the training split has 0 image views", "at least 2"]),
    "weight": (edited("id,split,label", "weight,split,label"), ["row 2, weight: 'train0'; expected a number"]),
}  # fmt: skip


@pytest.mark.parametrize("name", METADATA)
def test_metadata(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, parts = METADATA[name]
    change(data)
    require_refused(*said_by(capsys, *WORDS, "--data", data, "--out", "run"), parts)
    assert not Path("run", "config.toml").exists()


SETTINGS = {
    "syntax": ("name = my data", ["dataset.toml is not valid TOML", "line 1", "quotes"]),
    "a typo": ('aligend = ["image"]', ["dataset.toml: unknown key 'aligend'", "mean 'aligned'"]),
    "text for a list": ('aligned = "image"', ["dataset.toml, aligned: 'image'; expected a list", "For example"]),
    "unknown modality": ('aligned = ["imag"]', ["dataset.toml, aligned: 'imag'", "mean 'image'"]),
    "unknown table": ('[deepth]\nunit = "mm"', ["dataset.toml: unknown table [deepth]", "mean 'depth'"]),
    "unknown unit": ('[depth]\nunit = "inch"', ["target.unit", "'inch'", "'mm'", "dataset.toml"]),
    "unknown option": ('[depth]\nuint = "mm"', ["target.uint: unknown option, did you mean 'unit'?"]),
    "wrong type of an option": ('[depth]\nnear = "close"', ["target.near", "number", "'close'"]),
    "kind of pairs": ('pairs = "twins"', ["dataset.toml, pairs: 'twins'", '"instance" or "label"']),
    "a number for a name": ("name = 3", ["dataset.toml, name: 3; expected a text"]),
    "no such column": ('label_column = "kind"', ["dataset.toml, label_column", "no column 'kind'", "Columns here"]),
    "not text": (b"\xff\xfe\x00", ["dataset.toml is not UTF-8 text"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_dataset_toml(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, parts = SETTINGS[name]
    holding("dataset.toml", content)(data)
    require_refused(*said_by(capsys, *WORDS, "--data", data, "--out", "run"), parts)


CONFIGURATIONS = {
    "syntax": ("[run\n", ["c.toml: not valid TOML", "line 1"]),
    "a section's typo": ("[distil]\nlr = 1\n", ["c.toml: distil: unknown option, did you mean 'distill'?"]),
    "a key's typo": ("[distill]\nepoch = 1\n", ["c.toml: distill.epoch: unknown option, did you mean 'epochs'?"]),
    "text for a number": ('[distill]\nepochs = "many"\n', ["c.toml: distill.epochs", "integer", "'many'"]),
    "a fraction": ("[distill]\nepochs = 1.5\n", ["c.toml: distill.epochs", "integer", "1.5"]),
    "negative": ("[distill]\nlr = -1\n", ["c.toml: distill.lr", "greater than 0", "-1"]),
    "not a number": ("[distill]\nlr = nan\n", ["c.toml: distill.lr", "nan"]),
    "infinite": ("[pretrain]\ntemperature = inf\n", ["c.toml: pretrain.temperature", "inf"]),
    "a number for a section": ("run = 3\n", ["run: expected a table, got 3", "[run]"]),
    "a list for a section": ("source = [1]\n", ["source: expected a table, got [1]"]),
    "a number for a text": ("[source]\nname = 3\n", ["c.toml: source.name"]),
    "a newer layout": ("schema = 99\n", ["c.toml: written by a newer cmcd (schema 99"]),
    "an option of nothing": ("[objective.cmx]\nqueue = 3\n", ["objective.cmx: this run has no such objective"]),
    "options that are no table": ("[objective]\ncmd = 3\n", ["objective.cmd: expected a table of options, got 3"]),
    "not text": (b"\xff\xfe\x00", ["c.toml: not valid TOML"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, parts = CONFIGURATIONS[name]
    holding("c.toml", content)(data.parent)
    require_refused(*said_by(capsys, *WORDS, "--data", data, "--out", "run", "-c", "c.toml"), parts)


FLAGS = {
    "--labels 0": ["--labels '0': expected a number a class such as 5"],
    "--labels 200%": ["--labels '200%'", "a share such as 10%"],
    "--labels few": ["--labels 'few'"],
    "--label-draws 0": ["evaluate.label_draws", "greater than or equal to 1", "0"],
    "--epochs -1": ["distill.epochs", "-1"],
    "--epochs many": ["--epochs", "'many'"],
    "--batch-size 1": ["distill.batch_size", "greater than or equal to 2"],
    "--seed -1": ["run.seed", "-1"],
    "--seed 99999999999": ["run.seed", "less than or equal to"],
    "--device tpu": ["--device", "'tpu'"],
    "--precision 8": ["--precision", "'8'"],
    "--objective cmx": ["no objective called 'cmx'", "mean 'cmd'"],
    "--objective cmd+": ["--objective 'cmd+'", "weighted sum"],
    "--objective 0*cmd": ["the weight of cmd should be above 0"],
    "--objective cmd+cmd": ["cmd appears twice", "cmd@second"],
    "--baseline scrach": ["'scrach'"],
    "--protocol lineer": ["protocol 'lineer': expected linear, finetune, knn, auto"],
    "--task recognise": ["no task called 'recognise'", "mean 'recognition'"],
    "--source imagee": ["no modality called 'imagee'", "mean 'image'"],
    "--source sketch": ["--source sketch", "no such views", "audio, depth, image"],
    "--source=": ["no modality called ''"],
    "--init source --student resnet18": ["init source", "shares no weights"],
    "--student resnet181": ["'resnet181' is not a timm architecture", "mean resnet18"],
    "-o distill.epochs": ["-o 'distill.epochs'", "SECTION.KEY=VALUE"],
    "-o distil.epochs=3": ["distil: unknown option, did you mean 'distill'?"],
    "-o run.size=3": ["run.size", "greater than or equal to 16"],
    "-o distill.epochs.x=3": ["distill.epochs"],
    "-o target.near=5 -o target.far=1": ["target"],
    "-c nowhere.toml": ["nowhere.toml: No such file"],
    "-c data": ["data: Is a directory"],
    "--resume": ["run holds no run", "Leave --resume out"],
    "--extend": ["no finished step 2 to go on from"],
    "--unknown": ["No such option"],
    "--data nowhere": ["--data nowhere: no such file or folder"],
    "--data folder:nowhere": ["nowhere does not exist"],
    "--data image": ["--data image", "no such file or folder"],
    "--data data/metadata.csv": ["metadata.csv", "--data"],
    "--data data/depth": ["--data data/depth: no installed loader recognises"],
    "--data nobody:data": ["no loader called 'nobody'"],
    "--data shards:data": ["data holds no tar files"],
}  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
def test_flags(flags: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = flags.split()
    given = [] if "--data" in words else ["--data", data]
    require_refused(*said_by(capsys, *WORDS, *given, "--out", "run", *words), FLAGS[flags])


def test_there_are_many(request: pytest.FixtureRequest) -> None:
    assert sum(map(len, (METADATA, SETTINGS, CONFIGURATIONS, FLAGS))) >= 90


@pytest.mark.parametrize("words", [["--labels", "0"], ["-c", "nowhere.toml"], ["--data", "nowhere"]])
def test_the_console_script_says_the_same(words: list[str], data: Path) -> None:
    """In a process of its own, as a shell sees it."""
    done = subprocess.run(
        [sys.executable, "-c", "from cmcd_core.cli import main; main()", *WORDS, *words],
        capture_output=True, text=True, check=False, cwd=data.parent, env={**os.environ},
    )  # fmt: skip
    require_refused(done.returncode, done.stderr, [words[1]])
    assert done.stdout == ""


def test_a_flag_leaves_other_options_alone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options of the default objective, which a file need not name, were dropped by --baseline."""
    (data.parent / "c.toml").write_text("[objective.cmd]\nqueue = 7\n")
    with pytest.raises(SystemExit) as caught:
        main([*WORDS, "--data", str(data), "-c", "c.toml", "--dry-run"])
    assert not caught.value.code
    assert tomllib.loads(capsys.readouterr().out)["objective"]["cmd"]["queue"] == 7
