"""What the tests of bad input share: a sound little data set to break, and the command line as a user meets it."""

from __future__ import annotations

import csv
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmcd_core.cli import main

COUNTS = {"train": 8, "val": 4, "test": 4}
COLUMNS = ["id", "split", "label", "image_file_name", "depth_file_name", "mask_file_name", "audio_file_name"]
LINES = 3
"""Of an error: what is wrong, what to do, and room for one more thing that is wrong."""
WIDTH = 900


def write_data(root: Path) -> None:
    """Pairs of image, depth, mask and sound of two classes, and all that says so."""
    rng = np.random.default_rng(0)
    rows = []
    for folder in ("image", "depth", "mask", "audio"):
        (root / folder).mkdir(parents=True)
    for split, count in COUNTS.items():
        for number in range(count):
            key = f"{split}{number}"
            files = [f"image/{key}.png", f"depth/{key}.png", f"mask/{key}.png", f"audio/{key}.wav"]
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(root / files[0])
            Image.fromarray(rng.integers(500, 3000, (20, 20), np.uint16)).save(root / files[1])
            Image.fromarray(rng.integers(0, 2, (20, 20), np.uint8)).save(root / files[2])
            write_wave(root / files[3], rng.integers(-9000, 9000, 8000))
            rows.append([key, split, ("cup", "hat")[number % 2], *files])
    write_table(root, rows)
    (root / "mask_classes.txt").write_text("ground\nthing\n")
    (root / "dataset.toml").write_text('aligned = ["image", "depth"]\n[depth]\nunit = "mm"\n')


def write_table(root: Path, rows: list[list[str]], columns: list[str] = COLUMNS) -> None:
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def write_wave(path: Path, samples: np.ndarray, rate: int = 16_000, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, "<i2").tobytes())


def edited(old: str, new: str, name: str = "metadata.csv") -> Callable[[Path], None]:
    """A change of a text file."""

    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))

    return change


def holding(name: str, content: str | bytes) -> Callable[[Path], None]:
    """A file of this content."""

    def change(root: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    return change


def said_by(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Exit code and stderr; whatever happens is said in a few words."""
    with pytest.raises(SystemExit) as caught:
        main([*map(str, words)])
    said = capsys.readouterr().err
    assert "Traceback" not in said, said
    assert "bug in cmcd" not in said, said
    return int(caught.value.code or 0), said


def require_refused(code: int, said: str, parts: list[str]) -> None:
    """One error of a line or two that names these, and exit code 2."""
    assert code == 2, said
    assert sum(line.startswith("Error:") for line in said.splitlines()) == 1, said
    lines = said[said.index("Error:") :].splitlines()
    assert len(lines) <= LINES, said
    assert all(len(line) < WIDTH for line in lines), said
    for part in parts:
        assert part in said, said
