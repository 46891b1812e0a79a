"""The docs are run: every Python block, and every console block that is marked with ``<!-- run -->``.

A page's blocks run in order, with one set of names, in a folder of its own that holds what the pages speak of: pairs
(``my_pairs/``), a finished run on them (``runs/my-run``), files of its modalities. ``<!-- skip: next -->`` before a
block leaves it out, for what needs a network.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sybil import Document, Example, Region
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from torch import nn
from torch.utils.data import TensorDataset

from cmcd_core import RunConfig, run
from cmcd_core.cli import main

ROOT = Path(__file__).parents[1]
CONSOLE = re.compile(r"^<!-- run -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = {"README.md", "docs/tutorial.md", "docs/edge.md", "docs/distance.md"}
"""Pages that train at full length, or ask for much."""


def python_blocks(document: Document) -> Iterable[Region]:
    """Blocks are run; one that begins with ``# NAME.py`` becomes that file, for the commands after it."""
    for region in PythonCodeBlockParser()(document):
        if re.match(r"# \w+\.py\n", str(region.parsed)):
            region.evaluator = saved
        yield region


def saved(example: Example) -> None:
    Path(example.parsed.partition("\n")[0].removeprefix("# ")).write_text(example.parsed, encoding="utf-8")


def console_blocks(document: Document) -> Iterable[Region]:
    for match in CONSOLE.finditer(document.text):
        yield Region(match.start(), match.end(), match[1], typed)


def typed(example: Example) -> None:
    """A block as a user would type it, line by line; cmcd in this process, which has torch already."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        where = f"{example.path}:{example.line}: {line}"
        if line.startswith("cmcd "):
            with pytest.raises(SystemExit) as ended:
                main(shlex.split(line)[1:])
            assert ended.value.code == 0, where
        else:
            python = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
            done = subprocess.run(["bash", "-c", line], env=python, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"


def examples(page: str) -> list[Example]:
    parsers = [python_blocks, SkipParser(), console_blocks]
    return list(Document.parse(str(ROOT / page), *parsers).examples())


def pages() -> list[Any]:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    names = [file.relative_to(ROOT).as_posix() for file in files]
    return [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in names if examples(n)]


@pytest.fixture(scope="module")
def shelf(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of. Read only: each page gets a copy."""
    root = tmp_path_factory.mktemp("shelf")
    shutil.copytree(tiny_folder, root / "my_pairs")
    table = root / "my_pairs" / "metadata.csv"  # distances want 16 pairs of test
    table.write_text(re.sub(r"^(train03\d),train,", r"\1,test,", table.read_text(), flags=re.MULTILINE))
    (root / "scans").mkdir()
    files = sorted((root / "my_pairs" / "depth").glob("test*.png"))
    for file in files[:3]:
        shutil.copy(file, root / "scans")
    for name, side in (("scan.png", "depth"), ("one.png", "depth"), ("photo.png", "image")):
        shutil.copy(root / "my_pairs" / side / files[3].name, root / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run(RunConfig.from_mapping(
            {
                "target": "depth", "data": "my_pairs", "pretrain": {"epochs": 1}, "distill": {"epochs": 2},
                "evaluate": {"label_draws": 2, "labels": ["5", "100%"], "train_steps": 4, "train_epochs": 1},
                "run": {"out": "runs/my-run"},
            }
        ))  # fmt: skip
    return root


def names() -> dict[str, Any]:
    """What a reader has at hand: a batch, features of both sides, two networks, and pairs of tensors."""
    draw = torch.Generator().manual_seed(0)
    pictures, echoes = (torch.rand(32, channels, 8, 8, generator=draw) for channels in (3, 1))
    features = np.random.default_rng(0).normal(size=(2, 64, 8)).astype(np.float32)
    return {
        "batch": torch.rand(2, 1, 32, 32, generator=draw),
        "source_features": features[0],
        "target_features": features[0] + 0.5 * features[1],
        "my_image_net": nn.Sequential(nn.Flatten(), nn.Linear(192, 16)),
        "my_radar_net": nn.Sequential(nn.Flatten(), nn.Linear(64, 12)),
        "my_pairs_dataset": TensorDataset(pictures, echoes),
    }


@pytest.mark.parametrize("page", pages())
def test_the_page_runs(
    page: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    if page == "docs/tutorial.md":  # it begins with nothing
        here.mkdir()
    else:
        shutil.copytree(request.getfixturevalue("shelf"), here)
    monkeypatch.chdir(here)
    found = examples(page)
    found[0].document.namespace.update(names(), __name__=f"docs_{len(page)}")
    for example in found:
        example.evaluate()


def test_what_is_run() -> None:
    commands = [example for page in pages() for example in examples(*page.values) if example.region.evaluator is typed]
    assert len(commands) >= 10
    assert {page.values[0] for page in pages()} >= SLOW | {"docs/using.md", "docs/edge.md", "docs/watching.md"}


def test_a_command_that_fails_fails_its_page() -> None:
    document = Document("words\n\n<!-- run -->\n```console\ncmcd no-such-command\n```\n", "page.md")
    [region] = console_blocks(document)
    with pytest.raises(AssertionError, match=r"page.md:3: cmcd no-such-command"):
        typed(Example(document, 3, 1, region, {}))
