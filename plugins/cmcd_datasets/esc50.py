"""ESC-50 (Piczak 2015): 2,000 five-second recordings of 50 classes, in five folds that share no source."""

from __future__ import annotations

import csv
from pathlib import Path

from cmcd_core import ConfigError, DataError

from .folder.row import Row
from .known import KnownLoader
from .layouts import ESC50Options
from .roots import root_of

_COLUMNS = ("filename", "fold", "target", "category")


class ESC50Loader(KnownLoader):
    """Expected:

        meta/esc50.csv          filename,fold,target,category,esc10,src_file,take
        audio/1-100032-A-0.wav

    Sounds alone: use it for step 3 (`-o evaluate.data=…`) beside pairs from elsewhere, such as VGGSound's.
    """

    name = "ESC-50"
    expected = "meta/esc50.csv and audio/NAME.wav"

    def __init__(self, options: ESC50Options) -> None:
        if options.test_fold == options.val_fold:
            raise ConfigError(f"data.val_fold: {options.val_fold} is data.test_fold too.", "Choose another fold.")
        root = root_of(options, "esc50")
        file = root / "meta" / "esc50.csv"
        rows, names = _rows(file, options)
        self._fill(root, rows, labels=names, notes=["There are no pairs here: sounds alone."])

    def modality_options(self, modality: str) -> dict[str, float]:
        return {"seconds": 5.0} if modality == "audio" else {}


def _rows(file: Path, options: ESC50Options) -> tuple[list[Row], list[str]]:
    split_of = {options.test_fold: "test", options.val_fold: "val"}
    rows, names = [], {}
    for line, cells in _lines(file):
        if options.esc10 and cells.get("esc10", "").lower() != "true":
            continue
        try:
            fold, target = int(cells["fold"]), int(cells["target"])
        except ValueError:
            raise DataError(f"{file.name}, row {line}: fold and target should be whole numbers ({file}).") from None
        names[target] = cells["category"]
        key = Path(cells["filename"]).stem
        split = split_of.get(fold, "train")
        rows.append(Row(key, {"audio": f"audio/{cells['filename']}"}, label=cells["category"], split=split, line=line))
    return rows, [names[target] for target in sorted(names)]


def _lines(file: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise DataError(f"{file}: no column {missing[0]}; expected {', '.join(_COLUMNS)}.")
            return [(reader.line_num, _whole(file, reader.line_num, row)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error


def _whole(file: Path, line: int, cells: dict[str, str | None]) -> dict[str, str]:
    """The row, with a cell in every column that is read; those after its end have none."""
    if missing := [name for name in _COLUMNS if cells[name] is None]:
        raise DataError(f"{file.name}, row {line}: it ends before {missing[0]} ({file}).", "Is the file cut off?")
    return {name: cell for name, cell in cells.items() if cell is not None}
