import numpy as np

from cmcd_core import ConfigError, DataError, PairedLoader, Sample


class NpzLoader(PairedLoader):
    """Arrays of one number a sample, and the mask, are targets; the others are modalities."""

    def __init__(self, options):
        if options.root is None:
            raise ConfigError("the npz loader needs a folder", "Name it: --data FOLDER")
        self.arrays = {split: read(options.root / f"{split}.npz") for split in ("train", "val", "test")}
        train = self.arrays["train"].items()
        self.modalities = frozenset(name for name, array in train if array.ndim > 1 and name != "mask")
        self.aligned = self.modalities if options.aligned else frozenset()
        if labels := [arrays["label"] for arrays in self.arrays.values() if "label" in arrays]:
            self.classes = {"label": [f"class {number}" for number in range(np.concatenate(labels).max() + 1)]}

    def split(self, name):
        arrays, samples = self.arrays[name], []
        for number, row in enumerate(zip(*arrays.values(), strict=True)):
            targets = dict(zip(arrays, row, strict=True))
            views = {modality: targets.pop(modality) for modality in self.modalities & targets.keys()}
            samples.append(Sample(f"{name}-{number}", views, targets))
        return samples


def read(file):
    """Name -> array, all of one length. There may be no val and test."""
    try:
        arrays = dict(np.load(file, allow_pickle=False)) if file.is_file() or file.stem == "train" else {}
    except Exception as error:
        raise DataError(f"{file}: cannot be read: {error}", "Write it with numpy.savez.") from error
    if len({len(array) for array in arrays.values()}) > 1:
        raise DataError(f"{file}: its arrays differ in length", "Row i of each is sample i.")
    return arrays
