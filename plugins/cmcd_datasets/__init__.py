"""Paired data: the `folder` layout that a user brings, tars of it (`shards`), the `demo` data that is made here, and
public data sets as they are downloaded.

Options and descriptors only: neither numpy nor torch is loaded until a loader is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cmcd_core.plugin import Field, LoaderOptions, LoaderPlugin, hookimpl

from .layouts import KNOWN
from .options import SplitOptions

if TYPE_CHECKING:
    from cmcd_core import PairedLoader

__all__ = ["DemoOptions", "FolderOptions", "ShardsOptions", "cmcd_loaders"]


class FolderOptions(SplitOptions):
    """Options of the `folder` loader.

    What is left at None is taken from `dataset.toml`, then from the default that its description names.
    """

    label_column: str | None = Field(
        None,
        description="Column of the metadata that holds the class; default: label, where there is one. "
        'An empty text ("") means: no labels, class subfolders included.',
    )
    pairs: Literal["instance", "label"] | None = Field(
        None, description="What a pair is: two views of one thing, or two things of one class; default: instance."
    )
    aligned: tuple[str, ...] | None = Field(
        None, description="Modalities that lie on one pixel grid, together with the mask; default: none."
    )
    allow_outside: bool = Field(
        False, description="Accept paths in the metadata that are absolute or leave the folder by '..'."
    )
    group_column: str | None = Field(
        None,
        description="Column whose equal values stay in one split, such as the person or the scene; "
        "default: rows that share a file stay together.",
    )


class ShardsOptions(LoaderOptions):
    """Options of the `shards` loader. What is left at None is taken from `dataset.toml`."""

    pairs: Literal["instance", "label"] | None = Field(
        None, description="What a pair is: two views of one thing, or two things of one class; default: instance."
    )
    aligned: tuple[str, ...] | None = Field(
        None, description="Modalities that lie on one pixel grid, together with the mask; default: none."
    )


class DemoOptions(LoaderOptions):
    """Options of the `demo` data."""

    seed: int = Field(0, ge=0, description="Draws the scenes.")
    train: int = Field(2000, ge=1, description="Scenes for training.")
    val: int = Field(300, ge=0, description="Scenes for validation.")
    test: int = Field(600, ge=0, description="Scenes for testing.")
    noise: float = Field(0.5, ge=0, le=1, description="Strength of each sensor's noise.")
    shuffled: float = Field(
        0.0, ge=0, le=1, description="Share of the training pairs that are broken: the image of another scene."
    )


def _build_folder(options: FolderOptions) -> PairedLoader:
    from .folder.loader import FolderLoader

    return FolderLoader(options)


def _is_folder(path: Path) -> bool:
    """A public data set's own layout may look like one folder a modality: photo/, sketch/."""
    from .folder.recognise import recognises

    return recognises(path) and not any(known.recognises(path) for known in KNOWN)


def _build_shards(options: ShardsOptions) -> PairedLoader:
    from .shards.loader import ShardsLoader

    return ShardsLoader(options)


def _recognises_shards(path: Path) -> bool:
    tars = [tar.name for tar in path.glob("*.tar")]
    return any(name.startswith(("train", "val", "test")) for name in tars) or (bool(tars) and not _is_folder(path))


def _build_demo(options: DemoOptions) -> PairedLoader:
    from .demo.loader import DemoLoader

    return DemoLoader(options)


def _never(path: Path) -> bool:
    return False  # the demo data lies at no path: it is asked for by name, or by naming no data


@hookimpl
def cmcd_loaders() -> list[LoaderPlugin[Any]]:
    return [
        LoaderPlugin(
            name="folder",
            summary="A folder with metadata.csv or .jsonl, or with one subfolder a modality, paired by file name.",
            options=FolderOptions,
            build=_build_folder,
            recognises=_is_folder,
        ),
        LoaderPlugin(
            name="shards",
            summary="A folder of WebDataset tars: train-000000.tar …, as `cmcd data pack` writes them.",
            options=ShardsOptions,
            build=_build_shards,
            recognises=_recognises_shards,
        ),
        LoaderPlugin(
            name="demo",
            summary="Rendered scenes of ten classes: image, depth, sketch and audio, with label and mask.",
            options=DemoOptions,
            build=_build_demo,
            recognises=_never,
        ),
        *KNOWN,
    ]
