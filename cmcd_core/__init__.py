"""cmcd: cross-modality contrastive distillation.

The public API. Names are loaded on first use (PEP 562): ``import cmcd_core`` costs neither torch nor pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "CmcdError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "PluginError": "errors",
    "Encoder": "interfaces.encoder",
    "Features": "interfaces.encoder",
    "Modality": "interfaces.modality",
    "Objective": "interfaces.objective",
    "PairedLoader": "interfaces.loader",
    "Result": "result",
    "RunConfig": "config",
    "Sample": "interfaces.loader",
    "Task": "interfaces.task",
    "TimmEncoder": "interfaces.timm_encoder",
    "Widths": "plugin",
    "cache_folder": "cache",
    "distill": "own_modules",
    "embed": "embedding",
    "export": "exporting",
    "load_encoder": "encoders",
    "load_run": "result",
    "predict": "predicting",
    "retrieve": "retrieving",
    "run": "pipeline",
}

if TYPE_CHECKING:
    from .cache import cache_folder
    from .config import RunConfig
    from .embedding import embed
    from .encoders import load_encoder
    from .errors import CmcdError, ConfigError, DataError, PluginError
    from .exporting import export
    from .interfaces.encoder import Encoder, Features
    from .interfaces.loader import PairedLoader, Sample
    from .interfaces.modality import Modality
    from .interfaces.objective import Objective
    from .interfaces.task import Task
    from .interfaces.timm_encoder import TimmEncoder
    from .own_modules import distill
    from .pipeline import run
    from .plugin import Widths
    from .predicting import predict
    from .result import Result, load_run
    from .retrieving import retrieve

__all__ = [  # noqa: RUF022
    "CmcdError", "ConfigError", "DataError", "PluginError",
    "Encoder", "Features", "Modality", "Objective", "PairedLoader", "Sample", "Task", "TimmEncoder", "Widths",
    "RunConfig", "Result", "cache_folder", "distill", "embed", "export", "load_encoder", "load_run",
    "predict", "retrieve", "run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cmcd")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cmcd_core' has no attribute {name!r}")
    value = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
