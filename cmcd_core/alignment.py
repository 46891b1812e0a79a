"""What objectives on dense maps ask of the data and the encoders."""

from __future__ import annotations

import copy
import math

import torch

from .errors import ConfigError
from .interfaces.encoder import Encoder
from .plugin import Widths
from .workbench import Workbench


def require_alignment(bench: Workbench) -> None:
    """Dense terms compare places, so both modalities must lie on one pixel grid.

    Raises:
        ConfigError: They do not, or nobody has said so.
    """
    nominal = Widths(source=8, target=8, source_dense=8, target_dense=8)
    every = [bench.resolved.objectives, *bench.resolved.rivals.values()]
    dense = [c.name for terms in every for _, c in terms if "dense" in bench.objective(c, nominal, 0).needs]
    names, aligned = (bench.source.name, bench.target.name), bench.resolved.places["distill"].loader.aligned
    if dense and not (set(names) <= aligned or names[0] == names[1]):
        raise ConfigError(
            f"objective {dense[0]} compares places, and {bench.resolved.places['distill'].name} does not say that "
            f"{names[0]} and {names[1]} lie on one pixel grid",
            f'If they do: aligned = ["{names[0]}", "{names[1]}"] in its dataset.toml. Else use pooled objectives, '
            "such as cmd or cmc.",
        )


def dense_grid(bench: Workbench, source: Encoder, target: Encoder) -> tuple[int, int]:
    """(h, w) that both sides' dense maps are pooled to: the coarser of the two.

    Raises:
        ConfigError: An encoder has no dense map, or one of a single place.
    """
    shapes = []
    for side, encoder, size in (("source", source, bench.source_size), ("target", target, bench.size)):
        with torch.no_grad():
            x = torch.zeros(1, encoder.channels, size, size, device=next(encoder.parameters()).device)
            dense = copy.deepcopy(encoder).eval()(x).dense
        if dense is None:
            raise ConfigError(f"the objective needs dense features, and the {side} encoder has none")
        shapes.append(dense.shape[-2:])
    most = bench.resolved.config.distill.dense_grid or math.inf
    height, width = (int(min(one, other, most)) for one, other in zip(*shapes, strict=True))
    if height * width < 2:
        raise ConfigError(
            f"dense maps of one place have nothing to compare (pictures of {bench.source_size} and {bench.size} px)",
            "Raise -o run.size=N (64 gives the default encoders 2 x 2 places), or take a finer map: "
            "-o distill.output_stride=8.",
        )
    return height, width
