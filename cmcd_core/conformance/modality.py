"""Checks of a modality."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..encoders import load_encoder
from ..interfaces.encoder import Features
from .findings import Check, Skipped, require
from .modality_subject import ModalitySubject
from .process import in_new_process
from .raws import as_bytes, equal, written
from .views import SIZE, augmented, generators_at, seen

GENERATOR = "torch.rand(…, generator=generator, device=batch.device)"


def builds(subject: ModalitySubject) -> None:
    """And knows its channels."""
    assert subject.built.channels


def decodes(subject: ModalitySubject) -> None:
    """Native sizes, or one constant shape."""
    shapes = {tuple(x.shape) for x in subject.decoded}
    channels = {shape[0] for shape in shapes}
    require(len(channels) == 1, f"decode gives {' or '.join(map(str, sorted(channels)))} channels")
    if not subject.built.spatial:
        require(
            len(shapes) == 1,
            f"spatial is False, and decode gives {' and '.join(map(str, sorted(shapes)))}",
            "Cut or pad to one shape.",
        )


def decodes_alike(subject: ModalitySubject) -> None:
    """Whatever the global generators' state, in several threads, and without a change to what it was given."""
    modality, raws, first = subject.built, subject.raws, subject.decoded
    for seed in (1, 2):
        with generators_at(seed):
            again = [modality.decode(raw) for raw in raws]
        _same(again, first, "decode gives something else the second time")
    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(modality.decode, list(raws) * 4))
    _same(threads, first * 4, "decode gives something else in a thread", "Keep no state in the modality.")
    unchanged = equal(raws, subject.before)
    require(unchanged, "decode changes the array that it is given", "Copy it first: array.copy().")


def _same(
    found: Sequence[Tensor],
    expected: Sequence[Tensor],
    why: str,
    hint: str = "Draw nothing at random there: that is augment's affair.",
) -> None:
    require(all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), why, hint)


def decodes_files(subject: ModalitySubject) -> None:
    """A loader may give a path, or the bytes that lie there."""
    modality = subject.built
    assert subject.decoded
    with tempfile.TemporaryDirectory() as folder:
        file = _a_file(subject, Path(folder))
        why = "decode gives something else for a file's bytes than for its path"
        require(torch.equal(modality.decode(file.read_bytes()), modality.decode(file)), why)


def _a_file(subject: ModalitySubject, folder: Path) -> Path:
    """A file that decode reads: one of those given, or a generated one."""
    raw = subject.raws[0]
    if isinstance(raw, Path):
        return raw
    files = [(".bin", raw)] if isinstance(raw, bytes) else list(as_bytes(raw))
    for suffix, data in files:
        file = folder / f"sample{suffix}"
        file.write_bytes(data)
        try:
            subject.built.decode(file)
        except Exception:
            continue
        return file
    raise Skipped(
        "no file: decode takes none that was generated", f"Pass samples={{{subject.part.name!r}: [Path(…)]}}."
    )


