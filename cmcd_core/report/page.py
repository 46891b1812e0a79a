"""report.html of one run: one file, no script, nothing from the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ..files import write_text
from .answer import Answer, answer
from .blocks import Section
from .cautions import cautions
from .common_space import joint, retrieval
from .evidence import Evidence, read_run
from .learning import cost, distance, learning
from .mistakes import predictions
from .origins import data, notes, repeat
from .results import headline_figure, results
from .words import short_name

FILE = "report.html"
GENERATOR = "cmcd report"
"""What tells a report from other files of its name."""


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder, from what lies there.

    Raises:
        ConfigError: There is no finished run.
    """
    run = read_run(folder)
    write_text(folder / FILE, run_page(run))
    return folder / FILE


def run_page(run: Evidence) -> str:
    """The page of one run."""
    found = answer(run)
    taught = "distill" in run.steps
    way = f"{run.source} → {run.target}" if taught else run.target if run.result["target"] else run.source
    objective = f"objective {run.objective}" if taught else ""
    kicker = [way, objective, short_name(str(run.result["data"]))]
    return page(
        title=f"{found.headline} · {run.name}",
        kicker=[*filter(None, kicker), run.name],
        headline=found.headline,
        verdict=found.verdict,
        deck=found.deck,
        facts=found.facts,
        lead_figure=headline_figure(run, found),
        cautions=cautions(run, found),
        sections=list(_sections(run, found)),
        cmcd=str(run.result.get("cmcd", "")),
    )


def _sections(run: Evidence, found: Answer) -> Iterator[Section]:
    yield from results(run, found)
    yield from cost(run)
    yield from learning(run)
    yield from distance(run)
    yield from joint(run)
    yield from retrieval(run)
    yield from predictions(run, found)
    yield from data(run)
    yield from notes(run)
    yield from repeat(run)


def marked(words: str) -> Markup:
    """A sentence whose numbers keep their %, and in which what stands between backticks is set as code."""
    parts = words.replace(" %", "\N{NO-BREAK SPACE}%").split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def page(*, sections: Sequence[Section], **content: Any) -> str:
    """A page of the report: the template, its style, and a policy that lets it load nothing."""
    environment = Environment(
        loader=PackageLoader("cmcd_core.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["marked"] = marked
    style = files("cmcd_core.report").joinpath("page.css").read_text(encoding="utf-8").strip()
    known = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("page.html.jinja").render(
        style=Markup(style),
        style_hash=known,
        generator=GENERATOR,
        made=f"{datetime.now():%d %B %Y, %H:%M}",
        sections=sections,
        **content,
    )
