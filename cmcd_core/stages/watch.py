"""A loss that is not finite ends a training, and the batch that it came with is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import CmcdError

EVERY = 50
"""An accelerator is asked for its losses once in so many steps, as each question stops its queue; a CPU has none."""
LISTED = 64


class Watch:
    """One epoch's losses.

    Args:
        keys: Epoch and batch number -> the keys of that batch's samples.
    """

    def __init__(self, module: nn.Module, title: str, epoch: int, keys: Callable[[int, int], Sequence[str]]) -> None:
        self._module, self._title, self._epoch, self._keys = module, title, epoch, keys
        self._open: list[tuple[int, Tensor]] = []

    def see(self, loss: Tensor, number: int) -> None:
        """The loss of batch ``number``, before the step that it leads to."""
        self._open.append((number, loss.detach()))
        if loss.device.type == "cpu" or len(self._open) >= EVERY:
            self.look()

    def look(self) -> None:
        """Ask for the losses.

        Raises:
            CmcdError: One is not finite.
        """
        if not self._open:
            return
        finite = torch.stack([loss.float().isfinite().all() for _, loss in self._open]).tolist()
        if not all(finite):
            raise self._error(self._open[finite.index(False)][0])
        self._open.clear()

    def _error(self, number: int) -> CmcdError:
        where = f"{self._title}: the loss is not finite in epoch {self._epoch + 1}, batch {number + 1}"
        hint = "Look at these samples, lower the learning rate, or raise the temperature. The last checkpoint is kept."
        if len(self._open) == 1 and number and not self._weights_are_finite():
            # A step on a finite loss broke the weights: the samples to look at are those of that step.
            where, number = f"{where}, as the step on the batch before it broke the weights", number - 1
        keys = self._keys(self._epoch, number)
        more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
        return CmcdError(f"{where}; its samples: {', '.join(keys[:LISTED])}{more}" if len(keys) else where, hint)

    def _weights_are_finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self._module.parameters())
