"""Where a student starts: at random, from the source, or from whichever of them can be."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cmcd_core import RunConfig, load_encoder, run
from cmcd_core.catalog import load
from cmcd_core.config import COPY_LR, STEPS, DistillConfig, Step
from cmcd_core.data.digest import weights_digest
from cmcd_core.encoders import blueprint
from cmcd_core.interfaces.encoder import Encoder
from cmcd_core.interfaces.side_by_side import SideBySide
from cmcd_core.interfaces.timm_encoder import TimmEncoder
from cmcd_core.partner_rank import mean_rank, partner_rank
from cmcd_core.progress import Progress
from cmcd_core.resolve import resolve
from cmcd_core.run_folder import RunFolder
from cmcd_core.students import fit_size, from_random, is_copy, settled_start, student, without_source
from cmcd_core.workbench import Workbench, make_fabric

WIDE = {"channels": [8, 16, 24, 40]}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with weights from elsewhere."""
    return TimmEncoder("resnet10t", in_chans=3).save(tmp_path_factory.mktemp("teacher") / "resnet")


@pytest.fixture
def bench(tiny_folder: Path) -> Callable[..., Workbench]:
    """A workbench whose ``[distill]`` has these values; ``notes`` collects what the user is told."""

    def made(
        notes: list[str] | None = None,
        encoder: str | None = None,
        teachers: Sequence[Path] = (),
        **distill: Any,
    ) -> Workbench:
        values = {
            "source": "image", "target": "depth", "data": str(tiny_folder), "distill": distill,
            "pretrain": {"teacher": list(map(str, teachers))}, "run": {"device": "cpu", "source_size": 32},
            "evaluate": {"encoder": encoder} if encoder else {},
        }  # fmt: skip
        return opened(values, notes)

    return made


def opened(values: dict[str, Any], notes: list[str] | None = None, steps: tuple[Step, ...] = STEPS) -> Workbench:
    config = RunConfig.from_mapping(values)
    note = (lambda text: None) if notes is None else notes.append
    return Workbench.of(resolve(config, load(), steps), make_fabric(config.run)[0], Progress(), note)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "started").mkdir()
    return RunFolder(tmp_path / "started")


