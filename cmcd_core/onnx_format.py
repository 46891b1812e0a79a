"""An encoder, with or without a head, as one ONNX graph: normalisation inside, any batch size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .data.targets import upsampled
from .errors import CmcdError, ConfigError
from .interfaces.encoder import Encoder

if TYPE_CHECKING:
    from .predicting import Predictor

NEEDED = ("onnx", "onnxscript", "onnxruntime")
INPUT = "input"


class Portable(nn.Module):
    """(N, C, H, W) in [0, 1] -> plain tensors: pooled features first, then the dense map, then predictions.

    Args:
        predictor: Whose head predicts; None: features only.
    """

    def __init__(self, encoder: Encoder, predictor: Predictor | None = None) -> None:
        super().__init__()
        self.encoder, self.predictor = encoder, predictor
        self.head = predictor.head if predictor else None  # registered: its weights are part of the graph

    def named(self, x: Tensor) -> dict[str, Tensor]:
        """Each output under its name in the graph."""
        features = self.encoder(x)
        out = {"pooled": features.pooled}
        if features.dense is not None:
            out["dense"] = features.dense
        if self.predictor is not None:
            output = upsampled(self.predictor.output(features), x[:, 0])
            out |= self.predictor.task.predict(output)
        return out

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(x).values())


def require_onnx() -> None:
    """Refuse early what would fail late.

    Raises:
        ConfigError: A package is missing, or torch is too old.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(f"--format onnx needs {', '.join(missing)}", "python -m pip install 'cmcd[onnx]'")
    if tuple(int(number) for number in torch.__version__.split(".")[:2]) < (2, 6):
        raise ConfigError(f"--format onnx needs torch 2.6 or newer, and this is {torch.__version__}")


def write_onnx(module: Portable, example: Tensor, about: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Write the graph; its outputs' names in order.

    Args:
        example: (2 or more, C, H, W); all but the first dimension stay as they are here.
        about: Written into the file's metadata, JSON-ready.

    Raises:
        CmcdError: torch cannot export this network.
    """
    with torch.no_grad():
        names = tuple(module.named(example))
    batch = {0: torch.export.Dim("batch")}
    try:
        program: Any = torch.onnx.export(
            module, (example,), input_names=[INPUT], output_names=list(names), dynamic_shapes=(batch,),
            dynamo=True, verbose=False,
        )  # fmt: skip
    except Exception as error:  # torch.export raises many kinds, all about this network
        reason = " ".join(str(error).split())[:300]
        raise CmcdError(
            f"torch cannot export this {type(module.encoder).__name__} to ONNX: {reason}",
            "Export it as --format timm, or take another --student.",
        ) from error
    program.model.metadata_props.update({f"cmcd.{key}": json.dumps(value) for key, value in about.items()})
    program.save(str(path), external_data=False)
    return names


def run_onnx(path: Path, x: Tensor) -> dict[str, np.ndarray]:
    """Each output by name, computed by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: x.cpu().numpy()}), strict=True))
