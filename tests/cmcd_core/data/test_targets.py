"""Targets lie where their views lie: proved by pictures and masks whose pixels say where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from cmcd_core import DataError, Modality, Sample
from cmcd_core.catalog import load
from cmcd_core.data.decoded import BoundModality, decode_views
from cmcd_core.data.geometry import draw_geometry
from cmcd_core.data.targets import Targets, nearest, read_targets, upsampled
from cmcd_core.data.views import Views
from cmcd_core.progress import Progress


def segmentation(**options: Any) -> Any:
    part = load().task("segmentation")
    return part.build(part.options(**options))


def read(values: list[Any], side: int, classes: Any = ("a", "b", "c"), task: Any = None) -> Targets:
    keys = [f"k{n}" for n in range(len(values))]
    return read_targets(task or segmentation(), classes, keys, values, side, "test")


# --- nearest


@settings(max_examples=60)
@given(height=st.integers(1, 13), width=st.integers(1, 13), size=st.integers(1, 17))
def test_nearest_against_a_loop(height: int, width: int, size: int) -> None:
    x = torch.arange(2 * height * width).view(1, 2, height, width)
    expected = torch.empty(1, 2, size, size, dtype=x.dtype)
    for row in range(size):
        for column in range(size):
            y, z = int((row + 0.5) * height / size), int((column + 0.5) * width / size)
            expected[:, :, row, column] = x[:, :, y, z]
    assert torch.equal(nearest(x, size), expected)


def test_nearest_is_symmetric_and_mixes_nothing() -> None:
    x = torch.randint(0, 255, (3, 1, 12, 12), generator=torch.Generator().manual_seed(0)).byte()
    for size in (4, 5, 6, 24, 36):
        small = nearest(x, size)
        assert small.dtype == torch.uint8
        assert all(set(a.unique().tolist()) <= set(b.unique().tolist()) for a, b in zip(small, x, strict=True))
    for size in (4, 36):  # where no pixel centre falls between two
        assert torch.equal(nearest(x.flip(-1), size), nearest(x, size).flip(-1))
    assert torch.equal(nearest(nearest(x, 24), 12), x)
    assert nearest(x, 12) is x


def test_outputs_are_brought_to_the_targets() -> None:
    output = torch.randn(2, 3, 4, 6)
    assert upsampled(output, torch.zeros(2, 9, 5)).shape == (2, 3, 9, 5)
    assert upsampled(output, torch.zeros(2, 4, 6)) is output
    flat = torch.randn(2, 3)
    assert upsampled(flat, torch.zeros(2)) is flat


# --- reading


def test_masks_are_kept_squashed_and_at_their_own_size(cache: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 3, shape).astype(np.uint8) for shape in ((8, 12), (20, 6), (10, 10))]
    targets = read(masks, 10)
    assert len(targets.array) == 3
    assert targets.spatial
    assert np.asarray(targets.array).shape == (3, 10, 10)
    for position, mask in enumerate(masks):
        assert np.array_equal(targets.own(position), mask)
        assert torch.equal(targets.at(np.array([position]))[0], nearest(torch.from_numpy(mask)[None, None], 10)[0, 0])
    assert torch.equal(targets.cropped(np.array([2, 0]), None, 10), targets.at(np.array([2, 0])))
    assert targets.cropped(np.array([2, 0]), None, 7).shape == (2, 7, 7)


class Counting:
    """A task that keeps what it reads."""

    def __init__(self) -> None:
        self.task, self.seen = segmentation(), []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def target(self, value: Any) -> Tensor:
        self.seen.append(value)
        return self.task.target(value)


def files(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(1)
    out = []
    for number in range(count):
        out.append(folder / f"{number}.png")
        Image.fromarray(rng.integers(0, 3, (9, 7)).astype(np.uint8)).save(out[-1])
    return out


def test_masks_are_read_once_and_then_found_in_the_cache(cache: Path, tmp_path: Path) -> None:
    paths, task = files(tmp_path, 5), Counting()
    first = read(paths, 8, task=task)
    assert set(task.seen) == set(paths)
    task.seen.clear()
    again = read(paths, 8, task=task)
    assert task.seen == []
    assert np.array_equal(again.array, first.array)
    assert again.digest == first.digest
    assert isinstance(again.array, np.memmap)
    assert torch.equal(again.own(3), segmentation().target(paths[3]))


@pytest.mark.parametrize("changed", ["a file", "the order", "the side", "the classes", "the task"])
def test_other_masks_are_read_again(cache: Path, tmp_path: Path, changed: str) -> None:
    paths = files(tmp_path, 4)
    keys, names = [str(n) for n in range(4)], ("a", "b", "c")
    first = read_targets(segmentation(), names, keys, paths, 8, "one")
    if changed == "a file":
        Image.fromarray(np.ones((9, 7), np.uint8)).save(paths[2])
    order = paths[::-1] if changed == "the order" else paths
    other = read_targets(
        segmentation(), (*names, "d") if changed == "the classes" else names, keys, order,
        6 if changed == "the side" else 8, "two" if changed == "the task" else "one",
    )  # fmt: skip
    assert other.digest != first.digest
    again = nearest(segmentation().target(order[2])[None, None], len(other.array[2]))[0, 0]
    assert np.array_equal(other.array[2], again)


def test_labels_are_one_tensor(cache: Path) -> None:
    part = load().task("recognition")
    targets = read([2, 0, 1], 8, task=part.build(part.options()))
    assert targets.at(np.array([1, 0])).tolist() == [0, 2]
    assert not targets.spatial
    assert int(targets.own(0)) == 2
    assert not list(cache.rglob("targets.npy"))


def broken(folder: Path) -> list[tuple[Any, str]]:
    (folder / "text.png").write_text("no picture")
    Image.new("RGB", (4, 4)).save(folder / "colour.png")
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(folder / "seven.png")
    return [
        (folder / "text.png", "cannot be read"),
        (folder / "missing.png", "cannot be read"),
        (folder / "colour.png", "this is a RGB picture"),
        (folder / "seven.png", "holds class 7, and the data set names 3 classes"),
        (b"no picture", "cannot be read"),
        (lambda: b"no picture", "cannot be read"),
        (np.full((4, 4), 7), "holds class 7"),
    ]


@pytest.mark.parametrize("number", range(7))
def test_errors_name_file_sample_and_target(cache: Path, tmp_path: Path, number: int) -> None:
    value, message = broken(tmp_path)[number]
    with pytest.raises(DataError) as caught:
        read([np.zeros((4, 4), np.uint8), value], 8)
    assert message in caught.value.message
    assert "'mask'" in caught.value.message
    assert "k1" in caught.value.message
    assert not isinstance(value, Path) or str(value) in caught.value.message
    assert not list(cache.rglob("targets.npy"))  # nothing half written is found later


# --- the geometry


class Coded(NamedTuple):
    """How one modality's pictures say where they are: a raw picture of a coordinate in [0, 1], and back."""

    options: dict[str, Any]
    raw: Callable[[np.ndarray], np.ndarray]
    coordinate: Callable[[Tensor], Tensor]


