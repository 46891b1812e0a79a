"""The embedded demo data: determinism, geometry shared by all sensors, options, cache."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import wave
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cmcd_datasets.demo import cache, modalities
from cmcd_datasets.demo.cache import Recipe, render_scenes, render_split, rendered
from cmcd_datasets.demo.loader import DemoLoader, image_sources
from cmcd_datasets.demo.render import SIZE, render
from cmcd_datasets.demo.scenes import FIRST_CLUTTER, FIRST_OBJECT, HALF_FIELD, SceneBatch, sample_scene
from cmcd_datasets.demo.shapes import CLASSES

SENSORS = ("image", "depth", "sketch", "audio", "label", "mask")


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    train: int = 30
    val: int = 10
    test: int = 20
    noise: float = 0.3
    shuffled: float = 0.0


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMCD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def clean() -> dict[str, Any]:
    return render_scenes(0, "train", range(60), 0.0)


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    return render_scenes(0, "train", range(60), 0.3)


def raw(sample: Any, view: str) -> Any:
    value = sample.views[view]
    return value() if callable(value) else value


# --- determinism


def test_a_scene_is_the_same_whatever_is_rendered_beside_it(usual: dict[str, Any]) -> None:
    for indices in (range(17, 18), range(15, 22), range(33)):
        part = render_scenes(0, "train", indices, 0.3)
        for name in SENSORS:
            np.testing.assert_array_equal(part[name], usual[name][indices.start : indices.stop], err_msg=name)


def test_chunks_and_counts_do_not_matter(tmp_path: Path, usual: dict[str, Any]) -> None:
    for count, chunk in ((23, 5), (40, 16)):
        folder = tmp_path / f"{count}"
        folder.mkdir()
        render_split(Recipe(0, "train", count, 0.3), folder, chunk=chunk)
        for name in SENSORS:
            np.testing.assert_array_equal(np.load(folder / f"{name}.npy"), usual[name][:count], err_msg=name)


def test_another_seed_or_split_shows_other_scenes(usual: dict[str, Any]) -> None:
    for other in (render_scenes(1, "train", range(4), 0.3), render_scenes(0, "test", range(4), 0.3)):
        for name in ("image", "depth", "audio"):
            for i in range(4):
                assert not np.array_equal(other[name][i], usual[name][i])


def test_noise_leaves_scene_image_label_and_mask_alone(clean: dict[str, Any], usual: dict[str, Any]) -> None:
    for name in ("image", "label", "mask"):
        np.testing.assert_array_equal(clean[name], usual[name])
    for name in ("depth", "sketch", "audio"):
        assert not np.array_equal(clean[name], usual[name])


# --- geometry


def buffers_of(indices: range) -> tuple[SceneBatch, Any]:
    batch = SceneBatch.of([sample_scene(0, "train", i) for i in indices])
    return batch, render(batch)


def test_the_object_is_nearer_than_what_it_hides() -> None:
    """Without its object, a scene is farther at the object's pixels and the same at all others."""
    indices = range(20)
    batch, full = buffers_of(indices)
    room = []
    for scene in batch.scenes:
        keep = scene.group >= FIRST_CLUTTER
        fields = ("kind", "matrix", "centre", "taper", "open_ends", "group", "material")
        room.append(replace(scene, **{name: getattr(scene, name)[keep] for name in fields}))
    empty = render(SceneBatch.of(room))
    main = (full.group >= FIRST_OBJECT) & (full.group < FIRST_CLUTTER)
    assert main.any(axis=(1, 2)).all()
    assert (full.depth[main] < empty.depth[main]).all()
    np.testing.assert_array_equal(full.depth[~main], empty.depth[~main])


