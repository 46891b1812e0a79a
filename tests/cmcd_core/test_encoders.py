"""Encoders on disk: read back by cmcd, and by timm alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from cmcd_core import ConfigError, Encoder, PluginError, TimmEncoder, load_encoder
from cmcd_core.catalog import load
from cmcd_core.encoders import architecture_in, load_teacher, start_from

SLIM: dict[str, Any] = {"channels": [8, 16, 24, 32], "stem_width": 8}
RGB = load().modality("image").build(load().modality("image").options())


def slim(in_chans: int = 3, seed: int = 0, **more: Any) -> TimmEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return stirred(TimmEncoder("resnet10t", in_chans=in_chans, **{**SLIM, **more}))


def stirred(encoder: Any) -> Any:
    """BatchNorm statistics that are not 0 and 1: a training pass."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        encoder.train()(torch.rand(4, encoder.channels, 64, 64))
    return encoder.eval()


def pictures(channels: int, side: int = 64) -> torch.Tensor:
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))


def pooled(encoder: Encoder, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return encoder.eval()(x).pooled


ARCHITECTURES = [
    ("resnet10t", 3, SLIM),
    ("resnet10t", 1, SLIM),
    ("resnet18", 4, {}),
    ("mobilenetv3_small_050", 1, {}),  # its head has a layer of its own
    ("convnext_atto", 2, {}),
    ("vit_tiny_patch16_224", 1, {"img_size": 64, "depth": 2}),
]


@pytest.mark.parametrize(("architecture", "channels", "model_args"), ARCHITECTURES)
def test_round_trip_here_and_in_plain_timm(tmp_path: Path, architecture: str, channels: int, model_args: dict) -> None:
    encoder = stirred(TimmEncoder(architecture, in_chans=channels, **model_args))
    encoder.arguments = {"architecture": architecture, **model_args}
    encoder.card = {"modality": "image:image", "options": {"blur": 0.5}, "size": 64}
    x = pictures(channels)
    expected = pooled(encoder, x)
    assert expected.shape == (2, encoder.dim)
    assert expected.std() > 1e-3
    encoder.save(tmp_path / "it")

    again = load_encoder(str(tmp_path / "it"))
    assert not again.training
    assert torch.equal(pooled(again, x), expected)
    assert (again.channels, again.dim, again.dense_dim) == (encoder.channels, encoder.dim, encoder.dense_dim)
    assert (again.arguments, again.card) == (encoder.arguments, encoder.card)

    plain = timm.create_model(f"local-dir:{tmp_path / 'it'}", pretrained=True, num_classes=0).eval()
    mean, std = (torch.tensor(plain.pretrained_cfg[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    assert mean.numel() == std.numel() == channels
    with torch.no_grad():
        assert torch.allclose(plain((x - mean) / std), expected, atol=1e-5)


def test_saving_twice_and_what_is_written(tmp_path: Path) -> None:
    slim(seed=0).save(tmp_path)
    slim(seed=1).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(pooled(load_encoder(tmp_path), pictures(3)), pooled(slim(seed=1), pictures(3)))


def test_dense_maps() -> None:
    for architecture, channels, model_args in ARCHITECTURES:
        encoder = TimmEncoder(architecture, in_chans=channels, **model_args).eval()
        with torch.no_grad():
            features = encoder(pictures(channels))
        assert features.dense is not None
        assert features.dense.shape[:2] == (2, encoder.dense_dim)
        assert features.dense.shape[2] == features.dense.shape[3] > 1


def test_an_encoder_normalises_by_itself() -> None:
    encoder = slim()
    assert encoder.mean.flatten().tolist() == [0.5] * 3
    other = TimmEncoder("resnet10t", in_chans=3, mean=(0.0,) * 3, std=(1.0,) * 3, **SLIM).eval()
    other.model.load_state_dict(encoder.model.state_dict())
    x = pictures(3)
    assert torch.allclose(pooled(other, (x - 0.5) / 0.25), pooled(encoder, x), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_exactly_as_many_means_as_channels(tmp_path: Path, channels: int) -> None:
    encoder = slim(channels)
    encoder.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert len(config["mean"]) == len(config["std"]) == channels
    with pytest.raises(ConfigError, match=f"mean has {channels + 1} values"):
        TimmEncoder("resnet10t", in_chans=channels, mean=(0.5,) * (channels + 1), **SLIM)


def test_a_folder_that_timm_saved(tmp_path: Path) -> None:
    from timm.models._hub import save_for_hf

    model = timm.create_model("resnet10t", num_classes=7, in_chans=3, **SLIM).eval()
    save_for_hf(model, tmp_path, model_args={**SLIM}, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "resnet10t"
    encoder = load_encoder(tmp_path)
    x = pictures(3)
    cfg = model.pretrained_cfg
    mean, std = (torch.tensor(cfg[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    model.reset_classifier(0)
    with torch.no_grad():
        assert torch.allclose(model((x - mean) / std), pooled(encoder, x), atol=1e-5)


# --- what does not fit


@pytest.mark.parametrize(
    ("architecture", "model_args", "message"),
    [
        ("resnet1o", {}, "'resnet1o' is not a timm architecture"),
        ("resnet10t", {"bogus": 3}, "timm cannot build resnet10t with {'bogus': 3}"),
    ],
)
def test_what_timm_cannot_build(architecture: str, model_args: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TimmEncoder(architecture, **model_args)
    assert message in caught.value.message
    if architecture == "resnet1o":
        assert "Did you mean" in caught.value.hint


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """A saved encoder whose config.json is changed."""

    def make(change: Callable[[dict[str, Any]], Any], encoder: Encoder | None = None) -> Path:
        (encoder or slim(1)).save(tmp_path / "it")
        file = tmp_path / "it" / "config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(change(config) or config))
        return tmp_path / "it"

    return make


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(architecture="resnet18", model_args={}), "these are not the weights of resnet18"),
        (lambda c: c["model_args"].update(channels=[8, 16, 24, 40]), "these are not the weights of resnet10t"),
        (lambda c: c["model_args"].update(in_chans=3), "resnet10t with 3 input channels"),
        (lambda c: c.update(architecture="resnet1o"), "'resnet1o' is not a timm architecture"),
        (lambda c: c["pretrained_cfg"].update(std=[1, 1]), "std has 2 values"),
    ],
)
def test_a_config_that_does_not_fit(edited: Callable[..., Path], change: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_encoder(edited(change))
    assert message in caught.value.message


@pytest.mark.parametrize("change", [lambda c: c.pop("architecture") and c, lambda c: [c], lambda c: {"cmcd": [1]}])
def test_a_config_of_something_else(edited: Callable[..., Path], change: Any) -> None:
    with pytest.raises(ConfigError):
        load_encoder(edited(change))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    slim(1).save(tmp_path)
    weights = tmp_path / "model.safetensors"
    with pytest.raises(ConfigError) as caught:
        TimmEncoder("resnet10t", in_chans=3, weights=weights, **SLIM)
    assert str(weights) in caught.value.message
    assert "3 input channels" in caught.value.message
    assert "other shape: conv1.0.weight" in caught.value.message
    assert "--teacher-architecture" in caught.value.hint


@pytest.mark.parametrize("damage", ["config", "weights", "truncated", "not json", "folder"])
def test_folders_that_hold_no_encoder(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "it"
    slim().save(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    expected = {
        "config": "no encoder here (no config.json)",
        "weights": "config.json has no model.safetensors beside it",
        "truncated": "not a readable .safetensors file",
        "not json": "config.json: not readable",
        "folder": "no encoder here",
    }[damage]
    match damage:
        case "config":
            config.unlink()
        case "weights":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:999])
        case "not json":
            config.write_text("{")
        case "folder":
            shutil.rmtree(folder)
    with pytest.raises(ConfigError) as caught:
        load_encoder(folder)
    assert expected in caught.value.message
    assert str(folder) in caught.value.message


# --- encoders foreign to timm


@pytest.fixture
def foreign(fake_plugins: Path) -> Encoder:
    plugin = load().modality("foreign:glimpse")
    encoder = stirred(plugin.build(plugin.options(channels=3)).encoder(None, None, width=5))
    encoder.arguments = {"architecture": None, "width": 5}
    encoder.card = {"modality": "foreign:glimpse", "options": {"channels": 3}, "size": 16}
    return encoder


def test_a_foreign_encoder_comes_back_through_its_plugin(tmp_path: Path, foreign: Encoder) -> None:
    foreign.save(tmp_path)
    again = load_encoder(tmp_path)
    x = pictures(3)
    assert type(again).__name__ == "Flat"
    assert not again.training
    assert torch.equal(pooled(again, x), pooled(foreign, x))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] is None
    assert config["cmcd"]["foreign"] is True
    assert "not a timm architecture" in config["cmcd"]["note"]


def test_a_foreign_encoder_keeps_its_card(tmp_path: Path, foreign: Encoder) -> None:
    foreign.save(tmp_path)
    again = load_encoder(tmp_path)
    assert again.arguments == foreign.arguments
    assert again.card["modality"] == "foreign:glimpse"


def test_a_foreign_encoder_whose_plugin_is_gone(
    tmp_path: Path, foreign: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign.save(tmp_path)
    monkeypatch.setenv("CMCD_PLUGINS", "image")
    with pytest.raises(PluginError, match="no modality called 'foreign:glimpse'") as caught:
        load_encoder(tmp_path)
    assert "pip install cmcd-plugin-glimpse" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["cmcd"].update(options={"bogus": 1}),
        lambda c: c["cmcd"].update(arguments={"bogus": 1}),
        lambda c: c["cmcd"].update(arguments={"width": 9}),
        lambda c: c["cmcd"].pop("modality") and c,
    ],
)
def test_a_foreign_encoder_that_does_not_fit(edited: Callable[..., Path], foreign: Encoder, change: Any) -> None:
    with pytest.raises((ConfigError, PluginError)):
        load_encoder(edited(change, foreign))


def test_a_truncated_foreign_encoder(tmp_path: Path, foreign: Encoder) -> None:
    foreign.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ConfigError):
        load_encoder(tmp_path)


# --- teachers


def test_a_teacher_from_a_folder(tmp_path: Path) -> None:
    encoder = slim()
    encoder.save(tmp_path)
    teacher = load_teacher(str(tmp_path), None, RGB)
    assert torch.equal(pooled(teacher, pictures(3)), pooled(encoder, pictures(3)))
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("classifier", [False, True])
@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("resnet18.a1_in1k", None),
        ("resnet18-f37072fd", None),
        ("resnet18", None),
        ("mine", "resnet18"),
        ("resnet50", "resnet18"),
    ],
)
def test_a_teacher_from_a_file(tmp_path: Path, name: str, architecture: str | None, classifier: bool) -> None:
    model = timm.create_model("resnet18", num_classes=10 if classifier else 0).eval()
    file = tmp_path / f"{name}.safetensors"
    save_file(model.state_dict(), file)
    teacher = load_teacher(str(file), architecture, RGB)
    model.reset_classifier(0)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    x = pictures(3)
    with torch.no_grad():
        assert torch.allclose(pooled(teacher, x), model((x - mean) / std), atol=1e-5)


def test_half_precision_weights_are_taken_in(tmp_path: Path) -> None:
    slim().save(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    teacher = load_teacher(str(tmp_path), None, RGB)
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float32}
    assert torch.allclose(pooled(teacher, pictures(3)), pooled(slim(), pictures(3)), atol=1e-2)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".onnx"])
def test_checkpoints_that_can_hold_code_are_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"resnet18{suffix}"
    torch.save({"evil": 1}, file)
    with pytest.raises(ConfigError) as caught:
        load_teacher(str(file), "resnet18", RGB)
    assert "expected a timm name, an encoder's folder or a .safetensors file" in caught.value.message
    assert "hold code" in caught.value.hint


def test_pickles_are_refused_whatever_their_name(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.safetensors"
    torch.save({"evil": 1}, file)
    with pytest.raises(ConfigError, match=r"not a readable \.safetensors file"):
        load_teacher(str(file), None, RGB)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet1o", "'resnet1o' is not a timm architecture"),
        ("gone/resnet18.safetensors", "no such file"),
        ("gone/mine.safetensors", "does not say which timm architecture"),
        ("gone/resnet18.pt", "expected a timm name"),
    ],
)
def test_teachers_that_cannot_be_found(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_teacher(name, None, RGB)
    assert message in caught.value.message


def test_a_teacher_of_another_architecture(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.safetensors"
    save_file(slim().model.state_dict(), file)
    with pytest.raises(ConfigError, match="these are not the weights of resnet18"):
        load_teacher(str(file), None, RGB)


def test_a_teacher_of_other_channels(tmp_path: Path) -> None:
    slim(1).save(tmp_path)
    with pytest.raises(ConfigError, match="takes 1 channels, but the source modality gives 3"):
        load_teacher(str(tmp_path), None, RGB)


def test_architectures_in_file_names() -> None:
    assert architecture_in("resnet18.a1_in1k.safetensors") == "resnet18"
    assert architecture_in("resnet18-f37072fd.safetensors") == "resnet18"
    assert architecture_in("vit_tiny_patch16_224.safetensors") == "vit_tiny_patch16_224"
    with pytest.raises(ConfigError, match=r"--teacher model\.safetensors") as caught:
        architecture_in("model.safetensors")
    assert "--teacher-architecture" in caught.value.hint


# --- a student that starts from its source


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_grey_picture_through_the_adapted_convolution_is_one_through_the_sources(channels: int) -> None:
    source, student = slim(3, seed=0), slim(channels, seed=1)
    said = str(start_from(student, source))
    grey = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = source.model.conv1[0](grey.expand(-1, 3, -1, -1))
        assert torch.allclose(student.model.conv1[0](grey.expand(-1, channels, -1, -1)), expected, atol=1e-5)
    assert ("conv1.0.weight (3 -> " in said) == (channels != 3)
    own, given = student.state_dict(), source.state_dict()
    floats = [name for name in own if own[name].is_floating_point()]
    for name in floats:
        assert torch.equal(own[name], given[name]) or (channels != 3 and name == "model.conv1.0.weight")
    assert f"{len(floats)} of {len(floats)} tensors copied" in said


def test_the_source_is_left_as_it_was() -> None:
    source, student = slim(3, seed=0), slim(1, seed=1)
    start_from(student, source)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert torch.equal(pooled(source, pictures(3)), pooled(slim(3, seed=0), pictures(3)))


def test_a_wider_student_takes_what_fits() -> None:
    source, student = slim(3, seed=0), slim(3, seed=1, channels=[8, 16, 24, 40])
    before = student.model.layer4[0].conv2.weight.clone()
    said = str(start_from(student, source))
    assert torch.equal(student.model.layer1[0].conv1.weight, source.model.layer1[0].conv1.weight)
    assert torch.equal(student.model.layer4[0].conv2.weight, before)
    assert "summed over channels" not in said


def test_only_the_first_convolution_is_summed_over_channels() -> None:
    source, student = slim(3, seed=0), slim(1, seed=1, channels=[8, 16, 40, 32])
    before = student.model.layer4[0].conv1.weight.clone()
    start_from(student, source)
    assert torch.equal(student.model.layer4[0].conv1.weight, before)


def test_students_that_share_nothing() -> None:
    vit = TimmEncoder("vit_tiny_patch16_224", in_chans=1, img_size=32, depth=1)
    with pytest.raises(ConfigError, match="shares no weights") as caught:
        start_from(vit, slim())
    assert "--student" in caught.value.hint
