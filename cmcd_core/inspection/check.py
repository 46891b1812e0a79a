"""Everything that can be found before a training, in one list: what stops a run first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..progress import Progress
from .balance import classes, splits
from .copies import copies, repeated
from .finding import Finding, warning
from .look import Looked, look
from .opened import Opened
from .pairing import Pairing, pairings, shuffled
from .readable import constant, scaled, unreadable
from .samples import aligned_sizes, keys_and_weights, targets


@dataclass(frozen=True)
class Checked:
    """What was looked at and found."""

    opened: Opened
    looked: Looked
    pairings: Sequence[Pairing]
    findings: Sequence[Finding]

    @property
    def problems(self) -> int:
        return sum(finding.level == "problem" for finding in self.findings)

    @property
    def values(self) -> Mapping[str, Any]:
        """For JSON."""
        return {
            "data": self.opened.name,
            "loader": f"{self.opened.part.plugin.name}:{self.opened.part.name}",
            "samples": dict(self.looked.totals),
            "looked_at": {split: len(samples) for split, samples in self.looked.samples.items()},
            "pairing": [as_values(pairing) for pairing in self.pairings],
            "findings": [asdict(finding) for finding in self.findings],
            "problems": self.problems,
            "warnings": len(self.findings) - self.problems,
        }


def check(opened: Opened, most: int | None, progress: Progress) -> Checked:
    """Look at up to ``most`` samples of each split (None: at all) and say what is wrong."""
    looked = look(opened, most, progress)
    tested = pairings(opened, looked)
    findings = [
        *unreadable(opened, looked),
        *keys_and_weights(looked),
        *targets(opened, looked),
        *splits(opened, looked),
        *constant(opened, looked),
        *scaled(opened, looked),
        *aligned_sizes(opened, looked),
        *(warning("modality", reason, "Its views are not looked into.") for reason in opened.unknown.values()),
        *copies(opened, looked),
        *repeated(opened, looked),
        *classes(opened, looked),
        *(shuffled(tested) if opened.loader.pairs == "instance" else ()),
    ]
    findings.sort(key=lambda finding: finding.level != "problem")
    return Checked(opened, looked, tested, findings)


def as_values(pairing: Pairing) -> dict[str, Any]:
    """A pairing for JSON, which has no NaN."""
    return {name: None if value != value else value for name, value in asdict(pairing).items()}