def test_depth_and_mask_agree(clean: dict[str, Any]) -> None:
    """Just inside the object's outline the clean depth is mostly nearer than just outside."""
    nearer = total = 0
    for depth, mask in zip(clean["depth"].astype(int), clean["mask"], strict=True):
        inside = (mask > 0) & (mask != modalities.IGNORE)
        for step in (2, -2):
            outside = np.roll(mask, step, axis=1) == 0
            pair = inside & outside & (depth > 0) & (np.roll(depth, step, axis=1) > 0)
            pair[:, :2] = pair[:, -2:] = False
            nearer += int((depth[pair] < np.roll(depth, step, axis=1)[pair]).sum())
            total += int(pair.sum())
    assert total > 1000
    assert nearer / total > 0.85  # the rest: things that stand before the object, the floor at its feet


def test_depth_is_the_distance_of_the_hit_along_the_axis(clean: dict[str, Any]) -> None:
    _, buffers = buffers_of(range(20))
    truth = modalities.true_depth(buffers)
    measured = clean["depth"][:20]
    seen = measured > 0
    assert np.abs(measured[seen] / 1000.0 - truth[seen]).max() <= 0.0006


def test_normals_are_unit_length_and_face_the_camera() -> None:
    _, buffers = buffers_of(range(12))
    np.testing.assert_allclose((buffers.normal**2).sum(axis=0), 1.0, atol=1e-3)
    line = (np.arange(buffers.depth.shape[1]) + 0.5) / buffers.depth.shape[1] * 2 - 1
    x, y = line[None, None, :] * HALF_FIELD, line[None, :, None] * HALF_FIELD
    n = buffers.normal
    assert ((n[0] * x + n[1] * y + n[2]) <= 1e-3).mean() > 0.999


def test_sketch_lines_lie_on_outlines_and_creases(clean: dict[str, Any]) -> None:
    _, buffers = buffers_of(range(30))
    everything = np.ones(buffers.group.shape, dtype=bool)
    edges = modalities._lines(buffers, 1, everything) | modalities._lines(buffers, 2, everything)
    coarse = edges.reshape(30, SIZE, 2, SIZE, 2).any(axis=(2, 4))
    ink = clean["sketch"][:30] < 200
    assert ink.mean() > 0.01
    assert (ink & ~coarse).sum() == 0
    main = (buffers.group >= FIRST_OBJECT) & (buffers.group < FIRST_CLUTTER)
    outline = np.zeros_like(main)
    outline[:, :, :-1] = main[:, :, :-1] != main[:, :, 1:]
    outline = outline.reshape(30, SIZE, 2, SIZE, 2).any(axis=(2, 4))
    assert ink[outline].mean() > 0.95  # a clean sketch draws the whole outline


def test_a_noisy_sketch_stays_near_the_lines(usual: dict[str, Any], clean: dict[str, Any]) -> None:
    near = kept = 0
    for noisy, line in zip(usual["sketch"] < 128, clean["sketch"] < 160, strict=True):
        wide = np.zeros_like(line)
        for dy in range(-3, 4):
            for dx in range(-3, 4):
                wide |= np.roll(line, (dy, dx), axis=(0, 1))
        near += int((noisy & wide).sum())
        kept += int(noisy.sum())
    assert near / kept > 0.97


def test_masks_hold_the_class_of_the_label(usual: dict[str, Any]) -> None:
    for label, mask in zip(usual["label"], usual["mask"], strict=True):
        assert set(np.unique(mask)) <= {0, int(label) + 1, modalities.IGNORE}
        assert (mask == label + 1).mean() > 0.01
    assert 0.05 < (usual["mask"] > 0).mean() < 0.5
    assert (usual["mask"] == modalities.IGNORE).mean() < 0.05


def test_units_are_millimetres_within_the_sensor_range(clean: dict[str, Any], usual: dict[str, Any]) -> None:
    for arrays in (clean, usual):
        depth = arrays["depth"]
        assert depth.dtype == np.uint16
        seen = depth[depth > 0]
        assert seen.min() >= 300
        assert seen.max() <= 6000
        assert 600 < np.median(seen) < 3500
    assert (clean["depth"] == 0).mean() < 0.05


