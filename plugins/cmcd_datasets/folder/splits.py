"""Splits made here: whole groups, stratified by label, the same for any order of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from .row import SPLITS, Row, counted


@dataclass(frozen=True)
class Shares:
    """Shares of the rows; the rest is train."""

    val: float
    test: float


@dataclass(frozen=True)
class Group:
    """Rows that stay together. `order` is drawn from the seed and the rows' keys, so it is as good as random."""

    rows: list[Row]
    label: str
    order: bytes


def complete_splits(rows: list[Row], shares: Shares, seed: int, source: str, by: str | None) -> list[str]:
    """Fill in the splits that the data does not bring; returns sentences that say what was done."""
    if not rows:
        return []
    given = {row.split for row in rows} - {None}
    if given - {"train"} and ("val" in given or "train" not in given):
        return [*_absent_note(given, source), *_leaks(rows)]
    carve_only = "test" in given
    chosen = [row for row in rows if row.split in (None, "train")]
    groups = make_groups(chosen, seed)
    assign(groups, Shares(shares.val, 0.0) if carve_only else shares, seed)
    how = (
        f"whole groups ({f'equal {by}' if by else 'rows that share a file'}), by label where there is one, seed {seed}"
    )
    if carve_only:
        taken = sum(row.split == "val" for row in chosen)
        note = f"{source} has no val split: {taken} of its {counted(len(chosen), 'train row')} serve as val ({how})."
        return [note, *_leaks(rows)]
    sizes = Counter(row.split for row in rows)
    said = ", ".join(f"{sizes[name]} {name}" for name in SPLITS)
    lacks = "has no val and test split" if given else "names no splits"
    return [f"{source} {lacks}, so they were made here: {said} rows ({how}).", *_big(groups, rows)]


def make_groups(rows: Sequence[Row], seed: int) -> list[Group]:
    """Rows of one `group`; without it, rows that share any file, directly or through others."""
    together: dict[object, list[Row]] = {}
    for row, root in zip(rows, _roots(rows), strict=True):
        together.setdefault(root, []).append(row)
    groups = []
    for members in together.values():
        first = members[0]
        name = f"group {first.group}" if first.group is not None else min(row.key for row in members)
        groups.append(Group(members, _commonest(members), _draw(seed, name)))
    return sorted(groups, key=lambda g: (g.order, min(row.key for row in g.rows)))


def assign(groups: Sequence[Group], shares: Shares, seed: int) -> None:
    """Write train, val or test into every row."""
    strata: dict[str, list[Group]] = {}
    for group in groups:
        strata.setdefault(group.label, []).append(group)
    if 2 * len(strata) > len(groups):
        strata = {"": list(groups)}  # labels hardly repeat: there is nothing to stratify by
    owed = {"test": 0.0, "val": 0.0}  # rows that rounding in one stratum owes to the next
    for label in sorted(strata, key=lambda name: _draw(seed, f"label {name}")):
        _assign_stratum(strata[label], shares, owed)
    _none_empty(groups, shares)


def _assign_stratum(groups: Sequence[Group], shares: Shares, owed: dict[str, float]) -> None:
    total = sum(len(g.rows) for g in groups)
    largest = max(len(g.rows) for g in groups)
    wanted = {"test": total * shares.test, "val": total * shares.val}
    goals = {name: share + owed[name] if share else 0.0 for name, share in wanted.items()}
    taken = dict.fromkeys(goals, 0)
    _put(groups[0], "train")  # every class can be learnt
    for group in groups[1:]:
        size = len(group.rows)
        place = next((name for name, goal in goals.items() if taken[name] + size / 2 <= goal), "train")
        if place != "train":
            taken[place] += size
        _put(group, place)
    for name, goal in goals.items():
        # Bounded, so that classes too small to give any do not make a later one give all.
        owed[name] = max(-largest, min(largest, goal - taken[name]))


def _none_empty(groups: Sequence[Group], shares: Shares) -> None:
    """In tiny data, rounding may leave nothing for a split that was asked for: give it one group of train."""
    for name, share in (("test", shares.test), ("val", shares.val)):
        if not share or any(g.rows[0].split == name for g in groups):
            continue
        train = [g for g in groups if g.rows[0].split == "train"]
        if len(train) > 1:
            per_label = Counter(g.label for g in train)
            _put(min(train, key=lambda g: (-per_label[g.label], len(g.rows), g.order)), name)


def _put(group: Group, split: str) -> None:
    for row in group.rows:
        row.split = split


def _roots(rows: Sequence[Row]) -> list[object]:
    """For each row, what names its group: union-find over the files."""
    parent = list(range(len(rows)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    owner: dict[str, int] = {}
    for i, row in enumerate(rows):
        if row.group is not None:
            continue
        for name in _files(row):
            parent[find(i)] = find(owner.setdefault(name, i))
    return [find(i) if row.group is None else ("group", row.group) for i, row in enumerate(rows)]


def _files(row: Row) -> Iterable[str]:
    yield from row.files.values()
    if row.mask:
        yield row.mask


def _commonest(rows: Sequence[Row]) -> str:
    if len(rows) == 1:
        return rows[0].label or ""
    counts = Counter(row.label or "" for row in rows)
    return min(counts, key=lambda label: (-counts[label], label))


def _draw(seed: int, name: str) -> bytes:
    return blake2b(f"{seed} {name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _absent_note(given: set[str | None], source: str) -> list[str]:
    absent = [name for name in SPLITS if name not in given]
    return [f"{source} has no {' and no '.join(absent)} rows."] if absent else []


def _leaks(rows: Sequence[Row]) -> list[str]:
    """Files in two given splits: the user's to judge, but the user's to know."""
    seen: dict[str, str | None] = {}
    leaked = {name for row in rows for name in row.files.values() if seen.setdefault(name, row.split) != row.split}
    if not leaked:
        return []
    verb = "is" if len(leaked) == 1 else "are"
    return [
        f"{counted(len(leaked), 'file')} {verb} in more than one split, such as {min(leaked)}: scores are flattered."
    ]


def _big(groups: Sequence[Group], rows: Sequence[Row]) -> list[str]:
    largest = max(groups, key=lambda g: len(g.rows))
    if len(rows) < 4 or 2 * len(largest.rows) <= len(rows):
        return []
    return [f"One group holds {len(largest.rows)} of {len(rows)} rows, so the shares asked for cannot be kept."]
