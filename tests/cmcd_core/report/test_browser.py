"""The report in a real browser: phone and desktop, light and dark; nothing overflows, fails, loads or acts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OVERFLOWING = """() => {
  const width = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll('body *')].filter(element =>
    element.getBoundingClientRect().right > width + 1 && !element.closest('.box, .strip ul, .skip'));
  return [document.documentElement.scrollWidth - width, out.map(element => element.outerHTML.slice(0, 120))];
}"""
CONTRAST = """() => {
  const light = text => {
    const parts = text.match(/[\\d.]+/g).map(Number).slice(0, 3).map(part => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const paint = getComputedStyle(at).backgroundColor;
      if (!paint.includes('rgba(0, 0, 0, 0)')) return paint;
    }
  };
  return [...document.querySelectorAll('p, dt, dd, th, td, figcaption, a, summary, li, text:not(.count), h1, h2, h3')]
    .map(element => {
      const style = getComputedStyle(element);
      const ink = element instanceof SVGElement ? style.fill : style.color;
      const [one, other] = [light(ink), light(behind(element))].sort((a, b) => b - a);
      return [(one + 0.05) / (other + 0.05), element.outerHTML.slice(0, 100)];
    }).filter(([ratio]) => ratio < 4.5);
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on the PATH: install one, such as by apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_fits_and_is_silent(chromium: Any, hostile_run: Path, colours: str) -> None:
    file = hostile_run / "report.html"
    context = chromium.new_context(color_scheme=colours)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert page.evaluate(OVERFLOWING) == [0, []]
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("[...document.images].every(picture => picture.complete && picture.naturalWidth > 0)")
    assert not page.query_selector_all("script")
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}
    context.close()
