"""Each check of a modality, with a modality that fails it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cmcd_core import DataError, Encoder, Features, Modality
from cmcd_core.catalog import Plugin
from cmcd_core.conformance.findings import Finding, run_checks
from cmcd_core.conformance.modality import CHECKS
from cmcd_core.conformance.modality_subject import ModalitySubject
from cmcd_core.plugin import ModalityPlugin, Options

About = Callable[..., Finding]
TICKS = itertools.count()


class Good(Modality):
    """Grey 8-bit pictures, as arrays or .npy files."""

    channels = 1

    def decode(self, raw: Any) -> Tensor:
        if not isinstance(raw, np.ndarray):
            raw = np.load(BytesIO(raw if isinstance(raw, bytes) else raw.read_bytes()))
        if raw.ndim != 2 or raw.dtype != np.uint8:
            raise DataError("no grey picture")
        return torch.from_numpy(raw.astype(np.float32) / 255)[None]

    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        return batch * torch.rand(len(batch), 1, 1, 1, generator=generator)


def subject(modality: type[Modality] | Callable[[], Any], samples: Any = None) -> ModalitySubject:
    def build(options: Options) -> Any:
        return modality()

    part = ModalityPlugin(name="case", summary="A case.", options=Options, build=build)
    return ModalitySubject(Plugin("case", "unknown", "unknown", "ok", module=__name__), part, {}, samples)


class Nameless:
    pass


class NoChannels(Good):
    channels = 0


class Double(Good):
    def decode(self, raw: Any) -> Tensor:
        return super().decode(raw).double()


class Flat(Good):
    def decode(self, raw: Any) -> Tensor:
        return super().decode(raw)[0]


class Holes(Good):
    def decode(self, raw: Any) -> Tensor:
        return super().decode(raw) / 0


class Numpy(Good):
    def decode(self, raw: Any) -> Any:
        return super().decode(raw).numpy()


class Loose(Good):
    spatial = False


class Growing(Good):
    def decode(self, raw: Any) -> Tensor:
        x = super().decode(raw)
        return x if x.shape[1] == 72 else x.expand(2, -1, -1)


class Random(Good):
    def decode(self, raw: Any) -> Tensor:
        return super().decode(raw) + float(np.random.rand())


class Counting(Good):
    def decode(self, raw: Any) -> Tensor:
        return super().decode(raw) + next(TICKS)


class Overwriting(Good):
    def decode(self, raw: Any) -> Tensor:
        x = super().decode(raw)
        if isinstance(raw, np.ndarray):
            torch.from_numpy(raw).zero_()  # torch writes into read-only memory too
        return x


class ByName(Good):
    def decode(self, raw: Any) -> Tensor:
        return super().decode(raw) * (2 if isinstance(raw, Path) else 1)


class Wide(Good):
    def resize(self, x: Tensor, size: int) -> Tensor:
        return super().resize(x, size)[..., :-1]


class OneAtATime(Good):
    def resize(self, x: Tensor, size: int) -> Tensor:
        return super().resize(x, size).reshape(1, size, size)


class Careless(Good):
    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        return batch * torch.rand(len(batch), 1, 1, 1)


class Cropping(Good):
    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        return batch[..., 1:]


class TooBright(Good):
    def encode(self, batch: Tensor) -> Tensor:
        return batch * 255


class BrightOnceVaried(Good):
    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        return batch + 1


class Coloured(Good):
    def encode(self, batch: Tensor) -> Tensor:
        return batch.expand(-1, 3, -1, -1)


class ByBatch(Good):
    def encode(self, batch: Tensor) -> Tensor:
        return (batch - batch.min()) / (batch.max() - batch.min())


class GreyPicture(Good):
    def picture(self, x: Tensor) -> np.ndarray:
        return super().picture(x)[..., 0]


class Doubtful(Good):
    def doubt(self, x: Tensor) -> Any:
        return None


class Net(Encoder):
    lost: ClassVar[list[float]] = []

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.channels, self.dim = 1, dim
        self.layer = nn.Linear(1, 4)

    def forward(self, x: Tensor) -> Features:
        return Features(pooled=self.layer(x.mean(dim=(2, 3))))


class NotFeatures(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).pooled


class Frozen(Net):
    def forward(self, x: Tensor) -> Features:
        return Features(pooled=super().forward(x).pooled.detach())


def with_encoder(make: Callable[[], Any]) -> type[Good]:
    class Other(Good):
        def encoder(self, architecture: Any = None, weights: Any = None, **model_args: Any) -> Any:
            return make()

    return Other


@pytest.mark.parametrize("title", [title for title, _ in CHECKS[:-1]])
def test_a_good_one(about: About, title: str) -> None:
    assert about(CHECKS, subject(Good), title).outcome == "ok"


@pytest.mark.parametrize(
    ("modality", "title", "why"),
    [
        (Nameless, "build gives", "build returns a Nameless"),
        (NoChannels, "build gives", "channels is 0"),
        (Double, "decode gives", "decode gives torch.float64"),
        (Flat, "decode gives", "decode gives shape (72, 96)"),
        (Holes, "decode gives", "NaN or infinite"),
        (Numpy, "decode gives", "decode returns a ndarray"),
        (Loose, "decode gives", "(1, 72, 96) and (1, 80, 80)"),
        (Growing, "decode gives", "1 or 2 channels"),
        (Random, "decode is deterministic", "something else the second time"),
        (Counting, "decode is deterministic", "something else"),
        (Overwriting, "decode is deterministic", "decode changes the array"),
        (ByName, "decode takes a file's", "something else for a file's bytes"),
        (Wide, "resize gives", "gives (1, 32, 31)"),
        (OneAtATime, "resize gives", "RuntimeError"),
        (Careless, "augment keeps", "two results under one generator's seed"),
        (Cropping, "augment keeps", "augment turns (4, 1, 64, 64) into (4, 1, 64, 63)"),
        (TooBright, "encode gives", "encode gives values from"),
        (BrightOnceVaried, "encode gives", "encode, after augment, gives values from"),
        (Coloured, "encode gives", "gives (4, 3, 64, 64), expected (4, 1, 64, 64)"),
        (ByBatch, "encode gives", "another result alone"),
        (GreyPicture, "picture gives", "picture gives uint8 (72, 96)"),
        (Doubtful, "doubt gives", "doubt gives a NoneType"),
        (with_encoder(lambda: nn.Linear(1, 1)), "encoder gives", "encoder() returns a Linear"),
        (with_encoder(NotFeatures), "encoder gives", "the encoder gives a Tensor"),
        (with_encoder(lambda: Net(dim=5)), "encoder gives", "Features.pooled is (4, 4), expected (4, 5)"),
        (with_encoder(Frozen), "encoder gives", "its features carry no gradient"),
    ],
)
def test_what_is_caught(about: About, modality: type[Modality], title: str, why: str) -> None:
    finding = about(CHECKS, subject(modality), title)
    assert finding.outcome == "failed"
    assert why in finding.why


def test_an_array_that_is_changed_is_noticed_whatever_decode_gives(about: About) -> None:
    class Quiet(Good):
        def decode(self, raw: Any) -> Tensor:
            if isinstance(raw, np.ndarray):
                torch.from_numpy(raw).zero_()
            return torch.zeros(1, 8, 8)

    for samples in ([np.ones((8, 8), np.uint8)], None):
        finding = about(CHECKS, subject(Quiet, samples), "decode is deterministic")
        assert finding.why == "decode changes the array that it is given"


def test_no_sample_is_no_failure() -> None:
    class Picky(Good):
        def decode(self, raw: Any) -> Tensor:
            raise DataError("not what I know", "Look again.")

    findings = {f.check: f for f in run_checks(CHECKS[:-1], subject(Picky), "modality")}
    outcomes = [finding.outcome for finding in findings.values()]
    assert "failed" not in outcomes
    first = findings["decode gives (C, H, W) float32, finite"]
    assert first.why.startswith("no sample: decode takes none of the")
    assert "DataError: not what I know" in first.why
    assert "samples={'case': [...]}" in first.hint
    later = findings["augment keeps the shape, and draws from its generator alone"]
    assert later.why == "needs what was skipped above"
    assert findings["encoder gives an Encoder for what encode gives, with gradients"].outcome == "ok"


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        (lambda folder: folder / "a.npy", "ok"),
        (lambda folder: (folder / "a.npy").read_bytes(), "ok"),
        (lambda folder: (folder / "a.npy").read_bytes, "ok"),
        (lambda folder: np.zeros((8, 9), np.uint8), "ok"),
        (lambda folder: np.zeros((8, 9, 3), np.uint8), "failed"),
    ],
)
def test_given_samples_are_used(about: About, tmp_path: Path, raw: Any, outcome: str) -> None:
    np.save(tmp_path / "a.npy", np.full((12, 10), 7, np.uint8))
    finding = about(CHECKS, subject(Good, [raw(tmp_path)]), "decode gives")
    assert finding.outcome == outcome
    assert outcome == "ok" or finding.why == "no grey picture"


SOURCE = """
import numpy as np, os, torch
from cmcd_core import Encoder, Features, Modality
from cmcd_core.plugin import Field, ModalityPlugin, Options, hookimpl

