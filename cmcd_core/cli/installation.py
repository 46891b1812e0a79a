"""What ``cmcd doctor`` finds of cmcd's own things: packages, extras, plugins, cache, environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from textwrap import wrap

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ..errors import one_line
from .machine import Finding, gb

SHOWN = ("torch", "torchvision", "torchaudio", "timm", "lightning-fabric", "torchmetrics", "pydantic", "numpy")
VARIABLES = ("CMCD_CACHE", "CMCD_PLUGINS", "CMCD_STRICT", "CMCD_DEBUG", "CMCD_DATA")
"""CMCD_DATA is read by the tests alone."""
LEAST_DISK = 1e9
LOADED = ("torch", "torchvision", "torchaudio", "timm", "lightning_fabric", "scipy", "safetensors")
"""Packages with compiled parts, or that build on them: the right versions alone do not say that they load."""


def packages() -> Finding:
    """Versions, what does not fit what, and what does not load."""
    needed = [str(canonicalize_name(requirement.name)) for requirement in required_by("cmcd")]
    versions = {name: installed(name) for name in sorted(needed)}
    problems = [text for name in ("cmcd", *needed) for text in misfits(name, {"cmcd", *needed})]
    problems += filter(None, map(does_not_load, LOADED))
    lines = wrap(", ".join(f"{name} {versions.get(name) or 'missing'}" for name in SHOWN), 76, break_on_hyphens=False)
    return Finding(lines, dict(versions), problems)


def extras() -> Finding:
    """Optional parts of cmcd, and the command that installs what is missing."""
    lines, values = [], {}
    for extra in metadata("cmcd").get_all("Provides-Extra") or []:
        wanting = sorted(
            requirement.name
            for requirement in required_by("cmcd", extra)
            if not (number := installed(requirement.name)) or not fits(requirement, number)
        )
        values[extra] = {"missing": wanting}
        state = f"without {', '.join(wanting)}: pip install 'cmcd[{extra}]'" if wanting else "installed"
        lines.append(f"{extra}: {state}")
    return Finding(lines or ["none"], values)


def sound() -> Finding:
    """libsndfile reads sound files; what it can read depends on its age."""
    try:
        import soundfile
    except Exception as error:  # OSError: the package is there, the library is not
        problem = f"soundfile does not load ({words(error)}). pip install --force-reinstall soundfile"
        return Finding(["soundfile does not load"], problems=[problem])
    number, formats = str(soundfile.__libsndfile_version__), sorted(soundfile.available_formats())
    missing = [name for name in ("WAV", "FLAC", "OGG", "MP3") if name not in formats]
    lines = [f"soundfile {soundfile.__version__}, libsndfile {number}"]
    problems = [f"libsndfile {number} reads no {', '.join(missing)}. pip install -U soundfile"] if missing else []
    return Finding(lines, {"soundfile": soundfile.__version__, "libsndfile": number, "formats": formats}, problems)


def cache() -> Finding:
    import shutil
    import tempfile

    from ..cache import cache_root, contents

    root = cache_root().absolute()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    size, free, problems = sum(kind.size for kind in contents()), shutil.disk_usage(there).free, []
    try:
        tempfile.TemporaryFile(dir=there).close()
        state = "writable"
    except OSError as error:
        state = "not writable"
        problems.append(f"no file can be made in {there}: {error.strerror}. Set CMCD_CACHE to another folder.")
    if free < LEAST_DISK:
        problems.append(
            f"{gb(free)} of disk are free for the cache in {root}. "
            "Make room (`cmcd cache list`, `cmcd cache clear`), or set CMCD_CACHE to a folder on another disk."
        )
    values = {"folder": str(root), "writable": state == "writable", "bytes": size, "free_bytes": free}
    return Finding([f"{root}", f"{state}, {size / 1e6:,.1f} MB in it, {gb(free)} of disk free"], values, problems)


def plugins() -> Finding:
    from ..catalog import load

    found = load().plugins
    values = {plugin.name: {"status": plugin.status, "reason": plugin.reason} for plugin in found}
    ok = [plugin.name for plugin in found if plugin.status == "ok"]
    off = [plugin.name for plugin in found if plugin.status == "off"]
    lost = [plugin for plugin in found if plugin.status in ("broken", "incompatible")]
    lines = [f"ok: {', '.join(ok) or 'none'}"]
    lines += [f"off: {', '.join(off)} (not named in CMCD_PLUGINS)"] if off else []
    lines += [f"{plugin.status}: {plugin.name}" for plugin in lost]
    problems = [
        f"plugin {plugin.name} (from {plugin.distribution} {plugin.version}) is {plugin.status}: {plugin.reason}. "
        f"Update it or take it away: pip install -U {plugin.distribution}"
        for plugin in lost
    ]
    named = {part.strip() for part in os.environ.get("CMCD_PLUGINS", "").split(",")} - {""}
    if missing := sorted(named - values.keys()):
        problems.append(f"CMCD_PLUGINS names what is not installed: {', '.join(missing)}. Correct or unset it.")
    return Finding(lines, values, problems)


def environment() -> Finding:
    """The variables that cmcd reads, and those that it might be thought to read."""
    given = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    strange = sorted(name for name in os.environ if name.startswith("CMCD_") and name not in VARIABLES)
    problems = [f"{name} is set, but cmcd reads no such variable: {', '.join(VARIABLES)}." for name in strange]
    lines = [f"{name}={value}" for name, value in given.items()]
    return Finding(lines or [f"none of {', '.join(VARIABLES)} is set"], dict(given), problems)


def required_by(name: str, extra: str = "") -> Iterator[Requirement]:
    """What an installed package, or one extra of it, requires here."""
    for text in requires(name) or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        wanted = marker is None or marker.evaluate({"extra": ""})
        if extra:
            wanted = marker is not None and not wanted and marker.evaluate({"extra": extra})
        if wanted:
            yield requirement


def installed(name: str) -> str | None:
    """The version of a package, None where it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def fits(requirement: Requirement, number: str) -> bool:
    return requirement.specifier.contains(number, prereleases=True)


def misfits(name: str, among: Iterable[str]) -> list[str]:
    """What ``name`` requires of the packages ``among`` which is missing or of another version."""
    if not installed(name):
        return []
    out = []
    for requirement in required_by(name):
        other = canonicalize_name(requirement.name)
        number = installed(other)
        if other not in among or (number and fits(requirement, number)):
            continue
        here = f"this is {other} {number}" if number else "it is missing"
        out.append(f"{name} needs {other}{requirement.specifier}, {here}. pip install -U {name} {other}")
    return out


def does_not_load(name: str) -> str:
    """Why a package that is there does not load, or ''."""
    if not installed(name):
        return ""  # said already
    try:
        import_module(name)
    except Exception as error:  # OSError and RuntimeError too: a torchaudio made for another torch
        together = " ".join(dict.fromkeys(("torch", "torchvision", "torchaudio", name.replace("_", "-"))))
        return f"{name} does not load ({words(error)}). pip install -U {together}"
    return ""


def words(error: Exception) -> str:
    """An error on one short line."""
    return one_line(error)[:160]