def resizes(subject: ModalitySubject) -> None:
    """One view or a batch of them, smaller and larger."""
    if not subject.built.spatial:
        raise Skipped("spatial is False: nothing resizes it")
    for x in (subject.decoded[0], subject.batch):
        for size in (SIZE // 2, 2 * SIZE):
            out, expected = subject.built.resize(x, size), (*x.shape[:-2], size, size)
            shape = tuple(out.shape)
            require(shape == expected, f"resize({tuple(x.shape)}, {size}) gives {shape}", f"Return {expected}.")
            require(bool(torch.isfinite(out).all()), "resize gives NaN or infinite values")


def augments_alike(subject: ModalitySubject) -> None:
    """All of its randomness comes from the generator that it is given."""
    out = []
    for seed in (1, 2):
        with generators_at(seed):
            out.append(augmented(subject.built, subject.batch))
    shape = tuple(subject.batch.shape)
    require(tuple(out[0].shape) == shape, f"augment turns {shape} into {tuple(out[0].shape)}", "Keep the shape.")
    require(bool(torch.isfinite(out[0]).all()), "augment gives NaN or infinite values")
    require(
        torch.equal(*out),
        "augment gives two results under one generator's seed",
        f"Draw every random number from the generator that is passed: {GENERATOR}.",
    )


def encodes(subject: ModalitySubject) -> None:
    """What was decoded, and what was augmented."""
    modality, batch = subject.built, subject.batch
    expected = (len(batch), modality.channels, *batch.shape[2:])
    for name, out in (
        ("encode", subject.encoded),
        ("encode, after augment,", modality.encode(augmented(modality, batch))),
    ):
        shape = tuple(out.shape)
        require(shape == expected, f"{name} gives {shape}, expected {expected}", "channels says how many it gives.")
        low, high = float(out.min()), float(out.max())
        hint = "Map the values' range to [0, 1], and end with .clamp(0, 1)."
        require(low >= -1e-6 and high <= 1 + 1e-6, f"{name} gives values from {low:g} to {high:g}", hint)
    alone = torch.cat([modality.encode(batch[row : row + 1].clone()) for row in range(len(batch))])
    require(
        torch.allclose(alone, subject.encoded, atol=1e-5),
        "encode gives a view another result alone than among others",
        "Take statistics over each view (dim=(1, 2, 3), keepdim=True), not over the batch.",
    )


def pictures(subject: ModalitySubject) -> None:
    """For people: reports and previews."""
    for x in subject.decoded:
        shown = subject.built.picture(x)
        good = isinstance(shown, np.ndarray) and shown.dtype == np.uint8 and shown.ndim == 3 and shown.shape[2] == 3
        got = f"{shown.dtype} {shown.shape}" if isinstance(shown, np.ndarray) else type(shown).__name__
        require(good, f"picture gives {got}", "Return an (H, W, 3) array of uint8.")


def doubts(subject: ModalitySubject) -> None:
    """A sentence, or none."""
    said = subject.built.doubt(subject.decoded[0])
    require(isinstance(said, str), f"doubt gives a {type(said).__name__}", 'Return a text, "" where nothing is wrong.')


def has_an_encoder(subject: ModalitySubject) -> None:
    """From what encode gives to Features, with gradients."""
    encoder, x = subject.network, subject.ready
    require(encoder.channels == x.shape[1], f"encoder().channels is {encoder.channels}, and encode gives {x.shape[1]}")
    features = encoder.train()(x)
    require(
        isinstance(features, Features), f"the encoder gives a {type(features).__name__}", "Return cmcd_core.Features."
    )
    shape, expected = tuple(features.pooled.shape), (len(x), encoder.dim)
    require(shape == expected, f"Features.pooled is {shape}, expected {expected}", "dim is the width of pooled.")
    if encoder.dense_dim:
        require(
            features.dense is not None and features.dense.ndim == 4 and features.dense.shape[1] == encoder.dense_dim,
            f"dense_dim is {encoder.dense_dim}, and Features.dense is not (N, {encoder.dense_dim}, h, w)",
        )
    require(bool(torch.isfinite(features.pooled).all()), "the encoder gives NaN or infinite features")
    require(features.pooled.requires_grad, "its features carry no gradient", "It has to learn: no detach, no no_grad.")
    features.pooled.square().sum().backward()
    require(any(p.grad is not None for p in encoder.parameters()), "no parameter of the encoder gets a gradient")


def saves_its_encoder(subject: ModalitySubject) -> None:
    """By ``save`` and ``cmcd_core.load_encoder``."""
    encoder = subject.network.eval()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        again = load_encoder(encoder.save(folder))
        one, other = encoder(subject.ready).pooled, again(subject.ready).pooled
    require(
        one.shape == other.shape and torch.allclose(one, other, atol=1e-6),
        "the loaded encoder gives other features",
        "All that it learns must be in its state_dict, and encoder() must build it again from the arguments it got.",
    )


def rebuilt_elsewhere(subject: ModalitySubject) -> None:
    """A worker process knows its name and options, and nothing else."""
    assert len(subject.encoded)
    decoded, encoded = seen(subject.built, subject.raws)
    with tempfile.TemporaryDirectory() as folder:
        raws = [written(raw, Path(folder), number) for number, raw in enumerate(subject.raws)]
        identity = {"part": subject.part.name, "options": subject.options.model_dump(mode="json")}
        files = in_new_process(subject.plugin, {"do": "rebuild", "folder": folder, "raws": raws, **identity})
        *others, other = [torch.from_numpy(np.load(file)) for file in files]
    hint = "Its options alone should say how it is built; time, hash() and the process must not count."
    _same(others, decoded, "decode gives something else in a new process", hint)
    require(torch.allclose(other, encoded, atol=1e-5), "augment and encode give something else in a new process", hint)


CHECKS: tuple[Check, ...] = (
    ("build gives a Modality that knows its channels", builds),
    ("decode gives (C, H, W) float32, finite", decodes),
    ("decode is deterministic, in threads too, and leaves what it is given as it was", decodes_alike),
    ("decode takes a file's path and its bytes alike", decodes_files),
    ("resize gives the size, for one view and for a batch", resizes),
    ("augment keeps the shape, and draws from its generator alone", augments_alike),
    ("encode gives (N, channels, H, W) in [0, 1], each view for itself", encodes),
    ("picture gives (H, W, 3) uint8", pictures),
    ("doubt gives a text", doubts),
    ("encoder gives an Encoder for what encode gives, with gradients", has_an_encoder),
    ("its encoder gives equal features once saved and loaded", saves_its_encoder),
    ("rebuilt from name and options in a new process, it gives the same", rebuilt_elsewhere),
)