class CaseOptions(Options):
    gain: float = Field(1.0, description="A factor.")

class Net(Encoder):
    channels, dim = 1, 4
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 4)
        self.secret = torch.rand(4)
    def forward(self, x):
        return Features(pooled=self.layer(x.mean(dim=(2, 3))) {secret})

class Case(Modality):
    channels = 1
    def __init__(self, options):
        self.gain = options.gain
    def decode(self, raw):
        if not isinstance(raw, np.ndarray) or raw.ndim != 2 or raw.dtype != np.uint8:
            raise ValueError("no grey picture")
        return torch.from_numpy(raw.astype(np.float32) / 255)[None] {decode}
    def encode(self, batch):
        return (batch * self.gain).clamp(0, 1)
    def encoder(self, architecture=None, weights=None):
        return Net()

@hookimpl
def cmcd_modalities():
    return [ModalityPlugin(name="case", summary="A case.", options=CaseOptions, build=Case)]
"""
DIST = "Metadata-Version: 2.1\nName: cmcd-plugin-case\nVersion: 1.0\nRequires-Dist: cmcd>=0.1.0.dev0\n"


@pytest.fixture
def written(tmp_path: Path, plugin_of: Callable[[str], Plugin]) -> Callable[..., ModalitySubject]:
    """A subject whose plugin other processes, and load_encoder, find."""

    def made(decode: str = "", secret: str = "") -> ModalitySubject:
        info = tmp_path / "cmcd_plugin_case-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(DIST)
        (info / "entry_points.txt").write_text("[cmcd]\ncase = conformance_case\n")
        plugin = plugin_of(SOURCE.format(decode=decode, secret=secret))
        return ModalitySubject(plugin, plugin.parts["modality"][0], {"gain": 0.5})

    return made


@pytest.mark.parametrize(
    ("decode", "outcome", "why"),
    [
        ("", "ok", ""),
        ("+ os.getpid()", "failed", "decode gives something else in a new process"),
        ("+ (hash('salted') % 1000)", "failed", "decode gives something else in a new process"),
    ],
)
def test_rebuilt_elsewhere(
    about: About, written: Callable[..., ModalitySubject], decode: str, outcome: str, why: str
) -> None:
    finding = about(CHECKS, written(decode=decode), "rebuilt")
    assert (finding.outcome, finding.why) == (outcome, why)


@pytest.mark.parametrize(
    ("secret", "outcome", "why"),
    [("", "ok", ""), ("+ self.secret", "failed", "the loaded encoder gives other features")],
)
def test_a_foreign_encoder_is_loaded_through_the_plugin(
    about: About, written: Callable[..., ModalitySubject], secret: str, outcome: str, why: str
) -> None:
    finding = about(CHECKS, written(secret=secret), "its encoder gives equal features")
    assert (finding.outcome, finding.why) == (outcome, why)
