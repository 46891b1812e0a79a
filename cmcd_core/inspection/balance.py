"""Splits and classes that are too small to learn from or to measure on."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding, of, problem, warning
from .look import Looked
from .opened import Opened
from .samples import label_counts

FEW_PAIRS = 50
FEW_TESTED = 30
FEW_OF_A_CLASS = 5
"""The default label budget is five a class."""
UNEVEN = 10.0


def splits(opened: Opened, looked: Looked) -> Iterator[Finding]:
    """Splits that are empty or tiny."""
    for split, total in looked.totals.items():
        if not total and split == "train":
            yield problem("split", "the training split is empty", "Every step learns from it.")
        elif not total:
            use = {"val": "choosing among epochs and options", "test": "step 3"}[split]
            yield warning("split", f"the {split} split is empty", f"It serves {use}.")
    if len(opened.modalities) > 1:
        yield from _pairs(looked, sorted(opened.modalities))
    tested = sum("label" in sample.targets for sample in looked.samples["test"])
    if looked.totals["test"] == len(looked.samples["test"]) and 0 < tested < FEW_TESTED:
        text = f"only {of(tested, 'test sample')} have a label"
        yield warning("split", text, "Intervals will be wide: one sample more or less is several points.")


def _pairs(looked: Looked, modalities: list[str]) -> Iterator[Finding]:
    samples = looked.samples["train"]
    pairs = sum(sum(name in sample.views for name in modalities) > 1 for sample in samples)
    if not samples or len(samples) < looked.totals["train"]:
        return
    if pairs < 2:
        text = f"the training split has {of(pairs, 'pair')} among {of(len(samples), 'sample')}"
        yield problem("split", text, "Step 2 needs at least two.")
    elif pairs < FEW_PAIRS:
        yield warning("split", f"the training split has only {pairs} pairs", "Step 2 learns little from so few.")


def classes(opened: Opened, looked: Looked) -> Iterator[Finding]:
    """Classes that are rare, uneven, or only tested."""
    train, test = label_counts(opened, looked, "train"), label_counts(opened, looked, "test")
    if not train:
        return
    if unseen := sorted(name for name in test if name not in train):
        text = f"{of(len(unseen), 'class')} of test have no training sample"
        yield warning("class", text, "They are always wrong.", unseen)
    rare = sorted(name for name, count in train.items() if count < FEW_OF_A_CLASS)
    if rare:
        text = f"{of(len(rare), 'class')} of train (of {len(train)}) have fewer than {FEW_OF_A_CLASS} labels"
        yield warning("class", text, "The default budget is five labels a class.", rare)
    (most, largest), (least, smallest) = train.most_common(1)[0], train.most_common()[-1]
    if largest >= UNEVEN * smallest:
        text = f"the training classes are uneven: {largest} of {most}, {smallest} of {least}"
        yield warning("balance", text, "Top-1 accuracy is mostly about the large classes.")
