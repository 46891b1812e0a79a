"""Each check of a loader, with a loader that fails it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmcd_core import ConfigError, PairedLoader, Sample
from cmcd_core.catalog import Plugin, load
from cmcd_core.conformance.findings import Finding, run_checks
from cmcd_core.conformance.loader import CHECKS, LoaderSubject
from cmcd_core.plugin import LoaderOptions, LoaderPlugin

About = Callable[..., Finding]
PICTURE = np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
MAP = np.full((20, 24), 900, np.uint16)


class Good(PairedLoader):
    """Two samples a split."""

    modalities = frozenset({"image", "depth"})
    aligned = frozenset({"image", "depth"})
    classes: Mapping[str, Sequence[str]] = {"label": ["cup", "hat"], "mask": ["nothing", "cup", "hat"]}

    def split(self, name: str) -> Any:
        return [self.sample(name, row) for row in range(2)]

    def sample(self, name: str, row: int) -> Sample:
        views: dict[str, Any] = {"image": PICTURE, "depth": lambda: _npy(MAP)}
        return Sample(self.key(name, row), {**views, **self.more_views()}, self.targets(row), self.weight())

    def key(self, name: str, row: int) -> Any:
        return f"{name}-{row}"

    def more_views(self) -> dict[str, Any]:
        return {}

    def targets(self, row: int) -> dict[str, Any]:
        return {"label": row, "mask": np.zeros((20, 24), np.uint8)}

    def weight(self) -> float:
        return 1.0


def _npy(array: np.ndarray) -> bytes:
    from io import BytesIO

    np.save(buffer := BytesIO(), array)
    return buffer.getvalue()


def build_good(options: LoaderOptions) -> Any:
    if options.root is None:
        raise ConfigError("no folder", "Name it.")
    return Good()


def subject(
    loader: Callable[[], Any] | None = None, recognises: Any = lambda path: (path / "rig.json").is_file(), **given: Any
) -> LoaderSubject:
    def build(options: LoaderOptions) -> Any:
        return loader() if loader else build_good(options)

    part = LoaderPlugin(name="case", summary="A case.", options=LoaderOptions, build=build, recognises=recognises)
    owner = Plugin("case", "unknown", "unknown", "ok", module=__name__)
    return LoaderSubject(owner, part, given, catalog=load())


@pytest.mark.parametrize("title", [title for title, _ in CHECKS])
def test_a_good_one(about: About, title: str) -> None:
    finding = about(CHECKS, subject(root=Path("somewhere")), title)
    assert (finding.outcome, finding.why) == ("ok", "")


class Unnamed(Good):
    modalities = frozenset()


class Misaligned(Good):
    aligned = frozenset({"image", "thermal"})


class Vague(Good):
    pairs = "perhaps"


class Doubled(Good):
    classes: Mapping[str, Sequence[str]] = {"label": ["cup", "cup"]}


class Streaming(Good):
    def split(self, name: str) -> Iterator[Sample]:
        return iter(super().split(name))


class Empty(Good):
    def split(self, name: str) -> list[Sample]:
        return []


class Pairs(Good):
    def split(self, name: str) -> list[Any]:
        return [(PICTURE, MAP)]


class Endless(Good):
    def split(self, name: str) -> Any:
        good = super().split(name)

        class Round:
            def __len__(self) -> int:
                return 2

            def __getitem__(self, row: int) -> Sample:
                return good[row % 2]

        return Round()


class SameInEach(Good):
    def key(self, name: str, row: int) -> str:
        return str(row)


class SameTwice(Good):
    def key(self, name: str, row: int) -> str:
        return name


class Numbered(Good):
    def key(self, name: str, row: int) -> Any:
        return row


class Surprise(Good):
    def more_views(self) -> dict[str, Any]:
        return {"sound": b""}


class Text(Good):
    def more_views(self) -> dict[str, Any]:
        return {"image": "image.png"}


class Distrust(Good):
    def weight(self) -> float:
        return -1.0


class WrongUnit(Good):
    def modality_options(self, modality: str) -> Mapping[str, Any]:
        return {"unit": "yards"} if modality == "depth" else {}


class Broken(Good):
    def more_views(self) -> dict[str, Any]:
        return {"image": Path("not_there.png")}


class Beyond(Good):
    def targets(self, row: int) -> dict[str, Any]:
        return {"label": row + 1}


class BadMask(Good):
    def targets(self, row: int) -> dict[str, Any]:
        return {"mask": np.full((20, 24), 7, np.uint8)}


class Shuffled(Good):
    made = 0

    def __init__(self) -> None:
        Shuffled.made += 1
        self.turn = Shuffled.made

    def key(self, name: str, row: int) -> str:
        return f"{name}-{(row + self.turn) % 2}"


@pytest.mark.parametrize(
    ("loader", "title", "why"),
    [
        (dict, "build gives", "build returns a dict"),
        (Unnamed, "build gives", "modalities is frozenset()"),
        (Misaligned, "build gives", "aligned names thermal"),
        (Vague, "build gives", "pairs is 'perhaps'"),
        (Doubled, "build gives", "classes['label'] holds a name twice"),
        (Streaming, "split gives", "split('train') gives a list_iterator"),
        (Empty, "split gives", "all three splits are empty"),
        (Pairs, "split gives", "split('train')[0] is a tuple"),
        (Endless, "split gives", "a sample beyond its length"),
        (SameInEach, "keys are unique", "the key '0' is in train and in val"),
        (SameTwice, "keys are unique", "the key 'train' is twice in train"),
        (Numbered, "keys are unique", "the key 0 is no text"),
        (Surprise, "views are raw", "modalities does not name its view sound"),
        (Text, "views are raw", "its view 'image' is a str"),
        (Distrust, "views are raw", "its weight is -1.0"),
        (WrongUnit, "modality_options are", "modality_options('depth') does not fit"),
        (Broken, "its first views", "its view 'image' cannot be decoded"),
        (Beyond, "targets are", "its 'label' is 2, and classes names 2"),
        (BadMask, "targets are", "the mask holds class 7"),
        (Shuffled, "built again", "split('train') has other samples"),
    ],
)
def test_what_is_caught(about: About, loader: Callable[[], Any], title: str, why: str) -> None:
    finding = about(CHECKS, subject(loader), title)
    assert finding.outcome == "failed"
    assert why in finding.why


def refuse(path: Path) -> bool:
    raise OSError("cannot look there")


@pytest.mark.parametrize(
    ("recognises", "why"),
    [
        (lambda path: True, "recognises says yes to an empty folder"),
        (lambda path: path.suffix == ".txt", "recognises says yes to a text file"),
        (lambda path: not path.exists(), "recognises says yes to what is not there"),
        (lambda path: None, "recognises gives a NoneType"),
        (refuse, "OSError: cannot look there"),
    ],
)
def test_what_recognises_may_not_do(about: About, recognises: Any, why: str) -> None:
    finding = about(CHECKS, subject(recognises=recognises), "recognises")
    assert finding.outcome == "failed"
    assert why in finding.why


def test_no_data_is_no_failure() -> None:
    findings = list(run_checks(CHECKS, subject(), "loader"))
    assert [finding.outcome for finding in findings[:3]] == ["ok", "ok", "skipped"]
    assert findings[2].why == "no data set: no folder"
    assert "options={'case': {'root': PATH}}" in findings[2].hint
    assert "-o case.root=PATH" in findings[2].hint
    assert {finding.outcome for finding in findings[3:]} == {"skipped"}


def test_no_data_without_a_sentence_is_one(about: About) -> None:
    def nothing() -> Any:
        return Path(None)  # type: ignore[arg-type]

    finding = about(CHECKS, subject(nothing), "without a path")
    assert finding.outcome == "failed"
    assert "without data.root, build raises TypeError" in finding.why
    assert "cmcd_core.ConfigError" in finding.hint


def test_modalities_that_nobody_installed(about: About) -> None:
    class Radar(Good):
        modalities = frozenset({"radar"})
        aligned = frozenset()

    for title in ("modality_options", "its first views"):
        finding = about(CHECKS, subject(Radar), title)
        assert (finding.outcome, finding.why) == ("skipped", "no plugin for radar is installed")
