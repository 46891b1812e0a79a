"""Conformance checks for a plugin's own tests.

Example, a test of a package ``cmcd-plugin-thermal``::

    from cmcd_core.testing import check_plugin

    def test_contract():
        check_plugin("thermal")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .conformance.findings import Finding

__all__ = ["Finding", "check_plugin"]


def check_plugin(
    name: str,
    *,
    samples: Mapping[str, Sequence[Any]] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Finding]:
    """Check that an installed plugin keeps its contract.

    Args:
        name: A plugin, a part of one (``"thermal"``), or ``"plugin:part"``.
        samples: Part -> what to look at: raw data of a modality (paths, bytes, arrays), or values that a task reads.
            Without them, generated data are tried; where none is taken, the checks that need some are skipped.
        options: Part -> its options; a loader's ``root`` is one.

    Returns:
        What was checked, with what was skipped and why.

    Raises:
        AssertionError: Something fails; the message lists all that does, and what to do.
        PluginError: There is no plugin or part of this name.

    Example:
        >>> findings = check_plugin("depth")
        >>> {finding.outcome for finding in findings}
        {'ok'}
    """
    from .conformance.examine import examine

    __tracebackhide__ = True  # pytest shows the list, and not this function
    findings = list(examine(name, samples=samples, options=options))
    failed = [finding for finding in findings if finding.outcome == "failed"]
    if failed:
        lines = [f"{f.kind} {f.name}: {f.check}\n{f.why}\n{f.hint}".strip() for f in failed]
        raise AssertionError(f"{name}: {len(failed)} of {len(findings)} checks failed\n\n" + "\n\n".join(lines))
    return findings
