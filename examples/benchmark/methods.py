"""What is compared: the name that cmcd knows it by -> the page's name for it."""

from __future__ import annotations

COMPARED = {"scratch": "scratch", "ssl-target": "ssl-target", "source": "source as it is"}
"""Baselines that are existing methods too."""
UNTRAINED = {"untrained": "untrained"}
RIVALS = {name: name for name in ("l2", "socket", "crd", "sp", "pkt", "seed", "cka")}
ALIKE = {"l2": "l2, trained alike", "crd": "crd, trained alike"}
"""The control: rivals with all that the recipe says of the training, from the start to the schedule."""
RECIPE = "preset:recommended"
OURS = {"cmd": "cmd", "cmc": "cmc", RECIPE: "recommended"}

TUNED = {"source as it is": "source, fine-tuned"}
"""On masks, where the recipe fine-tunes: what fine-tuning makes of a baseline is a method of its own."""
PROBED = {name: f"{name}, linear head" for name in (OURS[RECIPE], *ALIKE.values())}
"""On masks, a linear head instead of fine-tuning."""

BASELINES = COMPARED | UNTRAINED
EXISTING = (*COMPARED.values(), *TUNED.values(), *RIVALS.values())
DISTILLED = (*RIVALS.values(), *ALIKE.values(), *OURS.values())
METHODS = (*EXISTING, *ALIKE.values(), *OURS.values(), *PROBED.values(), *UNTRAINED.values())
