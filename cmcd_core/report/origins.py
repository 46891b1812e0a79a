"""The sections of where it comes from: the data as the encoders see them, and how to repeat the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ..config import STEPS
from .blocks import Block, Code, Folded, Prose, Section, Sheet, Strip, Table, Tile, address_of
from .evidence import Evidence
from .words import counted, plain


def data(run: Evidence) -> Iterator[Section]:
    """Some training samples, whole and as one augmented view."""
    if not run.seen.get("samples"):
        return
    strips = []
    for sample in run.seen["samples"]:
        tiles = []
        for side, (whole, changed) in sample["views"].items():
            name = getattr(run, side)
            for file, what in ((whole, "whole"), (changed, "augmented")):
                where = address_of(run.picture(file), run.path)
                tiles.append(Tile(where, f"{name} of {sample['key']}, {what}", [f"{name}, {what}"]))
        strips.append(Strip(str(sample["key"]), tiles))
    sizes = " and ".join(
        f"{getattr(run, side)} as {' × '.join(map(str, shape))} numbers" for side, shape in run.seen["inputs"].items()
    )
    caption = (
        f"At the encoders' own size: {sizes}. Augmented ones are changed as in training. Samples are evenly spaced, "
        "not picked."
    )
    what = "Pairs" if len(run.seen["inputs"]) > 1 else "Samples"
    blocks: list[Block] = [Sheet(f"{what} of the training split", caption, strips)]
    blocks += [Prose(sentence) for sentence in _pairing(run.pairing)]
    yield Section(
        "data", f"{what} as the encoders see them", "If these look wrong, no number above means much.", blocks
    )


def _pairing(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    if isinstance(found.get("p"), float):
        tested = counted(found["tested"], "independent pair")
        verdict = "They go together" if found["p"] <= 0.05 else "They go together no better than shuffled ones"
        yield (
            f"Do the pairs belong together? {tested} were looked at from afar, beside shuffled ones. {verdict}: "
            f"p = {found['p']:.3f}; mean squared correlation {found['statistic']:.3f}, by chance {found['chance']:.3f}."
        )
    else:
        yield f"Whether pairs belong together was not tested: {found['tested']} independent pairs are too few."


def notes(run: Evidence) -> Iterator[Section]:
    """What the run told while it ran."""
    if told := [str(note) for note in run.result.get("notes", ())]:
        yield Section("notes", "What the run said", "", [Prose(note) for note in told])


def repeat(run: Evidence) -> Iterator[Section]:
    """The command, the configuration, the machine."""
    blocks: list[Block] = []
    if run.config:
        blocks.append(Code(command(run), "The command that repeats this run"))
        lead = "On the same CPU, with the same versions, it gives the same numbers."
        blocks.append(Folded("config.toml: the whole configuration", [Code(run.config_text, "config.toml")]))
    else:
        lead = "This run was made from Python, with modules of one's own: its script is what repeats it."
    result = run.result
    about = {
        "cmcd": result.get("cmcd"),
        "steps": ", ".join(run.steps),
        "objective": run.objective or None,
        "seed": result.get("seed"),
        "data": result.get("data"),
        **{
            f"data of {step}": place for step, place in result.get("data_of", {}).items() if place != result.get("data")
        },
        **result.get("environment", {}),
        **{f"plugin {name}": number for name, number in run.config.get("plugins", {}).items()},
    }
    rows = [[name, plain(value)] for name, value in about.items() if value is not None]
    blocks.append(Table("What the numbers depend on", ["what", "value"], rows, words=2))
    yield Section("repeat", "Once more", lead, blocks)


def command(run: Evidence) -> str:
    """What to type to repeat it; steps that were done one by one are repeated one by one."""
    config = shlex.quote(str(run.path / "config.toml"))
    if run.steps == STEPS:
        return f"cmcd run -c {config}"
    if run.steps == ("evaluate",):
        return f"cmcd evaluate -c {config} --out AGAIN"
    later = [f"cmcd {step} AGAIN -c {config}" for step in run.steps[1:]]
    return " && ".join([f"cmcd {run.steps[0]} -c {config} --out AGAIN", *later])
