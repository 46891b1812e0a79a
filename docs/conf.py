"""The docs as a site: `just docs`. The pages are plain Markdown, which reads as well where there is no Sphinx."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent

project = "cmcd"
copyright = "the authors of cmcd, Apache-2.0"
release = version = metadata.version("cmcd")
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4  # slugs as code hosts make them
html_theme = "furo"
html_title = f"cmcd {release}"


def contents(page: str, text: str) -> str:
    """The tables of contents that an index stands for: Sphinx wants them, a reader of the Markdown has the links.

    Each section's table holds the pages that it links to, in that order; the last one what no section names.
    """
    folder = FOLDER / page.rpartition("/")[0]
    tables, seen = [], {"index"}
    for number, section in enumerate(re.split(r"^## ", text, flags=re.MULTILINE)):
        links = dict.fromkeys(re.findall(r"\]\(([\w/-]+)\.md\)", section))
        own = [link for link in links if link not in seen and (folder / f"{link}.md").is_file()]
        seen.update(own)
        tables.append(table(section.partition("\n")[0] if number else "", own))
    rest = sorted(file.stem for file in folder.glob("*.md") if file.stem not in seen)
    return "\n\n".join([*tables, table("More" if tables[1:] else "", rest)])


def table(caption: str, pages: list[str]) -> str:
    """A hidden table of contents, which furo shows at the side; nothing where there are no pages."""
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *pages, "```"]) if pages else ""


def prepare(app: Any, page: str, source: list[str]) -> None:
    """Files outside docs/ (the README, the changelog) are no pages of the site: links to them hand out the file."""
    here = (FOLDER / page).parent

    def link(match: re.Match[str]) -> str:
        outside = not (here / match[1]).resolve().is_relative_to(FOLDER)
        return f"](path:{match[1]})" if outside else match[0]

    text = re.sub(r"\]\((\.\./[\w./-]+\.md)(?:#[\w-]+)?\)", link, source[0])
    tables = contents(page, text) if page.rpartition("/")[2] == "index" else ""
    source[0] = f"{text}\n\n{tables}\n"


def setup(app: Any) -> None:
    app.connect("source-read", prepare)
