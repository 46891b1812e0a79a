"""The loader "npz". This module is light: options are checked before numpy is imported."""

from cmcd_core.plugin import Field, LoaderOptions, LoaderPlugin, hookimpl


class NpzOptions(LoaderOptions):
    aligned: bool = Field(False, description="Whether all modalities, and the mask, lie on one pixel grid.")


def build(options: NpzOptions):
    from .loader import NpzLoader  # numpy comes in here

    return NpzLoader(options)


def recognises(path):
    return (path / "train.npz").is_file()


@hookimpl
def cmcd_loaders():
    summary = "A folder with train.npz, val.npz, test.npz: an array a modality, row i of each is sample i."
    return [LoaderPlugin(name="npz", summary=summary, options=NpzOptions, build=build, recognises=recognises)]