def test_the_image_is_varied(usual: dict[str, Any]) -> None:
    image = usual["image"]
    assert image.shape[1:] == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    assert (image.std(axis=(1, 2)).max(axis=1) > 8).all()
    assert 60 < image.mean() < 220


# --- options


def test_noise_takes_more_and_more_of_the_depth(clean: dict[str, Any]) -> None:
    truth = clean["depth"].astype(float)
    lost, errors, holes = [], [], []
    for noise in (0.0, 0.15, 0.3, 0.6, 1.0):
        depth = render_scenes(0, "train", range(60), noise)["depth"]
        holes.append(depth == 0)
        lost.append(holes[-1].mean())
        both = (depth > 0) & (truth > 0)
        errors.append(float(np.sqrt(((depth[both] - truth[both]) ** 2).mean())))
    assert errors[0] == 0
    assert all(a < b for a, b in pairwise(lost))
    assert all(a < b for a, b in pairwise(errors))
    assert 0.1 < lost[2] < 0.45
    assert lost[-1] > 0.9


def test_noise_takes_more_and_more_of_sketch_and_sound(clean: dict[str, Any]) -> None:
    ink, likeness = [], []
    for noise in (0.0, 0.3, 0.6, 1.0):
        arrays = render_scenes(0, "train", range(40), noise)
        ink.append((arrays["sketch"] < 128).mean())
        pairs = zip(arrays["audio"].astype(float), clean["audio"].astype(float), strict=False)
        likeness.append(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))
    assert all(a > b for a, b in pairwise(ink))
    assert all(a > b for a, b in pairwise(likeness))
    assert ink[-1] < 0.15 * ink[0]
    assert likeness[-1] < 0.2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 10, 101])
def test_shuffled_is_a_derangement_of_exactly_that_share(count: int, share: float) -> None:
    sources = image_sources(3, count, share)
    broken = sources != np.arange(count)
    wanted = round(share * count)
    assert broken.sum() == (2 if wanted == 1 else wanted)
    assert sorted(sources) == list(range(count))
    wider = image_sources(3, count, min(1.0, share + 0.3)) != np.arange(count)
    assert (wider | ~broken).all()


def test_one_scene_cannot_be_shuffled() -> None:
    assert image_sources(0, 1, 1.0).tolist() == [0]
    assert image_sources(0, 0, 1.0).tolist() == []


def test_shuffling_moves_images_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    true = DemoLoader(Settings())
    before = {name: true.split(name) for name in ("train", "val", "test")}
    monkeypatch.setattr(cache, "render_split", None)  # a render would fail: shuffling must need none
    mixed = DemoLoader(Settings(shuffled=0.5))
    moved = 0
    for a, b in zip(before["train"], mixed.split("train"), strict=True):
        assert a.key == b.key
        assert a.targets["label"] == b.targets["label"]
        for view in ("depth", "sketch"):
            np.testing.assert_array_equal(a.views[view], b.views[view])
        np.testing.assert_array_equal(a.targets["mask"], b.targets["mask"])
        assert raw(a, "audio") == raw(b, "audio")
        moved += not np.array_equal(a.views["image"], b.views["image"])
    assert moved == 15
    for name in ("val", "test"):
        for a, b in zip(before[name], mixed.split(name), strict=True):
            np.testing.assert_array_equal(a.views["image"], b.views["image"])


# --- the loader


