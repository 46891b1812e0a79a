"""Bad pictures, depth, sounds, masks, tars and weights: told in a line, before any training, by exit code 2."""

from __future__ import annotations

import io
import pickle
import shutil
import struct
import tarfile
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cmcd_core import CmcdError
from cmcd_core.interfaces.timm_encoder import TimmEncoder

from .bad_input import holding, require_refused, said_by, write_wave

Change = Callable[[Path], None]
WORDS = [
    "run", "--quiet", "--device", "cpu", "--baseline", "none", "--label-draws", "1", "--out", "run", "--epochs", "1",
]  # fmt: skip
DEPTH, AUDIO, MASKS = "--target depth", "--target audio", "--target depth --task segmentation"


@pytest.fixture
def data(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to break, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(sound, tmp_path / "data"))


@pytest.fixture(autouse=True)
def no_training() -> Iterator[None]:
    def begin(*arguments: object) -> None:
        raise CmcdError("a training began")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.training.Standing", begin)
        yield


def picture(name: str, image: Image.Image, **options: object) -> Change:
    def change(root: Path) -> None:
        image.save(root / name, **options)

    return change


def cut(name: str, share: float) -> Change:
    def change(root: Path) -> None:
        whole = (root / name).read_bytes()
        (root / name).write_bytes(whole[: int(len(whole) * share)])

    return change


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file by hand: of sizes and depths that Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


BOMB = png(40_000, 40_000, 1, 0, bytes(1_000_000))
COLOUR, GREY = Image.new("RGB", (20, 20), "red"), Image.new("L", (20, 20), 100)
IMAGE, MAP, MASK, CLIP = "image/train1.png", "depth/train1.png", "mask/train1.png", "audio/train1.wav"


def floats(name: str, value: float) -> Change:
    return picture(name, Image.fromarray(np.full((20, 20), value, np.float32)), format="TIFF")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def float_wave(root: Path) -> None:
    samples = np.full(4000, np.nan, "<f4").tobytes()
    head = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(samples)) + samples
    (root / CLIP).write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


