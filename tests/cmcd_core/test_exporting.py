"""`cmcd export`: what others load gives what the original gives, and says where it comes from."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard

from cmcd_core import CmcdError, ConfigError, export, load_encoder, predict
from cmcd_core.cli import main
from cmcd_core.interfaces.side_by_side import SideBySide
from cmcd_core.model_card import _licence
from cmcd_core.report.words import short_name

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="needs cmcd[onnx]")


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(3))


def number_of(folder: Path, task: str, protocol: str) -> int:
    """The distilled encoder's evaluation of this task and protocol, with 5 labels."""
    for file in sorted(folder.glob("evaluations/*/evaluation.json")):
        entry = json.loads(file.read_text())
        if (entry["encoder"], entry["task"], entry["protocol"]) == ("distilled", task, protocol):
            return int(file.parent.name)
    raise AssertionError


def session(file: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def test_timm_gives_the_same_features(finished_run: Path, tmp_path: Path, batch: torch.Tensor) -> None:
    done = export(finished_run, "timm", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert done.inputs == "16 test inputs of demo"
    assert done.difference < 1e-5
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).eval()
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        wanted = load_encoder(finished_run / "target")(batch).pooled
        assert torch.allclose(model((batch - mean) / std), wanted, atol=1e-6)
        assert torch.equal(load_encoder(tmp_path / "out")(batch).pooled, wanted)


def test_the_run_keeps_it_in_its_export_folder(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    for _ in range(2):  # once more over what is there
        with pytest.raises(SystemExit) as stopped:
            main(["export", str(run), "--format", "timm"])
        assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert str(run / "export" / "model.safetensors") in out
    assert "16 test inputs of demo" in out
    assert sorted(path.name for path in (run / "export").iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_an_encoder_without_a_run_is_checked_on_generated_inputs(finished_run: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(finished_run / "target", tmp_path / "alone"))
    done = export(alone, "timm")
    assert done.folder == alone / "export"
    assert done.inputs == "16 generated inputs"


@needs_onnx
def test_onnx_gives_the_same_features_for_any_batch(finished_run: Path, tmp_path: Path, batch: torch.Tensor) -> None:
    done = export(finished_run, "onnx", tmp_path)
    assert done.outputs == ("pooled", "dense")
    graph = session(tmp_path / "target.onnx")
    assert [(one.name, one.shape[1:]) for one in graph.get_inputs()] == [("input", [1, 32, 32])]
    encoder = load_encoder(finished_run / "target")
    for count in (1, 2, 5):
        pooled, dense = graph.run(None, {"input": batch[:count].numpy()})
        with torch.no_grad():
            wanted = encoder(batch[:count])
        assert wanted.dense is not None
        assert np.allclose(pooled, wanted.pooled.numpy(), atol=1e-5)
        assert np.allclose(dense, wanted.dense.numpy(), atol=1e-5)
    metadata = graph.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["cmcd.modality"]) == "depth"
    assert json.loads(metadata["cmcd.options"])["encoding"] == "percentile"
    assert list(tmp_path.glob("*")) == [path for path in tmp_path.glob("*") if path.suffix in (".onnx", ".md")]


@needs_onnx
def test_onnx_with_a_head_predicts_what_the_run_predicts(
    finished_run: Path, scene_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = number_of(finished_run, "recognition", "linear")
    words = ["export", str(finished_run), "--format", "onnx", "--evaluation", str(number), "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--json"])
    assert stopped.value.code == 0
    done = json.loads(capsys.readouterr().out)
    assert done["outputs"] == ["pooled", "dense", "class", "probability"]
    graph = session(tmp_path / f"evaluation-{number}.onnx")
    wanted = predict(finished_run, scene_files / "depth", evaluation=number)
    assert json.loads(graph.get_modelmeta().custom_metadata_map["cmcd.classes"]) == list(wanted.classes or ())
    from cmcd_core.data.loose import items_in
    from cmcd_core.reading import open_reader

    [seen] = open_reader(finished_run).batches(items_in(scene_files / "depth"), print)
    _, _, label, probability = graph.run(None, {"input": seen.pixels.numpy()})
    assert np.allclose(probability, np.stack([row["probability"] for row in wanted.rows]), atol=1e-5)
    assert (label == np.stack([row["class"] for row in wanted.rows])).all()


@needs_onnx
def test_onnx_of_a_fine_tuned_encoder_gives_masks(finished_run: Path, tmp_path: Path, batch: torch.Tensor) -> None:
    number = number_of(finished_run, "segmentation", "finetune")
    done = export(finished_run, "onnx", tmp_path, evaluation=number)
    assert done.outputs == ("pooled", "dense", "mask")
    pooled, _, mask = session(done.files[0]).run(None, {"input": batch.numpy()})
    assert (mask.shape, mask.dtype) == ((5, 32, 32), np.uint8)
    with torch.no_grad():
        tuned = load_encoder(finished_run / f"evaluations/{number}/encoder")(batch).pooled.numpy()
    assert np.allclose(pooled, tuned, atol=1e-5)
    assert "segmentation: distilled, finetune" in (tmp_path / "README.md").read_text()


def test_the_model_card_says_where_it_comes_from(finished_run: Path, tmp_path: Path) -> None:
    export(finished_run, "timm", tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "timm"
    assert card.data.license == "unknown"
    assert {"cmcd", "depth"} <= set(card.data.tags or ())
    measured = {(one.task_type, one.metric_type, one.metric_name) for one in card.data.eval_results or ()}
    assert ("recognition", "top1", "top1, linear, 5 labels a class") in measured
    assert ("segmentation", "miou", "miou, finetune, 2 labels in all") in measured
    text = card.text
    wanted = ["distilled from image", "60 unlabelled pairs", "self-supervision on 60 samples of demo", "generated demo"]
    row = "| distilled | recognition | linear | 5 a class ("
    for said in [*wanted, "24 test samples only", row, "(N, 1, 32, 32)"]:
        assert said in text
    assert str(finished_run) not in text
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(code, "card", "exec")


def test_the_cards_code_for_timm_runs(
    finished_run: Path, tmp_path: Path, batch: torch.Tensor, monkeypatch: Any
) -> None:
    export(finished_run, "timm", tmp_path)
    code = re.findall(r"```python\n(import timm.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"batch": batch}
    exec(code, names)
    with torch.no_grad():
        assert torch.allclose(names["features"], load_encoder(finished_run / "target")(batch).pooled, atol=1e-5)


def test_cards_of_other_encoders(finished_run: Path, tmp_path: Path) -> None:
    export(finished_run / "source", "timm", tmp_path / "source")
    text = (tmp_path / "source" / "README.md").read_text()
    assert "# image encoder\n" in text
    assert "- pretrained by contrastive self-supervision on 60 samples of demo" in text


def test_a_teacher_is_named_with_its_licence(finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    values = json.loads((run / "result.json").read_text())
    values["pretrain"] = {"teacher": ["resnet18.a1_in1k", "/home/somebody/own.safetensors"]}
    (run / "result.json").write_text(json.dumps(values))
    export(run, "timm")
    text = (run / "export" / "README.md").read_text()
    assert "- teacher: resnet18.a1_in1k (licence apache-2.0)" in text
    assert "- teacher: own.safetensors (its licence is not known to cmcd" in text
    assert "somebody" not in text
    values["pretrain"] = {"teacher": "resnet18.a1_in1k"}
    (run / "result.json").write_text(json.dumps(values))
    export(run, "timm")
    assert ModelCard.load(run / "export" / "README.md").data.base_model == "timm/resnet18.a1_in1k"


def test_paths_do_not_get_into_cards() -> None:
    assert short_name("folder:/home/me/pairs") == "pairs"
    assert short_name(r"folder:C:\data\pairs") == "pairs"
    assert short_name("demo") == "demo"
    assert _licence("no_such_model") == ""


def test_what_differs_is_not_written(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cmcd_core import exporting

    export(finished_run, "timm", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(exporting, "_by_timm", lambda folder, inputs: np.zeros((len(inputs), 256), np.float32))
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(finished_run), "--format", "timm", "--out", str(tmp_path)])
    assert stopped.value.code == 1
    assert "not written: its pooled differs from the original's" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@needs_onnx
def test_an_onnx_file_that_differs_is_not_written(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cmcd_core import exporting

    zeros = {"pooled": np.zeros((16, 256), np.float32)}
    monkeypatch.setattr(exporting, "write_onnx", lambda module, example, about, path: path.touch() or ("pooled",))
    monkeypatch.setattr(exporting, "run_onnx", lambda path, x: zeros)
    with pytest.raises(CmcdError, match="not written"):
        export(finished_run, "onnx", tmp_path)
    assert list(tmp_path.iterdir()) == []


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["export", *words])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_what_export_refuses(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = str(finished_run), ["--out", str(tmp_path / "out")]
    assert "timm's layout holds no head" in refused([run, "--format", "timm", "--evaluation", "0", *out], capsys)
    assert "no such folder" in refused(["nowhere", "--format", "timm", *out], capsys)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# My notes\n")
    assert "would be overwritten" in refused([run, "--format", "timm", "--out", str(tmp_path / "mine")], capsys)
    (tmp_path / "file").touch()
    assert "cannot write there" in refused([run, "--format", "timm", "--out", str(tmp_path / "file" / "x")], capsys)
    monkeypatch.setattr("cmcd_core.onnx_format.find_spec", lambda name: None if name == "onnxruntime" else name)
    told = refused([run, "--format", "onnx", *out], capsys)
    assert "--format onnx needs onnxruntime" in told
    assert "cmcd[onnx]" in told


def test_what_timm_cannot_build_goes_to_onnx_only(finished_run: Path, tmp_path: Path) -> None:
    member = load_encoder(finished_run / "target")
    both = SideBySide([member, load_encoder(finished_run / "target")], torch.zeros(512), torch.ones(512))
    both.card = dict(member.card)
    both.save(tmp_path / "both")
    with pytest.raises(ConfigError, match="SideBySide is no timm architecture"):
        export(tmp_path / "both", "timm")


@needs_onnx
def test_the_shape_of_sounds_is_seen_from_the_runs_data(tmp_path: Path) -> None:
    from cmcd_core.built import bind
    from cmcd_core.catalog import load
    from cmcd_core.resolve import modality_of_data
    from cmcd_core.workbench import card

    bound = bind(modality_of_data(load(), "audio", None))
    encoder = bound.modality.encoder()
    encoder.card = {**card(bound), "size": 32}
    encoder.save(tmp_path / "audio")
    with pytest.raises(ConfigError, match="audio has a shape of its own"):
        export(tmp_path / "audio", "onnx")
    export(tmp_path / "audio", "timm")
    assert "(N, 1, H, W)" in (tmp_path / "audio" / "export" / "README.md").read_text()
