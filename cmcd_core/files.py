"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CmcdError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")
"""All that numpy says of a full disk."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def refusal(error: OSError, path: object = None) -> CmcdError:
    """What the operating system refused (a full disk, a read-only folder) as one clear error."""
    where = path or error.filename or "the disk"
    hint = "Nothing that was written is lost: go on with --resume once it can be written again."
    if error.errno in FULL:
        hint = "Nothing that was written is lost: free some room, then go on with --resume."
    return CmcdError(f"{where}: {error.strerror or error}", hint)


@contextmanager
def refusals_told(path: Path | None = None) -> Iterator[None]:
    """Inside, what the operating system refuses is a :class:`CmcdError`, which names ``path`` or the file at hand."""
    try:
        yield
    except ConnectionError:  # a closed pipe is the reader's doing
        raise
    except OSError as error:
        if error.errno is None:  # somebody's own, which says what is wrong
            raise
        raise refusal(error, path) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to; it takes ``path``'s place once the block is left without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        number = errno.ENOSPC if _CUT_SHORT.fullmatch(str(error)) else error.errno
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error  # a failed write names no file
    finally:
        partial.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in ``folder``; folders with a lock of their own are passed by."""
    for here, inside, names in os.walk(folder):
        if ".lock" in names and here != str(folder):
            inside.clear()
            continue
        for name in filter(_is_partial, names):
            Path(here, name).unlink(missing_ok=True)
        for name in filter(_is_partial, list(inside)):
            shutil.rmtree(Path(here, name), ignore_errors=True)
            inside.remove(name)


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(".partial")


def made_folder(folder: Path, flag: str = "--out") -> Path:
    """A folder to write to, made if need be.

    Raises:
        ConfigError: It cannot be written; ``flag`` is what named it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
    else:
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
        reason = "no permission"
    raise ConfigError(f"{flag} {folder}: cannot write there: {reason}", "Pass a place that can be written.")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, its folder made if need be."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a .safetensors file atomically; shared and permuted tensors are stored as plain ones."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        try:
            save_file(plain, partial, metadata={"format": "pt"})
        except SafetensorError as error:  # it wraps what the operating system says
            if not (found := _OS_ERROR.search(str(error))):
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
