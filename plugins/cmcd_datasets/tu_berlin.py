"""TU-Berlin sketches (Eitz et al. 2012): 250 classes of 80 sketches; nobody drew them from photos."""

from __future__ import annotations

from cmcd_core import DataError

from .folder.row import Row
from .known import KnownLoader, files_by_class, split_rows
from .layouts import TUBerlinOptions, tu_berlin_root
from .roots import root_of


class TUBerlinLoader(KnownLoader):
    """Expected, in the folder or in png/:

        airplane/1.png … zebra/20000.png
        filelist.txt

    There are no pairs: use it for step 3 (`-o evaluate.data=…`) beside pairs from elsewhere, such as Sketchy's.
    """

    name = "TU-Berlin"
    expected = "CLASS/NUMBER.png and filelist.txt"

    def __init__(self, options: TUBerlinOptions) -> None:
        given = root_of(options, "tu_berlin")
        root = tu_berlin_root(given)
        if root is None:
            raise DataError(f"{given} holds no CLASS/NUMBER.png and filelist.txt.", "Is it unpacked?")
        rows = [
            Row(f"{label}/{file.stem}", {"sketch": file.relative_to(root).as_posix()}, label=label)
            for label, file in files_by_class(root, (".png",))
        ]
        self._fill(
            root, rows, notes=["There are no pairs here: sketches alone.", *split_rows(rows, options, self.name)]
        )