@pytest.fixture
def inclined(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto finds the source near enough, whatever random weights make of the pictures."""
    monkeypatch.setattr("cmcd_core.students.NEAR", 1.1)


def own_source(bench: Workbench, **arguments: Any) -> Encoder:
    """What step 1 would begin with."""
    return bench.encoder(bench.source, arguments.pop("architecture", None), arguments, 5, bench.source_size)


@pytest.mark.usefixtures("inclined")
def test_auto_copies_a_teacher_with_its_weights_rate_and_schedule(
    bench: Callable[..., Workbench], teacher: Path, folder: RunFolder
) -> None:
    told: list[str] = []
    auto, asked = bench(told, teachers=[teacher], init="auto"), bench(teachers=[teacher], init="source")
    source = auto.teachers[0]
    settled = settled_start(auto, folder, source)
    assert settled == settled_start(asked, folder, source)
    assert (settled.init, settled.lr) == ("source", COPY_LR)
    assert settled.epochs_for(500) == DistillConfig().epochs_for(500) // 2
    first, second = student(auto, folder, source), student(asked, folder, source)
    assert weights_digest(first) == weights_digest(second)
    assert torch.equal(first.model.layer4[0].conv1.weight, source.model.layer4[0].conv1.weight)
    assert any("starts from the source" in text for text in told)


@pytest.mark.usefixtures("inclined")
def test_what_the_user_sets_goes_over_what_a_copy_gets(
    bench: Callable[..., Workbench], teacher: Path, folder: RunFolder
) -> None:
    one = bench(teachers=[teacher], init="auto", lr=0.02, epochs=7)
    settled = settled_start(one, folder, one.teachers[0])
    assert (settled.lr, settled.epochs_for(500)) == (0.02, 7)


@pytest.mark.usefixtures("inclined")
@pytest.mark.parametrize(
    "distill", [{"student": "resnet14t"}, {"model_args": {"channels": [8, 8, 16, 16]}}], ids=["student", "arguments"]
)
def test_auto_is_random_where_the_user_names_a_network(
    bench: Callable[..., Workbench], teacher: Path, distill: dict[str, Any], folder: RunFolder
) -> None:
    told: list[str] = []
    auto = bench(told, teachers=[teacher], init="auto", **distill)
    random = bench(teachers=[teacher], init="random", **distill)
    source = auto.teachers[0]
    assert settled_start(auto, folder, source) == settled_start(random, folder, source)
    assert weights_digest(student(auto, folder, source)) == weights_digest(student(random, folder, source))
    assert not any("starts from" in text for text in told)


@pytest.mark.usefixtures("inclined")
def test_a_network_that_is_named_later_goes_over_what_auto_settled(
    bench: Callable[..., Workbench], teacher: Path, folder: RunFolder
) -> None:
    before, named = (bench(teachers=[teacher], init="auto", student=name) for name in (None, "resnet14t"))
    assert settled_start(before, folder, before.teachers[0]).init == "source"
    assert settled_start(named, folder, named.teachers[0]).init == "random"


@pytest.mark.usefixtures("inclined")
def test_auto_is_random_where_the_source_is_made_here_or_of_several(
    bench: Callable[..., Workbench], teacher: Path, folder: RunFolder
) -> None:
    alone, two = bench(init="auto"), bench(teachers=[teacher, teacher], init="auto")
    both = SideBySide([two.teachers[0], two.teachers[1]], torch.zeros(1), torch.ones(1))
    for one, source in ((alone, own_source(alone)), (two, both)):
        assert settled_start(one, folder, source).init == "random"
        assert blueprint(student(one, folder, source)) == blueprint(from_random(one, 0))


@pytest.mark.usefixtures("inclined")
def test_auto_is_random_where_the_target_is_no_picture(
    bench: Callable[..., Workbench], teacher: Path, monkeypatch: pytest.MonkeyPatch, folder: RunFolder
) -> None:
    one = bench(teachers=[teacher], init="auto")
    monkeypatch.setattr(type(one.target.modality), "spatial", False)
    assert settled_start(one, folder, one.teachers[0]).init == "random"


@pytest.mark.usefixtures("inclined")
def test_auto_is_random_where_weights_fit_in_part(
    bench: Callable[..., Workbench], teacher: Path, folder: RunFolder
) -> None:
    auto = bench(teachers=[teacher], init="auto")
    source = auto.teachers[0]
    name = next(key for key in source.state_dict() if key.endswith("layer4.0.conv2.weight"))
    stripped = {key: value for key, value in source.state_dict().items() if key != name}
    source.state_dict = lambda *args, **options: stripped  # type: ignore[method-assign]
    assert settled_start(auto, folder, source).init == "random"
    assert settled_start(bench(teachers=[teacher], init="source"), folder, source).init == "source"


@pytest.mark.parametrize(("near", "init"), [(1.1, "source"), (0.0, "random")])
def test_auto_goes_by_the_partner_rank_and_keeps_to_it(
    bench: Callable[..., Workbench], teacher: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, near: float,
    init: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("cmcd_core.students.NEAR", near)
    told: list[str] = []
    one = bench(told, teachers=[teacher], init="auto")
    assert settled_start(one, folder, one.teachers[0]).init == init
    assert json.loads((folder.path / "start.json").read_text())["partner_rank"] == pytest.approx(
        partner_rank(one, one.teachers[0])
    )
    assert sum("init = auto" in text for text in told) == 1
    monkeypatch.setattr("cmcd_core.students.NEAR", 1.1 - near)  # what is settled stays
    assert settled_start(one, folder, one.teachers[0]).init == init
    assert sum("init = auto" in text for text in told) == 1
    monkeypatch.undo()
    other = TimmEncoder("resnet10t", in_chans=3)
    settled_start(one, folder, other)  # another teacher is looked at anew
    assert sum("init = auto" in text for text in told) == 2


@pytest.mark.parametrize(("tasks", "init"), [((), "random"), (("segmentation",), "source")], ids=["labels", "masks"])
def test_masks_ask_for_a_copy_sooner(
    teacher: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tasks: tuple[str, ...], init: str
) -> None:
    """The demo has both, and a run evaluates labels unless it is told otherwise."""
    monkeypatch.setattr("cmcd_core.students.partner_rank", lambda bench, source: 0.4)
    values = {
        "target": "depth", "pretrain": {"teacher": [str(teacher)]}, "distill": {"init": "auto"},
        "data": {"train": 40, "val": 20, "test": 20}, "task": {"names": tasks}, "run": {"device": "cpu"},
    }  # fmt: skip
    one = opened(values)
    assert settled_start(one, folder, one.teachers[0]).init == init


@pytest.mark.parametrize("init", ["source", "auto"])
@pytest.mark.usefixtures("inclined")
def test_a_copy_for_masks_sees_fewer_and_bigger_pictures_in_every_command(
    teacher: Path, folder: RunFolder, tmp_path: Path, init: str
) -> None:
    data = drawn(tmp_path / "data", 0, side=200)
    table = (data / "metadata.csv").read_text().splitlines()
    for at in range(len(table) - 1):
        Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) // 128).save(data / f"m{at}.png")
    splits = ["train", "train", "val", "test"]
    rows = [f"{at},{splits[at % 4]},p{at}.png,d{at}.png,m{at}.png" for at in range(len(table) - 1)]
    (data / "metadata.csv").write_text("\n".join([f"{table[0]},mask_file_name", *rows]))
    (data / "mask_classes.txt").write_text("wall\nfloor\n")
    (data / "dataset.toml").write_text('aligned = ["depth"]\n[depth]\nunit = "mm"\n')
    values = {"source": "image", "target": "depth", "data": str(data), "pretrain": {"teacher": [str(teacher)]},
              "distill": {"init": init}, "run": {"device": "cpu"}}  # fmt: skip
    one = opened(values)
    fit_size(one, folder, one.teachers[0])
    settled = settled_start(one, folder, one.teachers[0])
    assert (one.size, one.source_size) == (160, 128)  # the source's is settled before: auto looks at pairs
    assert settled.epochs_for(500) == DistillConfig().epochs_for(500) // 12
    later = opened(values, steps=("distill",))  # such as `cmcd retrieve`: it knows of no task
    assert settled_start(later, folder, one.teachers[0]) == settled


def test_partners_that_are_nearest_have_rank_0_and_no_idea_is_a_half() -> None:
    one = np.eye(40)
    assert mean_rank(one, one) == 0
    assert mean_rank(-one, one) == 1
    assert mean_rank(np.ones((40, 40)), one) == 0.5
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(400, 400)), rng.normal(size=(400, 400))
    assert mean_rank(first, second) == pytest.approx(0.5, abs=0.05)
    assert mean_rank(2 * first, 3 * second) == pytest.approx(mean_rank(first, second))


def drawn(root: Path, shift: int, side: int = 120) -> Path:
    """32 pairs of blurred noise: a grey photo, and depth in mm, the brighter the nearer, or another's."""
    rng = np.random.default_rng(0)
    small = (rng.random((32, 5, 5)) * 255).astype(np.uint8)
    grey = [Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC) for one in small]
    root.mkdir()
    lines = ["id,split,image_file_name,depth_file_name"]
    for at, photo in enumerate(grey):
        other = np.asarray(grey[(at + shift) % len(grey)])
        photo.convert("RGB").save(root / f"p{at}.png")
        Image.fromarray(3050 - 10 * other.astype(np.uint16)).save(root / f"d{at}.png")
        lines.append(f"{at},train,p{at}.png,d{at}.png")
    (root / "metadata.csv").write_text("\n".join(lines))
    (root / "dataset.toml").write_text('[depth]\nunit = "mm"\n')
    return root


