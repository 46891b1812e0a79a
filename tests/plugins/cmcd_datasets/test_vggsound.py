"""VGGSound: its list, and what a user has of the clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmcd_core import DataError


@pytest.fixture
def tree(tmp_path: Path, picture, sound) -> Path:
    lines = []
    for number in range(20):
        video, start = f"-a_{number // 2:09d}", 30 + number % 2
        label, split = ("dog barking", "tap dancing, clog")[number // 2 % 2], "test" if number >= 16 else "train"
        lines.append(f'{video},{start},"{label}",{split}')
        if number < 18:
            sound(tmp_path / "audio" / split / f"{video}_{start:06d}.wav")
        if number == 19:
            break  # neither a frame nor a sound is here
        if number % 3 == 0:
            picture(tmp_path / "image" / f"{video}_{start:06d}.jpg")
        elif number % 3 == 1:
            for frame in range(5):
                picture(tmp_path / "image" / f"{video}_{start:06d}" / f"{frame}.jpg")
    (tmp_path / "vggsound.csv").write_text("\n".join(lines))
    return tmp_path


def test_frames_and_sounds_of_a_clip_are_pairs(tree: Path, recognised, everything) -> None:
    name, loader = recognised(tree)
    assert (name, loader.modalities) == ("vggsound", {"image", "audio"})
    assert loader.classes == {"label": ["dog barking", "tap dancing, clog"]}
    samples = everything(loader)
    assert len(samples) == 19
    for sample in samples:
        for view in sample.views.values():
            assert view.is_file()
            assert sample.key in (view.stem, view.parent.name)
            assert view.parent.name != sample.key or view.name == "2.jpg"  # the middle frame
    assert len(loader.split("test")) == 3
    assert "Left out: 1 clip of vggsound.csv that are not here." in loader.notes


def test_clips_of_a_video_stay_together(tree: Path, recognised) -> None:
    _, loader = recognised(tree, val_share=0.3)
    videos = {split: {sample.key[:-7] for sample in loader.split(split)} for split in ("train", "val", "test")}
    assert videos["val"]
    assert not videos["train"] & videos["val"]


def test_videos_alone_are_explained(tmp_path: Path, recognised) -> None:
    (tmp_path / "vggsound.csv").write_text("abc,30,dog barking,train\n")
    with pytest.raises(DataError, match="none of the 1 clips") as caught:
        recognised(tmp_path)
    assert "Expected audio/ID_000030.flac" in caught.value.hint
    (tmp_path / "abc_000030.mp4").touch()
    with pytest.raises(DataError, match="none of the 1 clips") as caught:
        recognised(tmp_path)
    assert "ffmpeg" in caught.value.hint


def test_a_bad_list(tmp_path: Path, recognised) -> None:
    (tmp_path / "vggsound.csv").write_text("abc,30,dog barking,train\nabc,x,dog,train\n")
    with pytest.raises(DataError, match=r"vggsound\.csv, row 2"):
        recognised(tmp_path)
