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

BASELINES = COMPARED | UNTRAINED
EXISTING = (*COMPARED.values(), *RIVALS.values())
DISTILLED = (*RIVALS.values(), *ALIKE.values(), *OURS.values())
METHODS = (*EXISTING, *ALIKE.values(), *OURS.values(), *UNTRAINED.values())
