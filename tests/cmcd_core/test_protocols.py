"""Whole runs over protocols, label budgets and baselines, on pictures with masks that are not square."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from cmcd_core import load_encoder
from cmcd_core.catalog import load
from cmcd_core.cli import main
from cmcd_core.config import EvaluateConfig
from cmcd_core.data.digest import weights_digest
from cmcd_core.data.labels import label_subset
from cmcd_core.data.targets import nearest
from cmcd_core.interfaces.timm_encoder import TimmEncoder
from cmcd_core.stages.evaluate import Standardised
from cmcd_core.stages.supervised import TrainingRecipe

HEIGHT, WIDTH, SIZE = 24, 32, 32
COUNTS = {"train": 20, "val": 6, "test": 8}
MASKS = ("ground", "disc", "box")
Cmcd = Callable[..., tuple[int, str, str]]

FEW_EPOCHS = [
    *("--source", "image", "--target", "depth", "--device", "cpu", "--epochs", "1", "--label-draws", "2"),
    *("-o", f"run.size={SIZE}", "-o", "pretrain.epochs=1", "-o", "pretrain.batch_size=16"),
    *("-o", "distill.batch_size=10", "-o", "distill.views=1"),
]
QUICK = [
    *FEW_EPOCHS,
    *("-o", "evaluate.train_steps=1", "-o", "evaluate.train_epochs=1"),
    *("-o", "evaluate.scratch_lrs=[0.01]", "-o", "evaluate.finetune_lrs=[0.003]"),
]
TWO_BUDGETS = ["--labels", "2", "--labels", "100%"]
SEGMENTATION = ["--task", "segmentation", "--protocol", "linear", "--protocol", "finetune", "--protocol", "knn"]
BASELINES = [word for name in ("scratch", "ssl-target", "source", "l2") for word in ("--baseline", name)]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Fewer resamples and penalties: most of a tiny run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmcd_core.stages.scoring.BOOTSTRAPS", 20)
        patch.setattr("cmcd_core.stages.evaluate.L2_STRENGTHS", (1e-1, 1e-3))
        patch.setattr("cmcd_core.pictures.MASKS", 3)
        yield


def write_scenes(root: Path, seed: int = 0) -> Path:
    """Discs and boxes on a ground, 24 x 32, with masks whose top row is ignored; the label says which of the two."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rows = []
    for name in ("image", "depth", "mask"):
        (root / name).mkdir(parents=True)
    for split, count in COUNTS.items():
        for number in range(count):
            key, kind = f"{split}{number:02}", number % 2
            away, radius = (abs(y - rng.uniform(9, 15)), abs(x - rng.uniform(9, 23))), rng.uniform(5, 8)
            inside = np.hypot(*away) < radius if kind == 0 else np.maximum(*away) < 0.8 * radius
            mask = np.where(inside, 1 + kind, 0).astype(np.uint8)
            mask[0] = 255
            depth = np.where(inside, 900 + 600 * kind, 2000) + rng.normal(0, 15, inside.shape)
            paint = [220, 90, 60] if kind == 0 else [60, 90, 220]
            colour = np.where(inside[..., None], paint, 150) + rng.normal(0, 6, (*inside.shape, 3))
            for name, pixels in (
                ("image", colour.clip(0, 255).astype(np.uint8)), ("depth", depth.astype(np.uint16)), ("mask", mask),
            ):  # fmt: skip
                Image.fromarray(pixels).save(root / name / f"{key}.png")
            rows.append([key, split, MASKS[1 + kind], *(f"{name}/{key}.png" for name in ("image", "depth", "mask"))])
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "label", "image_file_name", "depth_file_name", "mask_file_name"])
        writer.writerows(rows)
    (root / "dataset.toml").write_text('aligned = ["image", "depth"]\n[depth]\nunit = "mm"\n')
    (root / "mask_classes.txt").write_text("\n".join(MASKS) + "\n")
    return root


