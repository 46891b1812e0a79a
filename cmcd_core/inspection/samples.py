"""What a sample says of itself: its key, its weight, its targets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from ..data.targets import read_target
from ..errors import CmcdError
from ..interfaces.loader import SPLITS, Sample, Split
from ..interfaces.task import Task
from .finding import Finding, of, problem, warning
from .look import Looked
from .opened import Opened


def keys_and_weights(looked: Looked) -> Iterator[Finding]:
    """Keys that are not unique, weights that are none."""
    every = [sample for split in SPLITS for sample in looked.samples[split]]
    counts = Counter(sample.key for sample in every)
    if twice := [key for key, count in counts.items() if count > 1]:
        yield problem("key", f"{of(len(twice), 'key')} stand for more than one sample", "Each needs its own.", twice)
    wrong = [sample.key for sample in every if not (math.isfinite(sample.weight) and sample.weight >= 0)]
    if wrong:
        yield problem("weight", f"{of(len(wrong), 'weight')} are below 0 or no number", "Expected 0 or more.", wrong)


def targets(opened: Opened, looked: Looked) -> Iterator[Finding]:
    """Labels and masks that the task which reads them would refuse: ids out of range, pictures that are no masks."""
    for name in sorted({name for split in SPLITS for sample in looked.samples[split] for name in sample.targets}):
        task = opened.tasks.get(name)
        if task is None:
            yield warning("target", f"no installed task reads the target {name!r}", "It is not looked into.")
            continue
        for split in SPLITS:
            labelled = [sample for sample in looked.samples[split] if name in sample.targets]
            if refused := list(_refused(labelled, name, task, opened.loader.classes.get(name))):
                text = f"{of(len(refused), name)} of {split} (of {len(labelled)}) cannot be used"
                yield problem("target", text, refused[0].hint, [error.message for error in refused])


def _refused(samples: Sequence[Sample], name: str, task: Task, classes: Sequence[str] | None) -> Iterator[CmcdError]:
    for sample in samples:
        try:
            read_target(task, sample.key, sample.targets[name], classes)
        except CmcdError as error:
            yield error


def aligned_sizes(opened: Opened, looked: Looked) -> Iterator[Finding]:
    """Views that are said to lie on one pixel grid, but have not one shape."""
    together = sorted(opened.loader.aligned & opened.modalities.keys())
    for split in SPLITS:
        shapes: dict[int, list[float]] = {}
        for name in together:
            for at, view in looked.seen(split, name):
                shapes.setdefault(at, []).append(view.shape[2] / view.shape[1])
        odd = [looked.samples[split][at].key for at, ratios in shapes.items() if max(ratios) > 1.02 * min(ratios)]
        if odd:
            text = (
                f"{of(len(odd), 'sample')} of {split}: {' and '.join(together)} are aligned, but of unequal proportions"
            )
            yield warning("aligned", text, "Leave those out of `aligned` that do not lie on one pixel grid.", odd)


def label_of(opened: Opened, sample: Sample) -> str:
    """The name of the sample's class, for people; "" where it has none."""
    value = sample.targets.get("label")
    names = opened.loader.classes.get("label", ())
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return "" if value is None else str(value)


def label_counts(opened: Opened, looked: Looked, split: Split) -> Counter[str]:
    """Samples of each class in what was looked at."""
    labels = (label_of(opened, sample) for sample in looked.samples[split])
    return Counter(label for label in labels if label)
