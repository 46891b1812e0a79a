"""TU-Berlin sketches as they are unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize("below", [".", "png"])
def test_sketches_alone(below: str, tmp_path: Path, picture, recognised, everything) -> None:
    files = [f"{label}/{number}.png" for label in ("air plane", "zebra") for number in range(1, 21)]
    for file in files:
        picture(tmp_path / "png" / file)
    (tmp_path / "png" / "filelist.txt").write_text("\n".join(files))
    name, loader = recognised((tmp_path / below).resolve())
    assert (name, loader.modalities) == ("tu_berlin", {"sketch"})
    assert loader.classes == {"label": ["air plane", "zebra"]}
    assert [len(loader.split(split)) for split in ("train", "val", "test")] == [26, 6, 8]
    assert loader.notes[0] == "There are no pairs here: sketches alone."
    assert all(sample.views["sketch"].is_file() for sample in everything(loader))
    assert {sample.key for sample in everything(loader)} == {file.removesuffix(".png") for file in files}
