"""Content addresses: a cache entry is found again only if everything that made it is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..interfaces.loader import Raw


def digest(value: Any) -> str:
    """20 hex digits of JSON-like data."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def raw_digest(raw: Raw) -> str:
    """What a view's raw data is known by: a file by path, size and time; anything else by its bytes.

    A function may say it itself, in an attribute ``known_by``, and is then not called.
    """
    if isinstance(raw, Path):
        try:
            info = raw.stat()
        except OSError:
            return f"{raw}|missing"
        return f"{raw}|{info.st_size}|{info.st_mtime_ns}"
    if isinstance(raw, np.ndarray):
        head = f"{raw.dtype}{raw.shape}".encode()
        return hashlib.blake2b(head + np.ascontiguousarray(raw).tobytes(), digest_size=16).hexdigest()
    if known_by := getattr(raw, "known_by", ""):
        return str(known_by)
    content = raw if isinstance(raw, bytes) else raw()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def list_digest(items: Iterable[str]) -> str:
    """One address of many, order included."""
    total = hashlib.blake2b(digest_size=10)
    for item in items:
        total.update(item.encode())
        total.update(b"\n")
    return total.hexdigest()


def weights_digest(module: nn.Module) -> str:
    """The address of a module's parameters and buffers, those that are not saved (a normalisation) too."""
    total = hashlib.blake2b(digest_size=10)
    tensors: dict[str, Tensor] = {**module.state_dict(), **dict(module.named_buffers())}
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name}{tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
