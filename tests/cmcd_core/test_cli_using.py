"""`cmcd embed`, `predict` and `retrieve`: what a finished run says of files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cmcd_core import ConfigError, Features, Objective, RunConfig, embed, predict, retrieve, run
from cmcd_core.catalog import load
from cmcd_core.cli import main
from cmcd_core.cli.predict import _place as place_of
from cmcd_core.cli.predict import mask_names
from cmcd_core.data.loose import items_in
from cmcd_core.latents import FITTED, OBJECTIVES, in_one_space
from cmcd_core.opened import open_run
from cmcd_core.progress import Progress
from cmcd_core.report.pictures import PALETTE


def cmcd(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of one command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    said = capsys.readouterr()
    assert stopped.value.code == code, said.err
    assert "Traceback" not in said.err
    return said.out, said.err


def numbered(folder: Path, **wanted: str) -> int:
    """The evaluation of these properties."""
    for file in sorted(folder.glob("evaluations/*/evaluation.json")):
        entry = json.loads(file.read_text())
        if all(entry[key] == value for key, value in {"encoder": "distilled", **wanted}.items()):
            return int(file.parent.name)
    raise AssertionError(wanted)


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_files_have_the_features_of_the_split_they_came_from(
    finished_run: Path, scene_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [scene_files / "depth" / f"test-{number:06}.png" for number in (7, 2, 11)]
    cmcd(capsys, "embed", finished_run, *paths, "--out", tmp_path / "a.npz")
    cmcd(capsys, "embed", finished_run, "--split", "test", "--out", tmp_path / "b.npz")
    files, split = (np.load(tmp_path / name, allow_pickle=False) for name in ("a.npz", "b.npz"))
    assert files["keys"].tolist() == [str(path) for path in paths]
    assert files["features"].dtype == np.float32
    assert split["keys"].tolist() == [f"test-{number:06}" for number in range(24)]
    assert np.allclose(files["features"], split["features"][[7, 2, 11]], atol=1e-6)


def test_a_folder_is_read_in_order_and_what_is_no_view_is_left_out(
    finished_run: Path, scene_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "scans"
    (root / "b").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for number, name in enumerate(("b/one.png", "c.png", "a.png", ".hidden/no.png")):
        shutil.copy(scene_files / "depth" / f"test-{number:06}.png", root / name)
    (root / "notes.txt").write_text("no depth")
    out, said = cmcd(capsys, "embed", finished_run, root, "--out", tmp_path / "f.npz")
    keys = np.load(tmp_path / "f.npz")["keys"].tolist()
    assert keys == [f"{root}/{name}" for name in ("a.png", "b/one.png", "c.png")]
    assert f"left out: {root}/notes.txt" in said
    assert "3 x 256 features of depth" in out
    assert "notes.txt: not a depth map" in cmcd(
        capsys, "embed", finished_run, root / "notes.txt", "--out", tmp_path / "g.npz", code=2
    )[1]  # fmt: skip
    assert not (tmp_path / "g.npz").exists()


def test_an_encoders_folder_does_as_well_as_the_runs(finished_run: Path) -> None:
    by_run, by_folder = embed(finished_run, split="val"), embed(finished_run / "target", split="val")
    assert np.array_equal(by_run.features, by_folder.features)
    source = embed(finished_run, split="val", side="source")
    assert (source.modality, by_run.modality) == ("image", "depth")
    assert np.array_equal(source.features, embed(finished_run / "source", split="val").features)


def test_arrays_go_where_paths_go(finished_run: Path, scene_files: Path) -> None:
    path = scene_files / "depth" / "test-000000.png"
    both = embed(finished_run, [path, np.asarray(Image.open(path)), path.read_bytes()])
    assert both.keys == (str(path), "1", "2")
    assert np.array_equal(both.features[[0, 0]], both.features[1:])


def test_other_data_say_how_they_are_read(finished_run: Path, tiny_folder: Path) -> None:
    found = embed(finished_run, data=tiny_folder, split="test")
    assert found.keys == tuple(f"test{number:03}" for number in range(12))
    assert np.allclose(found.features[0], embed(finished_run, tiny_folder / "depth/test000.png").features, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["RUN", "--out", "f.npz"], "nothing is named to embed"),
        (["RUN", "x.png", "--split", "test", "--out", "f.npz"], "files and a split were named"),
        (["RUN", "x.png", "--out", "f.npz"], "x.png: no such file or folder"),
        (["RUN", "x.png", "--out", "f.npy"], "--out f.npy: expected a name that ends in .npz"),
        (["nowhere", "x.png", "--out", "f.npz"], "nowhere: no such folder"),
        (["RUN/objective", "x.png", "--out", "f.npz"], "neither an encoder (no config.json) nor a run"),
        (["RUN/target", "x.png", "--side", "source", "--out", "f.npz"], "is one encoder's folder"),
        (["ENCODER", "--split", "test", "--out", "f.npz"], "which data? This encoder belongs to no run"),
    ],
)
def test_what_embed_refuses(
    words: list[str], told: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run / "target", "alone")
    words = [word.replace("RUN", str(finished_run)).replace("ENCODER", "alone") for word in words]
    assert told in cmcd(capsys, "embed", *words, code=2)[1]


def test_an_encoder_that_names_no_modality_is_refused(finished_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_run / "target", tmp_path / "timm"))
    config = json.loads((folder / "config.json").read_text())
    del config["cmcd"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match="does not say which modality"):
        embed(folder, "x.png")


@pytest.mark.parametrize("protocol", ["linear", "finetune"])
def test_predictions_are_those_of_step_3(protocol: str, finished_run: Path, scene_files: Path) -> None:
    number = numbered(finished_run, task="recognition", protocol=protocol, labels="5")
    with np.load(finished_run / f"evaluations/{number}/predictions.npz", allow_pickle=False) as file:
        wanted = {key: file["probability"][row] for row, key in enumerate(file["key"].tolist())}
    found = predict(finished_run, scene_files / "depth", evaluation=number)
    assert len(found.keys) == 24
    for key, row, label in zip(found.keys, found.rows, found.labels, strict=True):
        assert np.allclose(row["probability"], wanted[Path(key).stem], atol=1e-5)
        assert found.classes is not None
        assert label == found.classes[int(row["probability"].argmax())]


def test_the_head_with_the_most_labels_is_taken(
    finished_run: Path, scene_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [scene_files / "depth" / f"test-{number:06}.png" for number in (3, 1)]
    out, _ = cmcd(capsys, "predict", finished_run, *files, "--json", "--out", tmp_path / "c.csv")
    found = json.loads(out)
    about = found["evaluation"]
    assert (about["encoder"], about["task"], about["labels"]) == ("distilled", "recognition", "5")
    assert about["protocol"] in ("linear", "finetune")
    assert [one["file"] for one in found["files"]] == [str(path) for path in files]
    for one in found["files"]:
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert next(iter(one["probabilities"])) == one["class"]
    with (tmp_path / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [one["class"] for one in found["files"]]
    assert float(rows[0][f"p({rows[0]['class']})"]) == pytest.approx(found["files"][0]["probability"])
    table, said = cmcd(capsys, "predict", finished_run, files[0], "--labels", "2")
    assert "2 labels" in said
    assert "test-000003.png" in table.replace("\n", "").replace("│", "").replace(" ", "")


def test_masks_are_palette_pictures_of_class_ids(
    finished_run: Path, scene_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = numbered(finished_run, task="segmentation", protocol="linear", labels="5")
    files = [scene_files / "depth" / f"test-{row:06}.png" for row in range(4)]
    cmcd(capsys, "predict", finished_run, *files, "--evaluation", number, "--out", tmp_path / "masks")
    wanted = predict(finished_run, files, evaluation=number)
    names = json.loads((tmp_path / "masks" / "classes.json").read_text())
    with np.load(finished_run / f"evaluations/{number}/predictions.npz", allow_pickle=False) as file:
        small = file["mask"][:4]
    for file_, row, low in zip(files, wanted.rows, small, strict=True):
        with Image.open(tmp_path / "masks" / file_.name) as mask, Image.open(file_) as view:
            assert (mask.mode, mask.size) == ("P", view.size)
            ids, palette = np.asarray(mask), mask.getpalette()
        assert np.array_equal(ids, row["mask"])
        assert {str(one) for one in np.unique(ids)} <= set(names)
        assert palette is not None
        assert f"#{bytes(palette[3:6]).hex().upper()}" == PALETTE[1]
        # The same logits, enlarged to 48 px here and to 32 px there: they differ at edges alone.
        rows = ((np.arange(32) + 0.5) * len(ids) / 32).astype(int)
        assert (ids[np.ix_(rows, rows)] == low).mean() > 0.9


def test_large_pictures_give_masks_of_their_size(finished_run: Path) -> None:
    [row] = predict(finished_run, np.full((40, 1500), 1000, np.uint16), task="segmentation").rows
    assert row["mask"].shape == (40, 1500)
    assert row["mask"].dtype == np.uint8


def test_masks_go_into_the_runs_folder(copied_run: Path, scene_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = scene_files / "depth" / "test-000000.png"
    out, _ = cmcd(capsys, "predict", copied_run, file, "--task", "segmentation", "--json")
    [found] = json.loads(out)["files"]
    assert Path(found["mask"]).parent.parent == copied_run / "predictions"
    assert Path(found["mask"]).is_file()
    assert sum(found["shares"].values()) == pytest.approx(1)
    told = cmcd(capsys, "predict", copied_run, file, "--task", "segmentation", "--out", "m.csv", code=2)[1]
    assert "masks are PNGs" in told


def test_names_of_masks_do_not_collide() -> None:
    assert mask_names(["a.png", "x/b.tif"]) == ["a.png", "b.png"]
    assert mask_names(["x/a.png", "y/a.png", "b.png", "b.tif"]) == ["x-a.png", "y-a.png", "b.png", "b-2.png"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--evaluation", "KNN"], "nearest neighbours, which have no head"),
        (["--evaluation", "UNTRAINED"], "its encoder (untrained, seeing depth) is not kept"),
        (["--evaluation", "99"], "--evaluation 99:"),
        (["--evaluation", "0", "--labels", "5"], "--evaluation says which one already"),
        (["--labels", "7"], "no head of the distilled encoder for --labels 7"),
        (["--task", "sorting"], "It has recognition with 2 labels"),
        (["--out", "classes.txt"], "expected a name that ends in .csv or .json"),
    ],
)
def test_what_predict_refuses(
    words: list[str], told: str, finished_run: Path, scene_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {
        "KNN": numbered(finished_run, protocol="knn"),
        "UNTRAINED": numbered(finished_run, encoder="untrained", protocol="linear"),
    }
    file = scene_files / "depth" / "test-000000.png"
    assert told in cmcd(capsys, "predict", finished_run, file, *(numbers.get(w, w) for w in words), code=2)[1]


def test_a_table_of_classes_is_refused_before_any_work_where_a_task_has_none(tmp_path: Path) -> None:
    predictor: Any = SimpleNamespace(task=SimpleNamespace(spatial=False), classes=None, entry={"task": "counting"})
    with pytest.raises(ConfigError, match=r"x\.csv: counting predicts no classes"):
        place_of(tmp_path / "new" / "x.csv", predictor)
    assert not (tmp_path / "new").exists()
    assert place_of(tmp_path / "x.json", predictor) == tmp_path / "x.json"


def test_the_sources_head_sees_the_sources_modality(finished_run: Path, scene_files: Path) -> None:
    number = numbered(finished_run, encoder="source", task="recognition", protocol="linear")
    found = predict(finished_run, scene_files / "image" / "test-000001.png", evaluation=number)
    with np.load(finished_run / f"evaluations/{number}/predictions.npz", allow_pickle=False) as file:
        assert np.allclose(found.rows[0]["probability"], file["probability"][1], atol=1e-5)


def test_heads_of_another_target_are_not_taken(
    copied_run: Path, scene_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = numbered(copied_run, task="recognition", protocol="finetune", labels="5")
    shutil.rmtree(copied_run / "target")
    shutil.copytree(copied_run / f"evaluations/{number}/encoder", copied_run / "target")
    file = scene_files / "depth" / "test-000000.png"
    assert "another target encoder" in cmcd(capsys, "predict", copied_run, file, code=2)[1]


def test_a_head_that_does_not_fit_is_told(
    copied_run: Path, scene_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = numbered(copied_run, task="segmentation", protocol="linear", labels="5")
    place = copied_run / "evaluations" / str(number) / "evaluation.json"
    entry = json.loads(place.read_text())
    entry["task_identity"]["options"]["levels"] = "dense"
    place.write_text(json.dumps(entry))
    file = scene_files / "depth" / "test-000000.png"
    told = cmcd(capsys, "predict", copied_run, file, "--evaluation", number, code=2)[1]
    assert "not the head that task segmentation builds now" in told


def test_runs_from_before_the_task_was_recorded(copied_run: Path, scene_files: Path) -> None:
    file = scene_files / "depth" / "test-000000.png"
    before = predict(copied_run, file).rows[0]["probability"]
    for place in copied_run.glob("evaluations/*/evaluation.json"):
        entry = json.loads(place.read_text())
        del entry["task_identity"]
        place.write_text(json.dumps(entry))
    assert np.array_equal(predict(copied_run, file).rows[0]["probability"], before)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from image to image whose two encoders are one; its objective has no common space."""
    out = tmp_path_factory.mktemp("twins") / "run"
    values: dict[str, Any] = {
        "source": "image", "target": "image", "data": {"loader": "demo", "train": 48, "val": 2, "test": 12},
        "pretrain": {"epochs": 1}, "objective": {"expression": "cmd", "cmd": {"anchors": "target"}},
        "distill": {"epochs": 1, "views": 1}, "run": {"size": 32, "out": str(out)},
    }  # fmt: skip
    run(RunConfig.from_mapping(values), steps=("pretrain", "distill"))
    shutil.rmtree(out / "target")
    shutil.copytree(out / "source", out / "target")
    return out