NEAR, FAR = 0.5, 8.0
CODED = {
    "image": Coded(
        {"jitter_probability": 0, "grayscale": 0, "blur": 0},
        lambda c: np.repeat((c * 255).round().astype(np.uint8)[..., None], 3, axis=2),
        lambda x: x.mean(1),
    ),
    "sketch": Coded(
        {"thickness": 0, "gaps": 0, "jitter": 0, "rotation": 0, "shear": 0, "polarity": "dark"},
        lambda c: ((1 - c) * 255).round().astype(np.uint8),
        lambda x: x[:, 0],
    ),
    "depth": Coded(
        {"unit": "m", "encoding": "log", "near": NEAR, "far": FAR}
        | {"scale_jitter": 0, "hole_probability": 0, "noise": 0},
        lambda c: (NEAR * (FAR / NEAR) ** (1 - c)).astype(np.float32),
        lambda x: (x[:, 0] - 0.1) / 0.9,
    ),
}
"""Photometric augmentation is off: it says nothing about where a pixel lies."""
TOP = 250
"""The mask's ids run from 0 to this."""
STEEP = 2.5
KINDS = 4


def spatial() -> list[str]:
    """Every first-party modality that is a picture."""
    found = []
    for plugin, part in load().all("modality"):
        if plugin.distribution == "cmcd" and part.build(part.options()).spatial:
            found.append(part.name)
    return found


