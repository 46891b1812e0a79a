"""What ``cmcd report`` writes: the page of one run into its folder, or one page over several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from ..files import made_folder, write_text
from .comparison import comparison_page
from .evidence import read_run
from .page import FILE, GENERATOR, run_page


def write_pages(paths: Sequence[Path], out: Path | None, comparison: Path) -> Path:
    """Write the page of a run, or of several; where it lies.

    Args:
        paths: Folders of runs, or of comparisons, which stand for their runs.
        out: Where to; None: the run's own folder, or ``comparison`` for several.

    Raises:
        ConfigError: A folder holds no finished run, one is named twice, or a file of another kind is in the way.
    """
    folders = [run for path in paths for run in _runs_of(path)]
    known = [folder.resolve() for folder in folders]
    if twice := next((folder for folder in folders if known.count(folder.resolve()) > 1), None):
        raise ConfigError(f"{twice}: named twice", "Name each run once.")
    runs = [read_run(folder) for folder in folders]
    where = out or (folders[0] / FILE if len(runs) == 1 else comparison)
    _is_free(where)
    made_folder(where.parent)
    write_text(where, run_page(runs[0]) if len(runs) == 1 else comparison_page(runs))
    return where


def _runs_of(path: Path) -> list[Path]:
    """A run's folder itself; the finished cells of a comparison's."""
    if not (path / "compare.json").is_file():
        return [path]
    cells = sorted(file.parent for file in path.glob("cells/*/result.json"))
    if not cells:
        raise ConfigError(f"{path}: a comparison without a finished run", "Go on with it: cmcd compare … --resume.")
    return cells


def _is_free(path: Path) -> None:
    """An earlier report is written over; anything else is not."""
    if not path.exists():
        return
    try:
        start = path.read_text(encoding="utf-8", errors="replace")[:2000] if path.is_file() else ""
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", "Name another file with --out.") from None
    if GENERATOR not in start:
        raise ConfigError(f"{path}: something is there that is no report", "Name another file with --out.")
