"""The decoded cache: each view is read once, and what changes is read again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from cmcd_core import DataError, PluginError, Sample
from cmcd_core.data.decoded import DecodedViews

Decode = Callable[..., DecodedViews]
Files = Callable[[int], list[Sample]]


def array(seed: int = 0, side: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).random((2, side, side), dtype=np.float32)


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "decoded").iterdir())


# --- what is kept


def test_views_come_back_as_decoded(decode: Decode, files: Files, plain: Any) -> None:
    samples = files(5)
    views = decode(samples, plain)
    assert len(views) == 5
    expected = torch.stack([torch.from_numpy(np.load(sample.views["plain"])) for sample in samples])
    assert torch.equal(views.batch(np.arange(5)), expected)
    assert torch.equal(views.batch(torch.tensor([3, 1])), expected[[3, 1]])


def test_raw_data_of_every_kind(decode: Decode, files: Files, plain: Any) -> None:
    value = array()
    (sample,) = files(1)
    np.save(sample.views["plain"], value)
    raws: list[Any] = [sample.views["plain"], value, value.tobytes(), value.tobytes]
    views = decode([Sample(str(i), {"plain": raw}) for i, raw in enumerate(raws)], plain)
    assert torch.equal(views.batch(np.arange(4)), torch.from_numpy(value).repeat(4, 1, 1, 1))
    assert isinstance(plain.decoded[-1], bytes)


def test_float32_is_kept_to_the_last_bit_and_uint8_to_half_a_step(decode: Decode, plain: Any) -> None:
    class Bytes(type(plain)):
        storage: ClassVar[Any] = "uint8"

    samples = [Sample("a", {"plain": array()})]
    exact, rough = decode(samples, plain), decode(samples, Bytes(), kind="bytes")
    assert (exact.array.dtype, rough.array.dtype) == (np.float32, np.uint8)
    assert torch.equal(exact.batch(np.arange(1))[0], torch.from_numpy(array()))
    error = (rough.batch(np.arange(1))[0] - torch.from_numpy(array())).abs().max()
    assert 0 < error <= 0.5 / 255 + 1e-7


def test_uint8_keeps_the_ends(decode: Decode, plain: Any) -> None:
    class Bytes(type(plain)):
        storage: ClassVar[Any] = "uint8"

    value = np.tile(np.float32([-0.5, 0, 1, 1.5]), 32).reshape(2, 8, 8)
    views = decode([Sample("a", {"plain": value})], Bytes())
    assert views.batch(np.arange(1)).unique().tolist() == [0, 1]


@pytest.mark.parametrize(("native", "size", "stored"), [(8, 8, 8), (40, 8, 10), (9, 8, 9), (4, 8, 8), (64, 32, 40)])
def test_room_for_crops_but_no_blow_up(decode: Decode, plain: Any, native: int, size: int, stored: int) -> None:
    views = decode([Sample("a", {"plain": array(side=native)})], plain, size=size)
    assert views.array.shape == (1, 2, stored, stored)


def test_pictures_of_all_sizes_become_one(decode: Decode, plain: Any) -> None:
    value = array(side=12)
    wide = np.concatenate([value, value], axis=2)
    views = decode([Sample("a", {"plain": value}), Sample("b", {"plain": wide})], plain)
    assert views.array.shape == (2, 2, 10, 10)
    assert torch.equal(views.batch(np.array([1]))[0], plain.resize(torch.from_numpy(wide), 10))


def test_the_array_is_memory_mapped(decode: Decode, files: Files, plain: Any) -> None:
    assert isinstance(decode(files(2), plain).array, np.memmap)


def test_non_spatial_views_keep_their_shape(decode: Decode, cache: Path, plain: Any) -> None:
    class Sound(type(plain)):
        spatial: ClassVar[bool] = False

        def resize(self, x: torch.Tensor, size: int) -> torch.Tensor:
            raise AssertionError("not a picture")

    values = [np.full((1, 4, 7), i, np.float32) for i in range(3)]
    views = decode([Sample(str(i), {"plain": value}) for i, value in enumerate(values)], Sound())
    assert views.array.shape == (3, 1, 4, 7)
    uneven = [Sample("a", {"plain": values[0]}), Sample("b", {"plain": values[1][..., :5]})]
    with pytest.raises(PluginError, match=r"always return one shape: got \(1, 4, 7\) and \(1, 4, 5\)"):
        decode(uneven, Sound())
    assert len(entries(cache)) == 1


# --- found again, or not


def test_a_hit_is_not_decoded_again(decode: Decode, files: Files, plain: Any) -> None:
    samples = files(3)
    first = decode(samples, plain)
    count = len(plain.decoded)
    again = decode(samples, plain)
    assert len(plain.decoded) == count
    assert again.digest == first.digest
    assert np.array_equal(again.array, first.array)
    assert np.array_equal(again.rows, first.rows)
    assert np.array_equal(again.names, first.names)


def rewritten(samples: list[Sample]) -> list[Sample]:
    path = samples[1].views["plain"]
    info = path.stat()
    np.save(path, np.load(path) + 1)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    return samples


@pytest.mark.parametrize(
    ("change", "arguments"),
    [
        (rewritten, {}),
        (lambda samples: samples[:2], {}),
        (lambda samples: samples[::-1], {}),
        (lambda samples: [replace(samples[0], key="other"), *samples[1:]], {}),
        (lambda samples: samples, {"gain": 2}),
        (lambda samples: samples, {"size": 6}),
        (lambda samples: samples, {"on_error": "skip"}),
    ],
    ids=["file", "fewer", "order", "key", "option", "size", "on_error"],
)
def test_what_changes_is_decoded_again(decode: Decode, files: Files, plain: Any, change: Any, arguments: dict) -> None:
    samples = files(3)
    first = decode(samples, plain)
    count = len(plain.decoded)
    again = decode(change(samples), plain, **arguments)
    assert again.digest != first.digest
    assert len(plain.decoded) > count


def test_a_changed_file_is_seen(decode: Decode, files: Files, plain: Any) -> None:
    samples = files(3)
    first = decode(samples, plain).batch(np.arange(3))
    again = decode(rewritten(samples), plain).batch(np.arange(3))
    assert torch.equal(again[1], first[1] + 1)
    assert torch.equal(again[[0, 2]], first[[0, 2]])


def test_weights_and_targets_need_no_new_decoding(decode: Decode, files: Files, plain: Any) -> None:
    samples = files(3)
    first = decode(samples, plain)
    changed = [replace(sample, weight=0.5, targets={"label": 1}) for sample in samples]
    assert decode(changed, plain).digest == first.digest


# --- what cannot be read


def test_fail_names_key_view_and_path(decode: Decode, files: Files, plain: Any, cache: Path) -> None:
    samples = files(3)
    path = samples[2].views["plain"]
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError) as caught:
        decode(samples, plain)
    for part in (str(path), "'key2'", "'plain'", "cannot be read as plain"):
        assert part in caught.value.message
    assert "\n" not in caught.value.message
    assert entries(cache) == []


def test_fail_names_the_key_of_what_has_no_path(decode: Decode, plain: Any) -> None:
    with pytest.raises(DataError, match=r"sample 'b': cannot be read as plain: .*\(view 'plain'\)"):
        decode([Sample("a", {"plain": array()}), Sample("b", {"plain": b"\0" * 9})], plain)


def test_a_missing_file(decode: Decode, files: Files, plain: Any) -> None:
    samples = files(2)
    samples[1].views["plain"].unlink()
    with pytest.raises(DataError, match="No such file"):
        decode(samples, plain)


def test_a_decoders_own_data_error_keeps_its_hint(decode: Decode, plain: Any) -> None:
    class Picky(type(plain)):
        def decode(self, raw: Any) -> torch.Tensor:
            raise DataError("nothing in it", "Leave it out.")

    with pytest.raises(DataError) as caught:
        decode([Sample("a", {"plain": array()})], Picky())
    assert caught.value.message == "sample 'a': nothing in it (view 'plain')"
    assert caught.value.hint == "Leave it out."


@pytest.mark.parametrize("bad", [[0], [1], [0, 1], [3]])
def test_skip_lists_and_cuts(decode: Decode, files: Files, plain: Any, bad: list[int]) -> None:
    samples = files(4)
    for number in bad:
        samples[number].views["plain"].write_bytes(b"nonsense")
    good = [number for number in range(4) if number not in bad]
    for _ in range(2):  # computed, then found
        views = decode(samples, plain, on_error="skip")
        assert views.rows.tolist() == good
        assert len(views) == len(views.array) == len(views.names) == len(good)
        assert len(views.skipped) == len(bad)
        assert all(f"'key{number}'" in message for number, message in zip(bad, views.skipped, strict=True))
        expected = [np.load(samples[number].views["plain"]) for number in good]
        assert np.array_equal(views.batch(np.arange(len(good))).numpy(), np.stack(expected))
    assert views.array.flags.c_contiguous
    assert Path(views.array.filename).stat().st_size < 128 + len(good) * 2 * 8 * 8 * 4 + 1


def test_skipping_everything_is_an_error(decode: Decode, files: Files, plain: Any) -> None:
    samples = files(2)
    for sample in samples:
        sample.views["plain"].write_bytes(b"")
    with pytest.raises(DataError, match="could be read"):
        decode(samples, plain, on_error="skip")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(decode: Decode, plain: Any, value: float) -> None:
    bad = array()
    bad[1, 2, 3] = value
    samples = [Sample("a", {"plain": array()}), Sample("b", {"plain": bad})]
    with pytest.raises(DataError, match=r"'b': holds values that are not finite"):
        decode(samples, plain)
    assert decode(samples, plain, on_error="skip").rows.tolist() == [0]


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (torch.zeros(8, 8), r"torch.float32 \(8, 8\)"),
        (torch.zeros(1, 2, 8, 8), r"torch.float32 \(1, 2, 8, 8\)"),
        (torch.zeros(2, 8, 8, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(2, 8, 8, dtype=torch.float64), "torch.float64"),
        (np.zeros((2, 8, 8), np.float32), "ndarray"),
        (None, "NoneType"),
    ],
)
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_decoder_that_breaks_its_contract(decode: Decode, wrong: Any, got: str, on_error: str, plain: Any) -> None:
    class Wrong(type(plain)):
        def decode(self, raw: Any) -> Any:
            return wrong

    with pytest.raises(PluginError, match=rf"decode should return a \(C, H, W\) float32 tensor, got {got}"):
        decode([Sample("a", {"plain": array()})], Wrong(), on_error=on_error)


def test_a_resize_that_breaks_its_contract(decode: Decode, plain: Any) -> None:
    class Small(type(plain)):
        def resize(self, x: torch.Tensor, size: int) -> torch.Tensor:
            return super().resize(x, size - 1)

    with pytest.raises(PluginError, match=r"resize\(x, 8\) should return \(C, 8, 8\), got \(2, 7, 7\)"):
        decode([Sample("a", {"plain": array()})], Small())


# --- rows and groups


def test_missing_views_leave_gaps(decode: Decode, files: Files, plain: Any) -> None:
    samples = files(4)
    samples = [samples[0], Sample("x", {"other": b""}), samples[1], Sample("y", {}), samples[2]]
    views = decode(samples, plain)
    assert views.rows.tolist() == [0, 2, 4]
    assert len(views.array) == 3


def test_no_view_at_all(decode: Decode, files: Files, plain: Any) -> None:
    with pytest.raises(DataError, match="no sample of this split has a view called 'thermal'"):
        decode(files(2), plain, name="thermal")


def test_names_are_equal_where_the_raw_data_are(decode: Decode, files: Files, plain: Any) -> None:
    a, b = (sample.views["plain"] for sample in files(2))
    raws: list[Any] = [a, b, a, array(5), b, array(6), array(5), array(6).tobytes()]
    names = decode([Sample(str(i), {"plain": raw}) for i, raw in enumerate(raws)], plain).names
    same = names[:, None] == names[None, :]
    expected = np.eye(8, dtype=bool)
    for i, j in [(0, 2), (1, 4), (3, 6)]:
        expected[i, j] = expected[j, i] = True
    assert np.array_equal(same, expected)


def test_names_of_what_is_left_after_skipping(decode: Decode, files: Files, plain: Any) -> None:
    samples = files(3)
    samples[0].views["plain"].write_bytes(b"nonsense")
    twice = [*samples, replace(samples[1], key="again")]
    views = decode(twice, plain, on_error="skip")
    assert views.rows.tolist() == [1, 2, 3]
    assert views.names[0] == views.names[2] != views.names[1]
