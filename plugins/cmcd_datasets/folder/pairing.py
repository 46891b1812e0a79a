"""Files of several modality folders, paired by path or by stem."""

from __future__ import annotations

from pathlib import Path

from cmcd_core import DataError

from .folders import File, find_files
from .row import MASK, Found, Row, counted, listing
from .settings import Settings

Members = dict[str, File]  # modality (or mask) -> file: what becomes one row


def read_folders(root: Path, settings: Settings) -> Found:
    """All rows of a folder without metadata."""
    _refuse_columns(root, settings)
    files, notes = find_files(root)
    by_class = settings.label_column != ""
    members = _by_stem(_by_place(files), by_class)
    rows = [_row(m, by_class) for m in members if set(m) != {MASK}]
    modalities = frozenset(f.modality for f in files) - {MASK}
    if not modalities:
        raise DataError(f"{root} holds masks only.", "Add the folders of the modalities, such as image/ and depth/.")
    if len(modalities) > 1 and not any(len(row.files) > 1 for row in rows):
        raise _no_pairs(root, files, modalities)
    if lonely := len(members) - len(rows):
        notes.append(f"{counted(lonely, 'mask')} without any file of that name were left out.")
    if any(row.label for row in rows):
        notes.append("Labels are the names of the class folders.")
    return Found(
        rows=rows, modalities=modalities, labels_from="class folder", listed=True, source=str(root), notes=notes
    )


def _refuse_columns(root: Path, settings: Settings) -> None:
    for key in ("label_column", "group_column"):
        name = getattr(settings, key)
        if name and (key, name) != ("label_column", "label"):
            hint = "Labels come from class folders here; write metadata.csv to have columns, or leave the option out."
            raise settings.error(key, f"there is no column '{name}': {root} has no metadata.csv.", hint)


def _by_place(files: list[File]) -> list[Members]:
    """Same split, same path below the modality."""
    found: dict[tuple[str | None, str], Members] = {}
    for f in files:
        members = found.setdefault((f.split, f.place), {})
        if other := members.get(f.modality):
            hint = "Files pair by their name without the suffix: rename or remove one of the two."
            raise DataError(f"{other.path} and {f.path} have the same name but for the suffix.", hint)
        members[f.modality] = f
    return list(found.values())


def _by_stem(members: list[Members], by_class: bool) -> list[Members]:
    """Join those of one bare stem where that is beyond doubt: no modality twice, no two classes."""
    alike: dict[tuple[str | None, str], list[Members]] = {}
    for m in members:
        file = next(iter(m.values()))
        alike.setdefault((file.split, file.stem), []).append(m)
    joined: list[Members] = []
    for group in alike.values():
        whole = {name: file for m in group for name, file in m.items()}
        clear = len(whole) == sum(len(m) for m in group) and (not by_class or len(_classes(group)) < 2)
        joined += [whole] if clear else group
    return joined


def _classes(group: list[Members]) -> set[str]:
    return {folder for m in group for file in m.values() if (folder := file.folder)}


def _row(members: Members, by_class: bool) -> Row:
    files = {name: file.path for name, file in sorted(members.items()) if name != MASK}
    mask = members.get(MASK)
    first = max((file for name, file in sorted(members.items()) if name != MASK), key=lambda f: len(f.place))
    label = next(iter(_classes([members])), None) if by_class else None
    key = f"{first.split}/{first.place}" if first.split else first.place
    return Row(key, files, mask.path if mask else None, label, first.split)


def _no_pairs(root: Path, files: list[File], modalities: frozenset[str]) -> DataError:
    examples = []
    for modality in sorted(modalities):
        own = [f for f in files if f.modality == modality]
        examples.append(f"{modality}/ has {listing([f.place for f in own], 3)}")
    hint = (
        "Files pair where their names without the suffix are equal (image/0001.jpg, depth/0001.png), classes and "
        "splits too: rename them; or write a metadata.csv with columns image_file_name, depth_file_name that names "
        "the two files of each pair."
    )
    return DataError(f"{root}: no file of one modality has a partner in another; {'; '.join(examples)}.", hint)