FILES: dict[str, tuple[Change, str, list[str]]] = {
    "image: empty": (holding(IMAGE, b""), DEPTH, [IMAGE, "empty (0 bytes)", "'train1'"]),
    "image: truncated": (cut(IMAGE, 0.6), DEPTH, [IMAGE, "truncated or damaged", "'train1'"]),
    "image: header alone": (cut(IMAGE, 0.02), DEPTH, [IMAGE, "'train1'"]),
    "image: text": (holding(IMAGE, "no picture"), DEPTH, [IMAGE, "not a picture", "right column or folder"]),
    "image: a sound": (lambda root: (root / IMAGE).write_bytes((root / CLIP).read_bytes()), DEPTH, [IMAGE, "RIFF"]),
    "image: bomb": (holding(IMAGE, BOMB), DEPTH, [IMAGE, "too large to be safe", "Scale it down"]),
    "image: floats": (floats(IMAGE, 7), DEPTH, [IMAGE, "from 7 to 7", "in [0, 1]"]),
    "image: NaN": (floats(IMAGE, float("nan")), DEPTH, [IMAGE, "from nan to nan"]),
    "image: no size": (holding(IMAGE, png(0, 0, 8, 0, b"")), DEPTH, [IMAGE, "'train1'"]),
    "depth: empty": (holding(MAP, b""), DEPTH, [MAP, "empty (0 bytes)", "Expected"]),
    "depth: truncated": (cut(MAP, 0.6), DEPTH, [MAP, "truncated or damaged"]),
    "depth: colour": (picture(MAP, COLOUR.convert("RGB")), DEPTH, [MAP, "shape (20, 20, 3)"]),
    "depth: palette": (picture(MAP, COLOUR.convert("P")), DEPTH, [MAP, "mode P", "does not hold it"]),
    "depth: nothing": (picture(MAP, Image.new("I;16", (20, 20))), DEPTH, [MAP, "no pixel holds a depth", "Leave"]),
    "depth: NaN": (floats(MAP, float("nan")), DEPTH, [MAP, "no pixel holds a depth"]),
    "depth: bomb": (holding(MAP, BOMB), DEPTH, [MAP, "'train1'"]),
    "depth: wrong unit": (
        lambda root: None, f"{DEPTH} -o target.unit=m -o target.far=10", ["train0.png", "within 0 to 10 metres", "unit"]
    ),
    "depth: pickle": (holding(MAP, npy(np.array([{}], object))), DEPTH, [MAP, "truncated or damaged"]),
    "depth: a stack": (holding(MAP, npy(np.ones((4, 20, 20)))), DEPTH, [MAP, "shape (4, 20, 20)"]),
    "depth: complex": (holding(MAP, npy(np.ones((20, 20), complex))), DEPTH, [MAP, "complex128"]),
    "mask: id out of range": (picture(MASK, GREY), MASKS, [MASK, "holds class 100", "names 2 classes"]),
    "mask: colour": (picture(MASK, COLOUR), MASKS, [MASK, "this is a RGB picture", "grey or palette"]),
    "mask: JPEG": (picture(MASK, GREY, format="JPEG"), MASKS, [MASK, "JPEG changes class ids", "PNG"]),
    "mask: truncated": (cut(MASK, 0.5), MASKS, [MASK, "cannot be read"]),
    "mask: empty": (holding(MASK, b""), MASKS, [MASK, "'train1'"]),
    "mask: bomb": (holding(MASK, BOMB), MASKS, [MASK, "'train1'"]),
    "mask: 16 bits": (picture(MASK, Image.new("I;16", (20, 20), 3000)), MASKS, [MASK, "from 0 to 255"]),
    "mask: another form": (
        picture("mask/val0.png", Image.new("L", (60, 20))), MASKS, ["mask/val0.png: 60 x 20", "depth view", "20 x 20"]
    ),
    "sound: empty": (holding(CLIP, b""), AUDIO, [CLIP, "empty (0 bytes)", "Expected a sound file"]),
    "sound: text": (holding(CLIP, "no sound"), AUDIO, [CLIP, "not a sound file"]),
    "sound: truncated": (cut(CLIP, 0.5), AUDIO, [CLIP, "truncated"]),
    "sound: 0 samples": (lambda root: write_wave(root / CLIP, np.zeros(0)), AUDIO, [CLIP, "no samples"]),
    "sound: silence": (lambda root: write_wave(root / CLIP, np.zeros(800)), AUDIO, [CLIP, "nothing is heard"]),
    "sound: NaN": (float_wave, AUDIO, [CLIP, "NaN or infinite"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, words, parts = FILES[name]
    change(data)
    require_refused(*said_by(capsys, *WORDS, "--data", data, *words.split()), parts)


def animated(root: Path) -> None:
    GREY.convert("P").save(root / IMAGE, "GIF", save_all=True, append_images=[COLOUR.convert("P")] * 3)


TAKEN: dict[str, tuple[Change, str]] = {
    "CMYK": (picture(IMAGE, COLOUR.convert("CMYK"), format="JPEG"), DEPTH),
    "an animation: its first picture": (animated, DEPTH),
    "colour of 16 bits": (holding(IMAGE, png(9, 9, 16, 2, bytes(9 * (1 + 9 * 6)))), DEPTH),
    "grey of 16 bits": (picture(IMAGE, Image.new("I;16", (20, 20), 9000)), DEPTH),
    "another type than its name says": (picture(IMAGE, COLOUR, format="WEBP"), DEPTH),
    "one pixel": (picture(IMAGE, COLOUR.resize((1, 1))), DEPTH),
    "a line": (picture(IMAGE, COLOUR.resize((500, 1))), DEPTH),
    "eight channels": (
        lambda root: write_wave(root / CLIP, np.random.default_rng(0).integers(-99, 99, 8 * 4000), channels=8), AUDIO
    ),
    "192 kHz": (
        lambda root: write_wave(root / CLIP, np.random.default_rng(0).integers(-99, 99, 96_000), rate=192_000), AUDIO
    ),
    "BOM and CRLF": (
        lambda root: (root / "metadata.csv").write_bytes(
            b"\xef\xbb\xbf" + (root / "metadata.csv").read_bytes().replace(b"\n", b"\r\n").replace(b"\r\r", b"\r")
        ),
        DEPTH,
    ),
    "a batch larger than the data": (lambda root: None, f"{DEPTH} --batch-size 5000"),
    "a broken file that is left out": (holding(IMAGE, b""), f"{DEPTH} -o data.on_error=skip"),
    "more labels than there are": (lambda root: None, f"{DEPTH} --labels 5000"),
    "no test rows: step 3 is left out": (
        lambda root: (root / "metadata.csv").write_text((root / "metadata.csv").read_text().replace(",test,", ",val,")),
        DEPTH,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_odd_and_taken(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, words = TAKEN[name]
    change(data)
    code, said = said_by(capsys, *WORDS, "--data", data, *words.split())
    assert (code, said) == (1, "Error: a training began\n"), "every check is passed"


def tar(*members: tuple[tarfile.TarInfo | str, bytes]) -> Change:
    def change(root: Path) -> None:
        root.joinpath("shards").mkdir()
        with tarfile.open(root / "shards" / "train-0.tar", "w") as file:
            for name, content in members:
                info = tarfile.TarInfo(name) if isinstance(name, str) else name
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))

    return change


SHARDS: dict[str, tuple[Change, list[str]]] = {
    "escaping": (tar(("../../a.image.png", b"x")), ["train-0.tar: member '../../a.image.png'", "leaves the tar"]),
    "absolute": (tar(("/etc/a.image.png", b"x")), ["train-0.tar: member '/etc/a.image.png'", "an absolute name"]),
    "of no modality": (tar(("a.png", b"x")), ["train-0.tar: member 'a.png' names no modality", "a.image.jpg"]),
    "key twice": (tar(("a.image.png", b"x"), ("a.image.jpg", b"y")), ["both the image of sample 'a'"]),
    "bad record": (tar(("a.json", b"{")), ["train-0.tar: a.json is not valid JSON"]),
    "no tar": (lambda root: holding("train-0.tar", "text" * 400)(root / "shards"), ["train-0.tar is no tar file"]),
    "empty": (lambda root: holding("train-0.tar", "")(root / "shards"), ["train-0.tar is empty (0 bytes)"]),
    "compressed": (lambda root: holding("train-0.tar", b"\x1f\x8b123")(root / "shards"), ["compressed (gzip)"]),
    "of no split": (lambda root: holding("trian-0.tar", "")(root / "shards"), ["trian-0.tar is of no split"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SHARDS)
def test_shards(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, parts = SHARDS[name]
    change(data)
    require_refused(*said_by(capsys, *WORDS, "--target", "depth", "--data", f"shards:{data / 'shards'}"), parts)


def weights(name: str, **tensors: torch.Tensor) -> Change:
    return lambda root: save_file(tensors, root / name)


def saved(channels: int) -> Change:
    return lambda root: [TimmEncoder(in_chans=channels).save(root / "teacher"), None][1]


def then(*changes: Change) -> Change:
    return lambda root: [change(root) for change in changes][-1]


SLIM, ARCHITECTURE = "teacher/model.safetensors", "--teacher-architecture resnet10t"
TEACHERS: dict[str, tuple[Change, str, list[str]]] = {
    "pickle": (holding("w.pth", pickle.dumps({})), "data/w.pth", ["--teacher data/w.pth", ".safetensors", "hold code"]),
    "renamed pickle": (
        holding("w.safetensors", pickle.dumps({"a": 1})), f"data/w.safetensors {ARCHITECTURE}",
        ["w.safetensors: not a readable .safetensors", "can hold code"],
    ),
    "another architecture": (
        weights("w.safetensors", a=torch.ones(3)), f"data/w.safetensors {ARCHITECTURE}",
        ["not the weights of resnet10t", "unknown a"],
    ),
    "a nameless file": (
        weights("w.safetensors", a=torch.ones(3)), "data/w.safetensors", ["does not say which", "--teacher-arch"]
    ),
    "no such file": (lambda root: None, f"data/w.safetensors {ARCHITECTURE}", ["data/w.safetensors: no such file"]),
    "no such folder": (lambda root: None, "data/teacher", ["--teacher data/teacher: no such folder"]),
    "no encoder": (lambda root: None, "data", ["data: no encoder here (no config.json)"]),
    "truncated": (then(saved(3), cut(SLIM, 0.5)), "data/teacher", ["not a readable .safetensors file"]),
    "empty": (then(saved(3), holding(SLIM, b"")), "data/teacher", ["not a readable .safetensors file"]),
    "other channels": (saved(1), "data/teacher", ["takes 1 channels", "gives 3"]),
    "a config of something else": (
        then(saved(3), holding("teacher/config.json", '{"a": 1}')), "data/teacher",
        ["data/teacher: not an encoder", "no 'architecture'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TEACHERS)
def test_teachers(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, words, parts = TEACHERS[name]
    change(data)
    words = f"--target depth --data data --teacher {words}"
    require_refused(*said_by(capsys, *WORDS, *words.split()), parts)


def test_wave_helper(tmp_path: Path) -> None:
    write_wave(tmp_path / "a.wav", np.zeros(16), channels=8)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getnframes()) == (8, 2)
