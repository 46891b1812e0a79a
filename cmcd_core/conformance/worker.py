"""What :mod:`.process` runs: imports a plugin from scratch, and builds a modality from its name and options."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from ..catalog import GROUP, Plugin, load


class Watch:
    """Notes where each of some modules is imported first; finds none itself."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.found: dict[str, str] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in self.names and name not in self.found:
            frame = sys._getframe(1)
            while frame.f_back is not None and "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            self.found[name] = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def main() -> None:
    """Do the job on stdin; write the answer into the file that it names."""
    job = json.load(sys.stdin)
    answer = imported(job) if job["do"] == "import" else rebuilt(job)
    Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def imported(job: Mapping[str, Any]) -> dict[str, str]:
    """The heavy module that came in first -> the file and line that asked for it; {} where none did."""
    watch = Watch(job["heavy"])
    sys.meta_path.insert(0, watch)
    _plugin(job)
    # What came in through another heavy module is that one's affair: the first names the line to change.
    return dict(list(watch.found.items())[:1])


def rebuilt(job: Mapping[str, Any]) -> list[str]:
    """Files with what a modality makes of raw data: each one decoded, then a batch augmented and encoded."""
    import numpy as np

    from .raws import read_back
    from .views import seen

    part: Any = next(part for part in _plugin(job).parts["modality"] if part.name == job["part"])
    modality = part.build(part.options(**job["options"]))
    decoded, encoded = seen(modality, [read_back(*entry) for entry in job["raws"]])
    files = []
    for number, array in enumerate([*decoded, encoded]):
        files.append(str(Path(job["folder"]) / f"seen-{number}.npy"))
        np.save(files[-1], array.numpy())
    return files


def _plugin(job: Mapping[str, Any]) -> Plugin:
    (plugin,) = load([EntryPoint(job["plugin"], job["module"], GROUP)]).plugins
    if plugin.status != "ok":
        raise SystemExit(plugin.reason)
    return plugin


if __name__ == "__main__":
    main()
