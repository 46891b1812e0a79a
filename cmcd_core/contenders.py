"""The encoders that step 3 compares: the distilled one, and what it should beat."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .config import SSL
from .encoders import AsItIs, brought, start_from
from .interfaces.encoder import Encoder
from .students import is_copy, twin
from .workbench import Side, Workbench, frozen


@dataclass(frozen=True)
class Contender:
    """One encoder under a name of result.json.

    Attributes:
        encoder: In eval mode, without gradients.
        side: Whose views it sees.
        size: Side in pixels of what it sees; None: as everyone on its side.
        start: A trainable copy, from a seed, for fine-tuning; None: it is not fine-tuned.
        brought: Whether its weights began as those of a teacher from elsewhere.
    """

    name: str
    encoder: Encoder
    side: Side = "target"
    size: int | None = None
    start: Callable[[int], Encoder] | None = None
    brought: bool = False


def contenders(
    bench: Workbench, target: Encoder, source: Encoder | None, baselines: Mapping[str, Encoder]
) -> list[Contender]:
    """The distilled encoder first; then its random twin, the baselines' encoders, and the source's.

    Args:
        baselines: Encoders that were trained to be compared with, by name.
    """
    wanted = bench.resolved.config.evaluate.baselines
    untrained = frozen(bench, twin(bench, target, bench.seed_for("student")))
    copied = source is not None and is_copy(bench, target, source)
    out = [Contender("distilled", target, start=trainable(target), brought=copied), Contender("untrained", untrained)]
    for name, encoder in baselines.items():
        out.append(Contender(name, encoder, start=trainable(encoder), brought=copied and name != SSL))
    if source is None:
        return out
    if "source" in wanted:
        size = bench.source_size if bench.target.modality.spatial else None
        on_target = frozen(bench, AsItIs(source, bench.target.modality.channels))
        start = _from_source(bench, source)
        out.append(Contender("source", on_target, size=size, start=start, brought=brought(source)))
    return [*out, Contender("source", source, side="source")]


def trainable(encoder: Encoder) -> Callable[[int], Encoder]:
    """Copies of an encoder whose weights can change; the seed does not matter."""
    return lambda seed: copy.deepcopy(encoder).requires_grad_(True)


def _from_source(bench: Workbench, source: Encoder) -> Callable[[int], Encoder]:
    """Encoders of the target modality that start from the source's weights."""

    def start(seed: int) -> Encoder:
        encoder = twin(bench, source, seed, bench.source_size)
        start_from(encoder, source)
        return encoder

    return start
