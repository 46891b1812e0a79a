"""Public data sets in the layouts that they are downloaded in: options, and how each is told from others.

Light, as `cmcd_datasets` is: what reads them is imported when it is built. Each loader's file says what it expects.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cmcd_core.plugin import Field, LoaderOptions, LoaderPlugin

from .folder.table import NAMES
from .options import SplitOptions

if TYPE_CHECKING:
    from cmcd_core import PairedLoader

NYU_MAT = "nyu_depth_v2_labeled.mat"
SUN_SENSORS = ("kv1", "kv2", "realsense", "xtion")


class SketchyOptions(SplitOptions):
    """Options of the `sketchy` loader."""

    photo: str = Field("tx_000000000000", description="Which rendering of the photos: a folder below photo/.")
    sketch: str = Field("tx_000000000000", description="Which rendering of the sketches: a folder below sketch/.")
    drop: tuple[Literal["ambiguous", "context", "error", "pose"], ...] = Field(
        (), description="Leave out the sketches that info/invalid-….txt lists for this."
    )


class TUBerlinOptions(SplitOptions):
    """Options of the `tu_berlin` loader."""


class NYUOptions(SplitOptions):
    """Options of the `nyuv2` loader."""

    raw_depth: bool = Field(
        False,
        description="The sensor's own depth, with its holes, instead of the filled one: rawDepths of the .mat, or "
        "train/depth_raw/ and test/depth_raw/.",
    )


class SUNOptions(SplitOptions):
    """Options of the `sunrgbd` loader."""

    depth: Literal["depth", "depth_bfx"] = Field(
        "depth", description="Which depth: the sensor's own, or depth_bfx, filled and smoothed."
    )
    scenes: Literal["19", "all"] = Field(
        "19", description="Labels: the 19 scenes of the benchmark (others get none), or every scene there is."
    )


class VGGSoundOptions(SplitOptions):
    """Options of the `vggsound` loader."""


class ESC50Options(LoaderOptions):
    """Options of the `esc50` loader."""

    test_fold: int = Field(5, ge=1, le=5, description="The fold that is tested on.")
    val_fold: int = Field(4, ge=1, le=5, description="The fold for val; the others are train.")
    esc10: bool = Field(False, description="The ten classes of ESC-10 alone.")


class PACSOptions(SplitOptions):
    """Options of the `pacs` loader."""

    image: str = Field("photo", description="The domain that serves as image: photo, art_painting or cartoon.")
    sketch: str = Field("sketch", description="The domain that serves as sketch.")


def sketchy_root(path: Path) -> Path | None:
    """The folder that holds photo/ and sketch/ with tx_… renderings."""
    for root in (path, path / "256x256", path / "rendered_256x256" / "256x256"):
        if all(any((root / name).glob("tx_*")) for name in ("photo", "sketch")):
            return root
    return None


def tu_berlin_root(path: Path) -> Path | None:
    """The folder that holds a folder a class, and filelist.txt."""
    for root in (path, path / "png"):
        if (root / "filelist.txt").is_file() and any(root.glob("*/*.png")):
            return root
    return None


def nyu_split_folders(path: Path) -> bool:
    """train/rgb, train/depth … of single files."""
    return (path / "train" / "rgb").is_dir() and (path / "train" / "depth").is_dir()


def _unless_told(recognises: Callable[[Path], bool]) -> Callable[[Path], bool]:
    """Who writes a metadata file wants it read."""

    def told(path: Path) -> bool:
        return not any((path / name).is_file() for name in NAMES) and recognises(path)

    return told


def _is_sketchy(path: Path) -> bool:
    return sketchy_root(path) is not None


def _is_tu_berlin(path: Path) -> bool:
    return tu_berlin_root(path) is not None


def _is_nyu(path: Path) -> bool:
    return path.name == NYU_MAT or (path / NYU_MAT).is_file() or nyu_split_folders(path)


def _is_sun(path: Path) -> bool:
    return any((root / sensor).is_dir() for root in (path, path / "SUNRGBD") for sensor in SUN_SENSORS)


def _is_vggsound(path: Path) -> bool:
    return (path / "vggsound.csv").is_file()


def _is_esc50(path: Path) -> bool:
    return (path / "meta" / "esc50.csv").is_file()


def _is_pacs(path: Path) -> bool:
    return (path / "art_painting").is_dir() and (path / "photo").is_dir() and (path / "sketch").is_dir()


def _builder(module: str, name: str) -> Callable[[Any], PairedLoader]:
    """Import the loader when it is built."""

    def build(options: Any) -> PairedLoader:
        loader: PairedLoader = getattr(import_module(f".{module}", __package__), name)(options)
        return loader

    return build


KNOWN: list[LoaderPlugin[Any]] = [
    LoaderPlugin(
        name="sketchy",
        summary="The Sketchy database: sketches of photos (photo/tx_…/CLASS, sketch/tx_…/CLASS).",
        options=SketchyOptions,
        build=_builder("sketchy", "SketchyLoader"),
        recognises=_unless_told(_is_sketchy),
    ),
    LoaderPlugin(
        name="tu_berlin",
        summary="TU-Berlin sketches: png/CLASS/NUMBER.png; no photos, so for steps 1 and 3.",
        options=TUBerlinOptions,
        build=_builder("tu_berlin", "TUBerlinLoader"),
        recognises=_unless_told(_is_tu_berlin),
    ),
    LoaderPlugin(
        name="nyuv2",
        summary="NYU Depth V2: nyu_depth_v2_labeled.mat (needs cmcd[hdf5]), or train/rgb, train/depth, test/….",
        options=NYUOptions,
        build=_builder("nyuv2", "NYULoader"),
        recognises=_unless_told(_is_nyu),
    ),
    LoaderPlugin(
        name="sunrgbd",
        summary="SUN RGB-D: kv1/, kv2/, realsense/, xtion/; its rotated depth is decoded, scenes are labels.",
        options=SUNOptions,
        build=_builder("sunrgbd", "SUNLoader"),
        recognises=_unless_told(_is_sun),
    ),
    LoaderPlugin(
        name="vggsound",
        summary="VGGSound: vggsound.csv, and a frame and the sound of each clip.",
        options=VGGSoundOptions,
        build=_builder("vggsound", "VGGSoundLoader"),
        recognises=_unless_told(_is_vggsound),
    ),
    LoaderPlugin(
        name="esc50",
        summary="ESC-50: meta/esc50.csv and audio/; sounds alone, by fold.",
        options=ESC50Options,
        build=_builder("esc50", "ESC50Loader"),
        recognises=_unless_told(_is_esc50),
    ),
    LoaderPlugin(
        name="pacs",
        summary="PACS: photo/, art_painting/, cartoon/, sketch/; pairs of one class.",
        options=PACSOptions,
        build=_builder("pacs", "PACSLoader"),
        recognises=_unless_told(_is_pacs),
    ),
]