def unlabelled(data: Path, teacher: Path, **distill: Any) -> Workbench:
    values = {"source": "image", "target": "depth", "data": str(data), "pretrain": {"teacher": [str(teacher)]},
              "distill": distill, "run": {"device": "cpu"}}  # fmt: skip
    return opened(values, steps=("pretrain", "distill"))


def test_a_source_that_sees_its_own_pictures_again_finds_them(teacher: Path, tmp_path: Path) -> None:
    own, other = (unlabelled(drawn(tmp_path / str(shift), shift), teacher) for shift in (0, 7))
    assert partner_rank(own, own.teachers[0]) < 0.3 < partner_rank(other, other.teachers[0])


def test_a_copy_sees_bigger_pictures_than_other_students(
    teacher: Path, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = drawn(tmp_path / "data", 0)
    for near, distill, side in (
        (1.1, {"init": "auto"}, 96), (0.0, {"init": "auto"}, 64), (0.0, {"init": "source"}, 96), (1.1, {}, 64),
        (1.1, {"init": "auto", "student": "resnet14t"}, 64),
    ):  # fmt: skip
        monkeypatch.setattr("cmcd_core.students.NEAR", near)
        (folder.path / "start.json").unlink(missing_ok=True)
        one = unlabelled(data, teacher, **distill)
        fit_size(one, folder, one.teachers[0])
        assert one.size == side, distill
        assert student(one, folder, one.teachers[0]).card["size"] == side


def test_a_copy_of_a_vit_sees_the_one_size_that_it_takes(folder: RunFolder, tmp_path: Path) -> None:
    vit = TimmEncoder("vit_tiny_patch16_224", in_chans=3, depth=1).save(tmp_path / "vit")
    data = drawn(tmp_path / "data", 0)
    asked = unlabelled(data, vit, init="source")
    fit_size(asked, folder, asked.teachers[0])
    copy = student(asked, folder, asked.teachers[0])
    assert copy(next(asked.views("distill", "target", "train").chunks())).pooled.shape[1] == asked.teachers[0].dim
    auto = unlabelled(data, vit, init="auto")  # as it would take hours without a GPU
    assert settled_start(auto, folder, auto.teachers[0]).init == "random"


def test_a_source_made_here_is_copied_on_request_and_learns_as_fast_as_ever(
    bench: Callable[..., Workbench], folder: RunFolder
) -> None:
    one = bench(init="source")
    source = own_source(one, **WIDE)
    assert settled_start(one, folder, source).peak_lr == DistillConfig().peak_lr
    assert settled_start(one, folder, source).epochs_for(500) == DistillConfig().epochs_for(500)
    assert blueprint(student(one, folder, source))["channels"] == WIDE["channels"]


def test_what_has_no_source_does_not_take_its_network(bench: Callable[..., Workbench], folder: RunFolder) -> None:
    copying, plain = bench(init="source"), bench()
    taught = student(copying, folder, own_source(copying, **WIDE))
    alone = without_source(copying, taught, seed=3)
    assert weights_digest(alone) == weights_digest(from_random(plain, 3))
    named = bench(init="source", student="resnet10t")
    assert without_source(named, taught, seed=3).dim == from_random(bench(student="resnet10t"), 3).dim


def test_the_twin_of_a_brought_encoder_is_of_its_own_kind(bench: Callable[..., Workbench], tmp_path: Path) -> None:
    own = bench(init="source", encoder=str(tmp_path))
    brought = own.encoder(own.target, None, dict(WIDE), 0, 24)
    assert blueprint(without_source(own, brought, seed=3)) == blueprint(brought)
    assert weights_digest(without_source(own, brought, seed=3)) != weights_digest(brought)


@pytest.mark.usefixtures("inclined")
def test_what_is_a_copy_shows_without_start_json(
    bench: Callable[..., Workbench], folder: RunFolder, teacher: Path, tmp_path: Path
) -> None:
    source = load_encoder(teacher)
    copying, never = bench(init="auto", teachers=[teacher]), bench(teachers=[teacher])
    target = student(copying, folder, source)
    assert is_copy(copying, target, source)
    assert not is_copy(copying, from_random(copying, 0), source)  # auto found otherwise
    assert not is_copy(never, target, source)
    assert not is_copy(bench(init="auto", teachers=[teacher], student="resnet10t"), target, source)
    assert not is_copy(bench(init="source", encoder=str(tmp_path)), target, source)
    assert not is_copy(bench(init="source"), target, own_source(copying, **WIDE))  # no weights from elsewhere


def test_arguments_of_the_sources_network_are_kept_from_the_slim_one(bench: Callable[..., Workbench]) -> None:
    both = bench(init="source", model_args={"drop_rate": 0.1}, output_stride=8)
    assert blueprint(from_random(both, 0)) == blueprint(from_random(bench(output_stride=8), 0))


@pytest.mark.usefixtures("inclined")
def test_a_run_that_copies_its_teacher_goes_on_where_it_was(tiny_folder: Path, teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    values = {
        "source": "image", "target": "depth", "data": str(tiny_folder), "pretrain": {"teacher": [str(teacher)]},
        "distill": {"epochs": 1, "init": "auto"},
        "run": {"out": str(out), "device": "cpu", "size": 24, "source_size": 32},
        "evaluate": {"labels": ["2"], "label_draws": 2, "train_steps": 2, "train_epochs": 1, "scratch_lrs": [0.01],
                     "baselines": ["scratch", "ssl-target", "l2"]},
    }  # fmt: skip
    first = run(RunConfig.from_mapping(values))
    assert {entry["encoder"] for entry in first.evaluations} >= {"distilled", "scratch", "ssl-target", "l2"}
    assert run(RunConfig.from_mapping(values), resume=True).evaluations == first.evaluations
    for name in ("target", "baselines/l2"):
        assert load_encoder(out / name).model.num_features == load_encoder(teacher).model.num_features, name
    assert blueprint(load_encoder(out / "baselines/ssl-target")) == {"architecture": None}