def test_the_loader_keeps_its_contract() -> None:
    loader = DemoLoader(Settings())
    assert loader.modalities == {"image", "depth", "sketch", "audio"}
    assert loader.aligned == {"image", "depth", "sketch"}
    assert loader.classes["mask"] == ["background", *loader.classes["label"]]
    train = loader.split("train")
    assert len(train) == 30
    assert len(loader.split("val")) == 10
    assert train[17].key == "train-000017"
    assert train[-1].key == "train-000029"
    assert [s.key for s in train[:2]] == ["train-000000", "train-000001"]
    assert len({s.key for s in train}) == 30
    with pytest.raises(IndexError):
        train[30]
    sample = train[3]
    shapes = {"image": (SIZE, SIZE, 3), "depth": (SIZE, SIZE), "sketch": (SIZE, SIZE)}
    for view, shape in shapes.items():
        assert sample.views[view].shape == shape
    assert type(sample.views["depth"]) is np.ndarray
    assert isinstance(sample.targets["label"], int)


def test_a_split_may_be_empty() -> None:
    assert list(DemoLoader(Settings(val=0)).split("val")) == []


def test_classes_are_balanced() -> None:
    loader = DemoLoader(Settings(train=57))
    counts = Counter(sample.targets["label"] for sample in loader.split("train"))
    assert len(counts) == len(CLASSES) == 10
    assert max(counts.values()) - min(counts.values()) <= 1
    order = [sample.targets["label"] for sample in loader.split("train")]
    assert order[:10] != order[10:20] or order[10:20] != order[20:30]


def test_sound_is_half_a_second_of_wav(usual: dict[str, Any]) -> None:
    data = raw(DemoLoader(Settings()).split("train")[5], "audio")
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        assert file.getnframes() == 8000
        samples = np.frombuffer(file.readframes(8000), "<i2")
    np.testing.assert_array_equal(samples, usual["audio"][5])
    assert np.abs(samples).max() > 3000


# --- the cache


def test_a_hit_is_not_rendered_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = DemoLoader(Settings())
    first = raw(loader.split("val")[0], "depth").copy()
    assert any(own_cache.rglob("depth.npy"))
    monkeypatch.setattr(cache, "render_split", None)
    np.testing.assert_array_equal(raw(DemoLoader(Settings()).split("val")[0], "depth"), first)


@pytest.mark.parametrize("damage", ["truncated", "missing", "empty", "garbage", "shape", "file"])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, damage: str) -> None:
    recipe = Recipe(0, "val", 6, 0.3)
    intact = {name: array.copy() for name, array in rendered(recipe, tmp_path).items()}
    (folder,) = tmp_path.iterdir()
    victim = folder / "depth.npy"
    if damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:-100])
    elif damage == "missing":
        victim.unlink()
    elif damage == "empty":
        victim.write_bytes(b"")
    elif damage == "garbage":
        victim.write_bytes(b"not an array at all")
    elif damage == "shape":
        np.save(victim, np.zeros((6, 3), np.uint16))
    else:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        folder.write_bytes(b"a file in the folder's place")
    again = rendered(recipe, tmp_path)
    for name in SENSORS:
        np.testing.assert_array_equal(again[name], intact[name])
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]


def test_racing_processes_both_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cmcd_datasets.demo.cache import Recipe, rendered\n"
        "print(int(rendered(Recipe(0, 'val', 12, 0.3), Path(sys.argv[1]))['depth'].sum()))"
    )
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}", str(tmp_path)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [racer.communicate(timeout=60)[0] for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    assert len(set(answers)) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_old_leftovers_of_killed_processes_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".partial-dead").mkdir()
    monkeypatch.setattr(cache, "STALE", -1.0)
    rendered(Recipe(0, "val", 2, 0.3), tmp_path)
    assert not (tmp_path / ".partial-dead").exists()


def test_a_failing_render_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no disk left")

    monkeypatch.setattr(cache, "render_scenes", fail)
    with pytest.raises(RuntimeError, match="no disk left"):
        rendered(Recipe(0, "val", 2, 0.3), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_torch_in_the_renderer() -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; import cmcd_datasets.demo.cache; "
        "sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_thousand_scenes_render_in_seconds(tmp_path: Path) -> None:
    start = time.perf_counter()
    rendered(Recipe(0, "train", 1000, 0.3), tmp_path)
    assert time.perf_counter() - start < 30
