"""What is compared: the name that cmcd knows it by -> the page's name for it."""

from __future__ import annotations

COMPARED = {"scratch": "scratch", "ssl-target": "ssl-target", "source": "source as it is"}
"""Baselines that are existing methods too."""
UNTRAINED = {"untrained": "untrained"}
RIVALS = {name: name for name in ("l2", "socket", "crd", "sp", "pkt", "seed", "cka")}
OURS = {"cmd": "cmd", "cmc": "cmc", "preset:recommended": "recommended"}

BASELINES = COMPARED | UNTRAINED
EXISTING = (*COMPARED.values(), *RIVALS.values())
DISTILLED = (*RIVALS.values(), *OURS.values())
METHODS = (*EXISTING, *OURS.values(), *UNTRAINED.values())
