"""What is compared: the name that cmcd knows it by -> the page's name for it."""

from __future__ import annotations

COMPARED = {"scratch": "scratch", "ssl-target": "ssl-target", "source": "source as it is"}
"""Baselines that are existing methods too."""
UNTRAINED = {"untrained": "untrained"}
RIVALS = {name: name for name in ("l2", "socket", "crd", "sp", "pkt", "seed", "cka")}
AS_LONG = {"l2": "l2, as long", "crd": "crd, as long"}
"""The control: rivals on the recipe's schedule, which is longer than the others'."""
OURS = {"cmd": "cmd", "cmc": "cmc", "preset:recommended": "recommended"}

BASELINES = COMPARED | UNTRAINED
EXISTING = (*COMPARED.values(), *RIVALS.values())
DISTILLED = (*RIVALS.values(), *AS_LONG.values(), *OURS.values())
METHODS = (*EXISTING, *AS_LONG.values(), *OURS.values(), *UNTRAINED.values())
