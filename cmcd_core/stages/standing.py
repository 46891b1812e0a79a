"""Where a training stands: all that a checkpoint holds, between any two steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Standing:
    """What a training has done, beside its module and its optimiser, which it saves and restores too.

    Attributes:
        losses: Sample-weighted mean loss of each finished epoch.
        steps: Finished steps of the epoch that is under way.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.module, self.optimizer, self.device = module, optimizer, device
        self.losses: list[float] = []
        self.steps, self._seen = 0, 0
        self._total = torch.zeros((), device=device)
        self._generators: Mapping[str, Tensor] = {}

    def add(self, loss: Tensor, count: int) -> None:
        """A step is done, on ``count`` samples."""
        self._total, self._seen = self._total + loss.detach().float() * count, self._seen + count
        self.steps += 1

    def end_epoch(self) -> float:
        """The epoch's mean loss."""
        self.losses.append(float(self._total) / max(1, self._seen))
        self.steps, self._seen, self._total = 0, 0, torch.zeros_like(self._total)
        return self.losses[-1]

    def tensors(self) -> dict[str, Tensor]:
        """The module's and the optimiser's state; within an epoch the random generators' too."""
        out = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            out |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        if self.steps:
            out |= {"total": self._total, **_generators_of(self.device)}
        return out

    def meta(self) -> dict[str, Any]:
        """What is no tensor."""
        return {"losses": self.losses, **({"steps": self.steps, "seen": self._seen} if self.steps else {})}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Stand where :meth:`tensors` and :meth:`meta` were taken."""
        self.losses = list(meta["losses"])
        self.steps, self._seen = int(meta.get("steps", 0)), int(meta.get("seen", 0))
        self._total = tensors.get("total", self._total).to(self.device)
        self._generators = {name: tensor for name, tensor in tensors.items() if name.startswith("random.")}
        self.module.load_state_dict(
            {name.removeprefix("module."): tensor for name, tensor in tensors.items() if name.startswith("module.")}
        )
        _restore(self.optimizer, tensors)

    def drawn_again(self, number: int) -> bool:
        """Whether batch ``number`` was done before the interruption: it is drawn, since later ones depend on that, and
        passed over. After the last of them, the generators are where they were."""
        if number >= self.steps or not self._generators:
            return False
        if number == self.steps - 1:
            torch.set_rng_state(self._generators["random.cpu"])
            if "random.cuda" in self._generators and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._generators["random.cuda"], self.device)
            self._generators = {}
        return True


def _generators_of(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's global generators that a training on ``device`` draws from."""
    out = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        out["random.cuda"] = torch.cuda.get_rng_state(device)
    return out


def _restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            like = parameters[int(index)]
            if tensor.shape == like.shape:  # fused steps walk memory: the moments must lie as the weights do
                tensor = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