SPATIAL = spatial()


def bound(name: str, options: dict[str, Any]) -> BoundModality:
    part = load().modality(name)
    modality: Modality = part.build(part.options(**options))
    return BoundModality(name, {"plugin": name, "name": name, "options": options}, modality)


def grids(height: int, width: int) -> list[np.ndarray]:
    """(H, W) pictures that rise from 0 to 1 over two fifths of the height or width: down, up, right and left of the
    middle. The plain half is the paper without which a sketch is none."""
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    return [np.clip(STEEP * one, 0, 1) for one in (y - 0.5, 0.5 - y, x - 0.5, 0.5 - x)]


def both(name: str, shape: tuple[int, int], size: int, count: int = 12 * KINDS) -> tuple[Views, Targets]:
    """``count`` pictures of the kinds in turn, with masks whose ids are the same numbers."""
    coded = CODED[name]
    kinds = grids(*shape)
    samples = [Sample(f"{n}", {name: coded.raw(kinds[n % KINDS])}) for n in range(count)]
    made = bound(name, coded.options)
    decoded = decode_views(samples, made, size, on_error="fail", progress=Progress(), title="")
    masks = [(kinds[n % KINDS] * TOP).round().astype(np.uint8) for n in range(count)]
    targets = read(masks, decoded.array.shape[-1], [str(n) for n in range(TOP + 1)])
    return Views(decoded, made, size, torch.device("cpu")), targets


def pixel(*sides: int) -> float:
    """How much a picture rises over one and a half pixels of the coarsest of the grids in play: raw, stored, seen."""
    return 1.5 * STEEP / min(sides)


def test_every_spatial_modality_is_proved() -> None:
    assert {"image", "sketch", "depth"} <= set(SPATIAL) <= set(CODED)


SHAPES = [((48, 48), 32), ((30, 64), 32), ((90, 60), 24), ((20, 17), 32), ((33, 150), 48)]
"""(height, width) of the raw pictures, and the side of what the encoder sees: smaller, larger, upright, oblong."""


@pytest.mark.parametrize(("shape", "size"), SHAPES)
@pytest.mark.parametrize("name", SPATIAL)
def test_crops_and_mirrorings_of_views_and_masks_lie_on_the_same_pixels(
    name: str, shape: tuple[int, int], size: int, cache: Path
) -> None:
    views, targets = both(name, shape, size)
    rows = np.arange(len(views))
    geometry = draw_geometry(len(rows), torch.Generator().manual_seed(3), area_min=0.3, flip=True)
    seen = CODED[name].coordinate(views.augmented(rows, 5, area_min=1.0, flip=False, geometry=geometry))
    said = targets.cropped(rows, geometry, size).float() / TOP
    assert seen.shape == said.shape == (len(rows), size, size)
    apart = (seen - said)[:, 2:-2, 2:-2]  # at a border an antialiasing filter has one side only
    assert apart.abs().max() < pixel(*shape, size)
    for kind in range(KINDS):
        assert apart[kind::KINDS].mean().abs() < 0.15 * pixel(*shape, size)  # and not to one side
    # There were crops and mirrorings to follow.
    assert float(geometry.height.min()) < 0.7
    right = said[2::KINDS]
    rises, mirrored = (right[:, :, -1] - right[:, :, 0]).sum(1), geometry.flip[2::KINDS]
    assert (rises[mirrored] < 0).any()
    assert (rises[mirrored] <= 0).all()
    assert (rises[~mirrored] > 0).any()
    assert (rises[~mirrored] >= 0).all()