def test_of_two_equal_encoders_each_picture_finds_itself(twins: Path) -> None:
    queries = [f"test-{number:06}" for number in (5, 0, 11)]
    for side in ("source", "target"):
        found = retrieve(twins, queries, side=side, k=3)  # type: ignore[arg-type]
        assert found.space == FITTED
        assert [keys[0] for keys in found.keys] == queries
        assert (np.diff(found.similarities, axis=1) <= 0).all()
        assert found.similarities.shape == (3, 3)


def test_files_find_what_samples_find(
    finished_run: Path, scene_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = cmcd(
        capsys, "retrieve", finished_run, scene_files / "depth" / "test-000004.png", "--k", 2, "--json",
        "--sheet", tmp_path / "new" / "sheet.png",
    )  # fmt: skip
    found = json.loads(out)
    assert (found["query_modality"], found["found_modality"]) == ("depth", "image")
    assert found["gallery"] == {"samples": 24, "data": "demo, test"}
    assert found["space"] == OBJECTIVES
    by_key = retrieve(finished_run, "test-000004", k=2)
    assert [one["key"] for one in found["queries"][0]["found"]] == list(by_key.keys[0])
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.width > sheet.height > 100
    table, _ = cmcd(capsys, "retrieve", finished_run, "test-000004", "--k", 24, "--side", "source")
    assert "image -> depth" in table
    assert table.count("(its own)") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["RUN", "nothing.png"], "nothing.png: no such file, and demo has no test sample of that key"),
        (["RUN", "test-000000", "FILE"], "some queries are files and some are keys"),
        (["RUN/target", "FILE"], "no run whose step 2 is done"),
    ],
)
def test_what_retrieve_refuses(
    words: list[str], told: str, finished_run: Path, scene_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(scene_files / "depth" / "test-000000.png")
    words = [word.replace("RUN", str(finished_run)).replace("FILE", file) for word in words]
    assert told in cmcd(capsys, "retrieve", *words, code=2)[1]


def test_either_side_is_embedded_alone(finished_run: Path) -> None:
    opened = open_run(finished_run, load(), progress=Progress())
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(count, 256, generator=generator) for count in (5, 3))
    both = in_one_space(opened.bench, opened.source, opened.target, opened.objective(), a, b)
    alone = in_one_space(opened.bench, opened.source, opened.target, opened.objective(), a[4:], b[:1])
    assert (len(both[0]), len(both[1]), both[2]) == (5, 3, OBJECTIVES)
    assert torch.allclose(both[0][4:], alone[0], atol=1e-6)
    assert torch.allclose(both[1][:1], alone[1], atol=1e-6)


def test_objectives_are_given_as_many_of_one_side_as_of_the_other(finished_run: Path) -> None:
    class Counting(Objective):
        def forward(self, source: Features, target: Features) -> torch.Tensor:
            raise AssertionError

        def embed(self, source: Features, target: Features) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append((len(source.pooled), len(target.pooled)))
            return source.pooled, target.pooled

    seen: list[tuple[int, int]] = []
    opened = open_run(finished_run, load(), progress=Progress())
    a, b = torch.randn(2, 4), torch.randn(7, 4)
    x, y, _ = in_one_space(opened.bench, opened.source, opened.target, Counting(), a, b)
    assert seen == [(7, 7)]
    assert torch.equal(x, a)
    assert torch.equal(y, b)


def test_inputs_are_read_in_the_order_given(tmp_path: Path) -> None:
    for name in ("b/2", "b/10", "a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    inputs: Sequence[Any] = [tmp_path / "b", tmp_path / "a", b"bytes"]
    assert [Path(item.key).name for item in items_in(inputs)] == ["10", "2", "a", "2"]
    assert [item.needed for item in items_in(inputs)] == [False, False, True, True]
