"""Views that cannot be read, say nothing, or are on another scale than they are taken for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from ..interfaces.loader import SPLITS
from .finding import Finding, of, problem, warning
from .look import Looked, Seen
from .opened import Opened, skips

DARK = 0.1
"""A picture's largest value below which all of a set's pictures are taken for something else, such as class ids."""
SPREAD = 100.0
"""Times larger or smaller than the usual view: a desk and a landscape are not so far apart."""
MOST_SHARE = 0.5


def unreadable(opened: Opened, looked: Looked) -> Iterator[Finding]:
    """Missing files, and views that their modality does not decode."""
    if opened.missing is not None:
        yield problem("missing", opened.missing.message.rstrip("."), opened.missing.hint, _left_out(opened))
    kind = warning if skips(opened) else problem
    for name in opened.modalities:
        for split in SPLITS:
            every = [view for view in looked.views[split, name] if view is not None]
            if messages := [view for view in every if isinstance(view, str)]:
                text = f"{of(len(messages), f'{name} view')} of {split} (of {len(every)}) cannot be read"
                whole = problem if len(messages) == len(every) else kind
                yield whole(
                    "unreadable", text, "Export them again, or -o data.on_error=skip leaves them out.", messages
                )


def constant(opened: Opened, looked: Looked) -> Iterator[Finding]:
    """Views of a single value."""
    for name in opened.modalities:
        for split in SPLITS:
            every = list(looked.seen(split, name))
            flat = [looked.samples[split][at].key for at, view in every if view.low == view.high]
            if flat:
                kind = problem if len(flat) == len(every) else warning
                text = f"{of(len(flat), f'{name} view')} of {split} (of {len(every)}) hold one value throughout"
                yield kind("constant", text, "They tell an encoder nothing: leave them out.", flat)


def scaled(opened: Opened, looked: Looked) -> Iterator[Finding]:
    """Another unit, or another range, than the values are taken for."""
    for name, bound in opened.modalities.items():
        found = [(looked.samples[split][at].key, view) for split in SPLITS for at, view in looked.seen(split, name)]
        yield from _doubted(name, found)
        if bound.modality.storage == "uint8":
            yield from _dark(name, found)
        elif bound.modality.spatial:
            yield from _mixed(name, found)


def _doubted(name: str, found: list[tuple[str, Seen]]) -> Iterator[Finding]:
    counts = Counter(view.doubt for _, view in found if view.doubt)
    for doubt, count in counts.most_common():
        if count > MOST_SHARE * len(found) or count >= 3:
            keys = [key for key, view in found if view.doubt == doubt]
            text = f"{of(count, f'{name} view')} (of {len(found)}): {doubt}"
            yield warning("scale", text, f"Say so in dataset.toml, under [{name}], or convert the files.", keys)


def _dark(name: str, found: list[tuple[str, Seen]]) -> Iterator[Finding]:
    highest = max((view.high for _, view in found), default=1.0)
    if 0 < highest < DARK:
        text = f"no {name} view is brighter than {highest:.3f} of white: class ids, or values from 0 to 1 in 8 bits?"
        yield warning("scale", text, "Multiply the values before they are saved.", [key for key, _ in found])


def _mixed(name: str, found: list[tuple[str, Seen]]) -> Iterator[Finding]:
    middles = {key: view.middle for key, view in found if view.middle > 0}
    if not middles:
        return
    usual = float(np.median(list(middles.values())))
    odd = [key for key, middle in middles.items() if max(middle / usual, usual / middle) >= SPREAD]
    if odd:
        text = (
            f"{of(len(odd), f'{name} view')} (of {len(middles)}) are over a hundred times larger or smaller than usual"
        )
        yield warning("scale", text, "Are they in another unit than the others?", odd)


def _left_out(opened: Opened) -> list[str]:
    return [note for note in opened.loader.notes if note.startswith("Left out")]