@pytest.mark.parametrize("name", SPATIAL)
def test_another_geometry_would_be_seen(name: str, cache: Path) -> None:
    """The proof's own control: numbers that a mask does not share with its view, and a shift by two pixels."""
    views, targets = both(name, (48, 48), 32)
    rows = np.arange(len(views))
    one, other = (draw_geometry(len(rows), torch.Generator().manual_seed(s), area_min=0.3, flip=True) for s in (3, 4))
    seen = CODED[name].coordinate(views.augmented(rows, 5, area_min=1.0, flip=False, geometry=one))
    apart = (seen - targets.cropped(rows, other, 32) / TOP).abs()[:, 2:-2, 2:-2].amax((1, 2))
    assert (apart > pixel(32)).float().mean() > 0.8
    shifted = (targets.cropped(rows, one, 32) / TOP).roll((2, 2), (1, 2))
    assert ((seen - shifted).abs()[:, 4:-4, 4:-4].amax((1, 2)) > pixel(32)).float().mean() > 0.5


@pytest.mark.parametrize("at", [16, 32, 80])
@pytest.mark.parametrize("name", SPATIAL)
def test_whole_pictures_at_other_sizes(name: str, at: int, cache: Path) -> None:
    """What the source encoder sees of the target is of another size than what is stored."""
    views, targets = both(name, (30, 64), 32, count=KINDS)
    rows = np.arange(KINDS)
    seen, said = CODED[name].coordinate(views.at(at).plain(rows)), targets.cropped(rows, None, at) / TOP
    assert seen.shape == said.shape == (KINDS, at, at)
    assert (seen - said).abs().max() < pixel(30, at)
    assert (seen - said).mean((1, 2)).abs().max() < 0.15 * pixel(30, at)


def regions(height: int, width: int) -> np.ndarray:
    """Four quarters and a box in the middle, as ids 0 to 4: no two mirrorings or turns of it are alike."""
    ids = np.zeros((height, width), np.uint8)
    ids[: height // 2, width // 2 :] = 1
    ids[height // 2 :, : width // 2] = 2
    ids[height // 2 :, width // 2 :] = 3
    ids[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 4
    return ids


RIM = 2
"""Pixels of 64 beside a border where another thing may show: blur, and thicker strokes."""


@pytest.mark.parametrize("name", SPATIAL)
def test_augmentation_moves_nothing_far(name: str, cache: Path) -> None:
    """With augmentation as it is by default, of pictures that show one region of a mask: bright, inked, or near."""
    size, ids = 64, regions(64, 64)
    options = {key: value for key, value in CODED[name].options.items() if key in ("unit", "polarity")}
    made = bound(name, options)
    shown = np.arange(60) % 5
    raws = [CODED[name].raw((ids == number) * 0.9 + 0.05) for number in shown]
    samples = [Sample(str(n), {name: raw}) for n, raw in enumerate(raws)]
    decoded = decode_views(samples, made, size, on_error="fail", progress=Progress(), title="")
    views, targets = Views(decoded, made, size, torch.device("cpu")), read([ids] * len(shown), 64, tuple("abcde"))
    rows = np.arange(len(shown))
    geometry = draw_geometry(len(rows), torch.Generator().manual_seed(0), area_min=0.5, flip=True)
    x = views.augmented(rows, 9, area_min=1.0, flip=False, geometry=geometry).mean(1)
    inside = targets.cropped(rows, geometry, size) == torch.from_numpy(shown)[:, None, None]
    inner, outer = shrunk(inside, RIM), shrunk(~inside, RIM)
    checked = 0
    for one, within, without in zip(x, inner, outer, strict=True):
        if within.any() and without.any():  # holes and gaps may hide a part: they bring nothing to where nothing is
            middle = (one[within].median() + one[without].median()) / 2
            assert (one[within] > middle).float().mean() > 0.5
            assert not (one[without] > middle).any()
            checked += 1
    assert checked > 50


def shrunk(region: Tensor, by: int) -> Tensor:
    """(N, H, W) bool, less a rim of ``by`` pixels."""
    return -torch.nn.functional.max_pool2d(-region[:, None].float(), 2 * by + 1, 1, by)[:, 0] > 0.5
