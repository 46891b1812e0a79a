"""``cmcd plugins check``: does a plugin keep its contract?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..conformance.findings import Finding


@click.command(short_help="Does a plugin keep its contract?")
@click.argument("name")
@click.option(
    "--sample",
    "samples",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of the modality to check it on.",
)
@click.option(
    "-o", "--option", "assignments", multiple=True, metavar="PART.KEY=VALUE", help="An option, such as a loader's root."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(name: str, samples: tuple[Path, ...], assignments: tuple[str, ...], as_json: bool) -> int:
    """Check NAME (a modality, loader, objective, task, or plugin) as cmcd_core.testing.check_plugin does.

    Exit code 0: nothing fails; 1: something does; 2: nothing is called NAME.
    """
    import json
    import sys
    import warnings
    from contextlib import redirect_stdout
    from dataclasses import asdict

    from ..conformance.examine import examine
    from ..grammar import set_key

    options: dict[str, Any] = {}
    for assignment in assignments:
        set_key(options, assignment)
    out, findings = sys.stdout, list[Any]()
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # a plugin may print what it likes
        warnings.simplefilter("ignore")
        for finding in examine(name, samples=of_modalities(name, samples), options=options):
            if not as_json:
                for line in lines(finding, findings):
                    click.echo(line, file=out)
            findings.append(finding)
    said = json.dumps([asdict(f) for f in findings], indent=2, ensure_ascii=False) if as_json else summary(findings)
    click.echo(said)
    return int(any(finding.outcome == "failed" for finding in findings))


def of_modalities(name: str, samples: Sequence[Path]) -> dict[str, Sequence[Path]]:
    """The files for each modality that ``name`` means.

    Raises:
        ConfigError: There is none.
    """
    from ..catalog import load
    from ..errors import ConfigError

    if not samples:
        return {}
    modalities = [part.name for kind, _, part in load().called(name) if kind == "modality"]
    if not modalities:
        raise ConfigError(f"--sample: {name} is no modality", "Leave it out; a loader's data: -o LOADER.root=PATH.")
    return dict.fromkeys(modalities, samples)


def lines(finding: Finding, before: Sequence[Finding]) -> list[str]:
    """A finding, under a heading where a new part begins."""
    begins = not before or (before[-1].kind, before[-1].name) != (finding.kind, finding.name)
    heading = [f"{finding.name}, {finding.kind}"] if begins else []
    return [*heading, *(f"  {line}" for line in str(finding).splitlines())]


def summary(findings: Sequence[Finding]) -> str:
    """``14 checks: 12 ok, 1 failed, 1 skipped``."""
    counts = {name: sum(f.outcome == name for f in findings) for name in ("ok", "failed", "skipped")}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{len(findings)} checks: {said}"