def without_column(root: Path, to: Path, column: str) -> Path:
    """A copy of the data whose table lacks a column."""
    shutil.copytree(root, to)
    with (root / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = [name for name in rows[0] if name != column]
    with (to / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return to


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "scenes")


def called(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture
def cmcd(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cmcd:
    """``code, out, err = cmcd(*words)`` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        code = called(*words)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert "Warning" not in said.err
        return code, said.out, said.err

    return call


@pytest.fixture(scope="module")
def segmented(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every protocol and kind of baseline, at two budgets."""
    out = tmp_path_factory.mktemp("segmented") / "run"
    words = ["run", "--data", scenes, *SEGMENTATION, *TWO_BUDGETS, *BASELINES, *QUICK, "--out", out, "--quiet"]
    assert called(*words) == 0
    return out


@pytest.fixture(scope="module")
def recognised(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data's labels, by linear evaluation, nearest neighbours and fine-tuning; four draws."""
    out = tmp_path_factory.mktemp("recognised") / "run"
    words = ["run", "--data", scenes, "--protocol", "linear", "--protocol", "knn", "--protocol", "finetune"]
    assert called(*words, *TWO_BUDGETS, *QUICK, "--label-draws", "4", "--out", out, "--quiet") == 0
    return out


@pytest.fixture
def mine(segmented: Path, tmp_path: Path) -> Path:
    """A copy to go on in."""
    return Path(shutil.copytree(segmented, tmp_path / "mine"))


def entries(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / "result.json").read_text())["evaluations"]


def by_kind(run: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    kinds = ("encoder", "modality", "protocol", "labels")
    return {tuple(entry[kind] for kind in kinds): entry for entry in entries(run)}


def folder_of(run: Path, encoder: str, protocol: str, labels: str, modality: str = "depth") -> Path:
    digest = by_kind(run)[encoder, modality, protocol, labels]["digest"]
    files = run.glob("evaluations/*/evaluation.json")
    return next(file.parent for file in files if json.loads(file.read_text())["digest"] == digest)


def is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        picture.load()
        return picture.format == "PNG" and min(picture.size) > 100


# --- what is there


def test_auto_fine_tunes_for_masks_alone() -> None:
    def asked(*protocols: str) -> EvaluateConfig:
        return EvaluateConfig(protocols=protocols)

    assert asked("auto").protocols_for(masks=True) == ("finetune", "linear")
    assert asked("auto").protocols_for(masks=False) == ("linear",)
    assert asked("linear", "auto", "knn").protocols_for(masks=True) == ("linear", "finetune", "knn")


def test_a_teacher_is_fine_tuned_on_masks_in_fewer_steps(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cmcd: Cmcd
) -> None:
    recipes: dict[str, TrainingRecipe] = {}

    def seen(*args: Any, title: str, **kwargs: Any) -> Iterator[Any]:
        recipes[title.partition(", ")[2]] = args[5]
        return iter(())

    monkeypatch.setattr("cmcd_core.evaluation.supervised", seen)
    teacher = TimmEncoder("resnet10t", in_chans=3).save(tmp_path / "teacher")
    words = ["run", "--data", scenes, *FEW_EPOCHS, "--task", "segmentation", "--teacher", teacher, "--init", "source"]
    words += ["--protocol", "auto", "--baseline", "ssl-target", "--baseline", "source", "--out", tmp_path / "run"]
    code, _, err = cmcd(*words)
    assert code == 0, err
    copy, other = recipes["distilled"], recipes["ssl-target"]
    assert recipes["source"] == copy
    assert copy.steps < other.steps
    assert set(copy.lrs) < set(other.lrs)
    kinds = {
        (e["encoder"], e["protocol"]) for e in json.loads((tmp_path / "run/result.json").read_text())["evaluations"]
    }
    assert ("distilled", "linear") in kinds


def test_every_encoder_protocol_and_budget(segmented: Path) -> None:
    frozen = [(name, "depth") for name in ("distilled", "untrained", "ssl-target", "l2", "source")]
    wanted = {(*one, "linear", labels) for one in [*frozen, ("source", "image")] for labels in ("2", "100%")}
    tuned = [name for name, _ in frozen if name != "untrained"]
    wanted |= {(name, "depth", "finetune", labels) for name in tuned for labels in ("2", "100%")}
    wanted |= {("scratch", "depth", "supervised", labels) for labels in ("2", "100%")}
    assert by_kind(segmented).keys() == wanted
    assert len(entries(segmented)) == len(wanted) == len(list((segmented / "evaluations").iterdir()))


def test_entries_say_what_they_are(segmented: Path) -> None:
    for (_, _, protocol, labels), entry in by_kind(segmented).items():
        assert (entry["task"], entry["primary"], entry["classes"]) == ("segmentation", "miou", 3)
        assert entry["n_train"] == {"2": 2, "100%": COUNTS["train"]}[labels]  # pictures, of any class
        assert entry["n_test"] == COUNTS["test"]
        assert entry["per_class"] is False
        assert entry["draws"] == len(entry["per_draw"]) == (1 if (labels, protocol) == ("100%", "linear") else 2)
        assert set(entry["metrics"]) <= {"miou", "pixel_accuracy", *(f"iou_{name}" for name in MASKS)}
        assert entry["metrics"]["miou"] == pytest.approx(np.mean(entry["per_draw"]))
        for name, (low, high) in entry["intervals"].items():
            assert 0 <= low <= high <= 1, name
            assert 0 <= entry["metrics"][name] <= 1


def test_all_labels_are_one_subset_and_at_most_three_trainings(recognised: Path) -> None:
    draws = {(kind[2], kind[3]): entry["draws"] for kind, entry in by_kind(recognised).items()}
    assert draws == {
        ("linear", "2"): 4, ("linear", "100%"): 1, ("knn", "2"): 4, ("knn", "100%"): 1,
        ("finetune", "2"): 4, ("finetune", "100%"): 3, ("supervised", "2"): 4, ("supervised", "100%"): 3,
    }  # fmt: skip


def test_the_notes_say_what_knn_cannot(segmented: Path, recognised: Path) -> None:
    notes = json.loads((segmented / "result.json").read_text())["notes"]
    assert any("knn left out" in note for note in notes)
    kinds = {kind[:3] for kind in by_kind(recognised)}
    assert {(name, "depth", "knn") for name in ("distilled", "untrained")} < kinds
    assert ("source", "image", "knn") in kinds


def test_comparisons_are_of_one_protocol_or_with_scratch(segmented: Path) -> None:
    found = json.loads((segmented / "result.json").read_text())["comparisons"]
    over = {(one["protocol"], one["over"]) for one in found}
    assert over == {
        *(("linear", name) for name in ("untrained", "ssl-target", "l2", "source", "scratch")),
        *(("finetune", name) for name in ("ssl-target", "l2", "source", "scratch")),
    }
    kinds = by_kind(segmented)
    for one in found:
        protocol = "supervised" if one["over"] == "scratch" else one["protocol"]
        here, there = (
            kinds[name, "depth", kind, one["labels"]]["metrics"]["miou"]
            for name, kind in (("distilled", one["protocol"]), (one["over"], protocol))
        )
        assert one["difference"] == pytest.approx(here - there)
        assert one["interval"][0] <= one["interval"][1]


def test_budgets_of_pictures_are_nested() -> None:
    """Masks have no class: so many pictures in all. Step 3 asks for them by the run's seed and the draw alone."""
    strata = [None] * COUNTS["train"]
    for draw in range(3):
        few, more, every = (set(label_subset(strata, b, draw=draw, seed=0).tolist()) for b in ("2", "50%", "100%"))
        assert (len(few), len(more), len(every)) == (2, 10, 20)
        assert few < more < every


# --- what lies in the folder


def test_baselines_are_encoders_that_load(segmented: Path) -> None:
    assert {path.name for path in (segmented / "baselines").iterdir()} == {"ssl-target", "l2"}
    x = torch.rand(2, 1, SIZE, SIZE)
    target = load_encoder(segmented / "target")
    with torch.no_grad():
        mine = target(x).pooled
        for name in ("ssl-target", "l2"):
            other = load_encoder(segmented / "baselines" / name)
            assert other.card["modality"] == "depth:depth"
            assert other(x).pooled.shape == mine.shape
            assert not torch.allclose(other(x).pooled, mine)
    assert set(json.loads((segmented / "result.json").read_text())["baselines"]) == {"ssl-target", "l2"}


def test_fine_tuned_encoders_are_kept_and_the_target_is_as_it_was(segmented: Path) -> None:
    tuned = folder_of(segmented, "distilled", "finetune", "100%") / "encoder"
    one, other = (load_encoder(path).state_dict() for path in (tuned, segmented / "target"))
    assert one.keys() == other.keys()
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert not (folder_of(segmented, "distilled", "linear", "100%") / "encoder").exists()


def test_each_protocol_finds_the_encoder_as_the_one_before_left_it(segmented: Path, recognised: Path) -> None:
    """Entries hold the weights' digest from before each protocol: linear, then nearest neighbours, then fine-tuning."""
    for run in (segmented, recognised):
        seen = {(e["encoder"], e["modality"]): set() for e in entries(run)}
        for entry in entries(run):
            seen[entry["encoder"], entry["modality"]].add(entry["weights"])
        assert all(len(weights) == 1 for weights in seen.values())
        assert seen["distilled", "depth"] == {weights_digest(load_encoder(run / "target"))}
        assert seen["source", "image"] == {weights_digest(load_encoder(run / "source"))}
    assert seen["distilled", "depth"] != seen["untrained", "depth"]


def own_masks(scenes: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(Image.open(path)) for path in (scenes / "mask").glob("test*.png")}


def test_predictions_lie_on_the_pictures_as_the_encoder_sees_them(segmented: Path, scenes: Path) -> None:
    """Masks are not square, and pictures are squashed: both in the same way."""
    masks = own_masks(scenes)
    for protocol in ("linear", "finetune"):
        with np.load(folder_of(segmented, "distilled", protocol, "100%") / "predictions.npz") as found:
            assert found["mask"].shape == found["target"].shape == (COUNTS["test"], SIZE, SIZE)
            assert found["mask"].max() < len(MASKS)
            for key, target in zip(found["key"], found["target"], strict=True):
                squashed = nearest(torch.from_numpy(masks[str(key)])[None, None], SIZE)[0, 0]
                assert np.array_equal(target, squashed.numpy())


def outputs(run: Path, scenes: Path, keys: list[str]) -> torch.Tensor:
    """The saved linear head on the saved encoder, applied to pictures read anew."""
    part, task = load().modality("depth"), load().task("segmentation")
    depth = part.build(part.options(unit="mm"))
    encoder = load_encoder(run / "target")
    state = load_file(folder_of(run, "distilled", "linear", "100%") / "head.safetensors")
    bare = task.build(task.options()).head(encoder, MASKS)
    count = sum(name.startswith("mean") for name in state)
    head = Standardised(bare, [state[f"mean{n}"] for n in range(count)], [state[f"std{n}"] for n in range(count)])
    head.load_state_dict(state)
    views = torch.stack([depth.resize(depth.decode(scenes / "depth" / f"{key}.png"), SIZE) for key in keys])
    with torch.no_grad():
        return head(encoder(depth.encode(views)))


def test_scores_are_those_of_the_saved_head_at_the_masks_own_size(segmented: Path, scenes: Path) -> None:
    """Encoder, head and masks are read back, and every pixel is counted."""
    masks = own_masks(scenes)
    logits = F.interpolate(outputs(segmented, scenes, list(masks)), (HEIGHT, WIDTH), mode="bilinear")
    taken, truth = logits.argmax(1).numpy(), np.stack(list(masks.values()))
    known = truth != 255
    iou = [
        ((taken == n) & (truth == n)).sum() / ((((taken == n) | (truth == n)) & known).sum()) for n in range(len(MASKS))
    ]
    metrics = by_kind(segmented)["distilled", "depth", "linear", "100%"]["metrics"]
    assert metrics["miou"] == pytest.approx(np.mean(iou), abs=2e-3)
    assert metrics["pixel_accuracy"] == pytest.approx((taken == truth)[known].mean(), abs=2e-3)
    assert metrics["iou_disc"] == pytest.approx(iou[1], abs=2e-3)
    assert metrics["miou"] > 0.5  # all labels tell a near disc from a box


def test_the_label_efficiency_curve(segmented: Path, recognised: Path) -> None:
    for run, metric, protocols in ((segmented, "miou", 2), (recognised, "top1", 3)):
        with (run / "label-efficiency.csv").open() as file:
            rows = list(csv.DictReader(file))
        kinds = by_kind(run)
        shown = {(e, p, b): entry for (e, m, p, b), entry in kinds.items() if (e, m) != ("source", "image")}
        assert {(row["encoder"], row["protocol"], row["labels"]) for row in rows} == set(shown)
        for row in rows:
            entry = shown[row["encoder"], row["protocol"], row["labels"]]
            assert row["metric"] == metric
            assert float(row["mean"]) == entry["metrics"][metric]
            assert int(row["n_train"]) == entry["n_train"]
            assert float(row["low"]) <= float(row["high"])
        assert sum(row["encoder"].startswith("distilled") for row in rows) == 2 * protocols
        assert is_picture(run / "label-efficiency.png")


def test_sheets_of_masks(segmented: Path) -> None:
    for protocol in ("linear", "finetune"):
        for labels in ("2", "100%"):
            assert is_picture(folder_of(segmented, "distilled", protocol, labels) / "sheet.png")
    assert not (folder_of(segmented, "scratch", "supervised", "2") / "sheet.png").exists()


def test_confusion_and_mistakes(recognised: Path) -> None:
    drawn = 0
    for protocol in ("linear", "knn", "finetune"):
        folder = folder_of(recognised, "distilled", protocol, "2")
        assert is_picture(folder / "confusion.png")
        with np.load(folder / "predictions.npz") as found:
            wrong = (found["class"] != found["target"]).any()
        assert (folder / "mistakes.png").exists() == wrong
        drawn += bool(wrong) and is_picture(folder / "mistakes.png")
    assert drawn


# --- going on


def test_only_what_is_missing_is_done_again(mine: Path, cmcd: Cmcd) -> None:
    before = by_kind(mine)
    missing = [folder_of(mine, "distilled", "linear", "2"), folder_of(mine, "l2", "finetune", "100%")]
    kept = {path: path.stat().st_mtime_ns for path in mine.glob("evaluations/*/evaluation.json")}
    for folder in missing:
        shutil.rmtree(folder)
        del kept[folder / "evaluation.json"]
    (mine / "result.json").unlink()
    code, _, err = cmcd("evaluate", mine)
    assert code == 0, err
    assert by_kind(mine) == before
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert err.count("3 fine-tuning") == 1  # of l2
    assert "scratch baseline" not in err
    assert is_picture(folder_of(mine, "distilled", "linear", "2") / "sheet.png")


def test_what_a_crash_left_half_written_is_done_again(mine: Path, cmcd: Cmcd) -> None:
    """evaluation.json comes last."""
    before, last = by_kind(mine), max(mine.glob("evaluations/*"), key=lambda path: int(path.name))
    (last / "evaluation.json").unlink()
    (last / "predictions.npz").write_bytes(b"half")
    (mine / "result.json").unlink()
    code, _, err = cmcd("run", "--resume", "--out", mine, "-c", mine / "config.toml")
    assert code == 0, err
    assert by_kind(mine) == before
    assert len(list((mine / "evaluations").iterdir())) == len(before)
    with np.load(last / "predictions.npz") as found:
        assert found["mask"].shape == (COUNTS["test"], SIZE, SIZE)


def test_a_baseline_that_nobody_taught(mine: Path, cmcd: Cmcd) -> None:
    code, _, err = cmcd("evaluate", mine, "--baseline", "socket")
    assert code == 2
    assert "--baseline socket: it has to be taught on pairs first" in err
    assert "`cmcd run`" in err
    code, _, err = cmcd("evaluate", mine, "--baseline", "l2")  # taught with the run
    assert code == 0, err


def test_the_configuration_stays_one_that_runs(mine: Path, cmcd: Cmcd) -> None:
    """Other baselines leave no tables of the old ones behind, whether `evaluate` or `run -c` brings them."""
    assert cmcd("run", "-c", str(mine / "config.toml"), "--baseline", "scratch", "--dry-run")[0] == 0
    assert cmcd("evaluate", str(mine), "--baseline", "scratch", "--quiet")[0] == 0
    code, out, err = cmcd("run", "-c", str(mine / "config.toml"), "--dry-run")
    assert code == 0, err
    assert "[objective.cmd]" in out
    assert "[objective.l2]" not in out


def test_a_budget_more_for_everyone(mine: Path, cmcd: Cmcd) -> None:
    before = by_kind(mine)
    code, _, err = cmcd("evaluate", mine, "--labels", "50%", "--protocol", "linear", "--baseline", "none")
    assert code == 0, err
    after = by_kind(mine)
    assert before.items() <= after.items()
    assert {kind for kind in after if kind not in before} == {
        ("distilled", "depth", "linear", "50%"),
        ("untrained", "depth", "linear", "50%"),
        ("source", "image", "linear", "50%"),
    }


# --- data as users have them


def short(scenes: Path, out: str) -> list[object]:
    return ["run", "--data", scenes, *QUICK, "--labels", "2", "--label-draws", "1", "--baseline", "none", "--out", out]


def test_labels_come_before_masks(scenes: Path, cmcd: Cmcd) -> None:
    code, _, err = cmcd(*short(scenes, "a"))
    assert code == 0, err
    assert {entry["task"] for entry in entries(Path("a"))} == {"recognition"}
    assert "the data have a 'mask' too, which --task segmentation evaluates" in err
    assert err.count("the data have a 'mask' too") == 1, "told once, though it is found out twice"


def test_teachers_side_by_side_have_no_maps_to_segment_by(scenes: Path, cmcd: Cmcd) -> None:
    assert cmcd(*short(scenes, "one"))[0] == 0
    teachers = ["--teacher", "one/source", "--teacher", "one/source"]
    code, _, err = cmcd(*short(scenes, "two"), *teachers, "--task", "segmentation")
    assert code == 0, err
    assert {entry["encoder"] for entry in entries(Path("two"))} == {"distilled", "untrained"}
    assert "segmentation: the source is left out, as it has no dense maps" in err


def test_masks_alone_are_evaluated_and_classes_numbered(scenes: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    bare = without_column(scenes, tmp_path / "bare", "label")
    (bare / "mask_classes.txt").unlink()
    code, _, err = cmcd(*short(bare, "b"))
    assert code == 0, err
    assert {entry["task"] for entry in entries(Path("b"))} == {"segmentation"}
    folder = folder_of(Path("b"), "distilled", "linear", "2")
    assert json.loads((folder / "classes.json").read_text()) == ["class 0", "class 1", "class 2"]
    assert is_picture(folder / "sheet.png")
    assert any("step 3 skipped for recognition" in line for line in err.splitlines())


def test_one_class_is_refused_before_any_training(scenes: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    plain = Path(shutil.copytree(scenes, tmp_path / "plain"))
    (plain / "mask_classes.txt").unlink()
    for path in (plain / "mask").glob("*.png"):
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path)
    code, _, err = cmcd(*short(plain, "c"), "--task", "segmentation")
    assert code == 2
    assert "segmentation needs at least two classes" in err
    assert "pretrain source" not in err


def test_a_mask_that_is_none_is_found_before_any_training(scenes: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    broken = Path(shutil.copytree(scenes, tmp_path / "broken"))
    Image.fromarray(np.full((HEIGHT, WIDTH), 9, np.uint8)).save(broken / "mask" / "test03.png")
    code, _, err = cmcd(*short(broken, "d"), "--task", "segmentation")
    assert code == 2
    assert "test03.png" in err
    assert "holds class 9, and the data set names 3 classes" in err
    assert "pretrain source" not in err


def test_masks_on_another_grid_are_refused(scenes: Path, tmp_path: Path, cmcd: Cmcd) -> None:
    apart = Path(shutil.copytree(scenes, tmp_path / "apart"))
    (apart / "dataset.toml").write_text('aligned = ["image"]\n[depth]\nunit = "mm"\n')
    code, _, err = cmcd(*short(apart, "e"), "--task", "segmentation")
    assert code == 2
    assert "nobody says that depth lies on the pixel grid of the 'mask'" in err
    assert "data.aligned=depth" in err
    assert "pretrain source" not in err
    (apart / "metadata.csv").write_text((apart / "metadata.csv").read_text().replace("label", "colour"))
    code, _, err = cmcd(*short(apart, "f"))  # unasked, it is left out
    assert code == 0, err
    assert entries(Path("f")) == []
    assert "step 3 skipped for segmentation: nobody says" in err


def test_masks_of_sounds_are_refused(cmcd: Cmcd) -> None:
    small = ["-o", "data.train=20", "-o", "data.val=10", "-o", "data.test=10"]
    code, _, err = cmcd("run", "--target", "audio", "--task", "segmentation", *small, "--out", "g", "--device", "cpu")
    assert code == 2
    assert "audio is no picture" in err
    assert "Take another --task." in err
    assert "pretrain source" not in err


def test_masks_that_are_not_there(tiny_folder: Path, cmcd: Cmcd) -> None:
    code, _, err = cmcd(*short(tiny_folder, "h"), "--task", "segmentation")
    assert code == 2
    assert "--task segmentation: no sample of the train split has a 'mask'" in err
    assert "evaluate.data=FOLDER" in err
