"""What every test has: a cache of its own, a tiny paired data set, and real data where it is there."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch comes in: workers that each take all cores slow each other down
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import csv
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

REAL = Path(os.environ.get("CMCD_DATA") or Path(__file__).parents[2] / "shared" / "data")
ROWS = {"train": 48, "val": 12, "test": 12}
CLASSES = ("bright", "dark", "ring")
SIDE = 24

# The same examples on every machine, so that a red run can be repeated; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session", autouse=True)
def heeded_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C, and what they start inherits that: tests of it need it heard."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the session: a user's own is neither read nor filled. Subprocesses inherit it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMCD_CACHE", str(folder))
        for name in ("CMCD_PLUGINS", "CMCD_STRICT"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    if not REAL.is_dir():
        pytest.skip(f"no real data at {REAL}: put the data sets' folder there, or name it in CMCD_DATA")
    return REAL


@pytest.fixture(scope="session")
def data(data_root: Path) -> Callable[[str], Path]:
    """``data("tools_objects")``: the folder of one real data set."""

    def folder(name: str) -> Path:
        if not (data_root / name).is_dir():
            pytest.skip(f"no {name} under {data_root}: get it, or name another folder of data sets in CMCD_DATA")
        return data_root / name

    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 + 12 + 12 pairs of image (RGB PNG) and depth (16-bit mm) of three classes, 24 px. Read only.

    A disc, a darker disc far away, or a ring; its place, size and colours vary, so that the classes can be learnt from
    either modality. One row of train lacks its image, one its depth.
    """
    root = tmp_path_factory.mktemp("tiny")
    write_tiny(root)
    return root


def write_tiny(root: Path, seed: int = 0) -> None:
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name in ("image", "depth"):
        (root / name).mkdir(parents=True)
    rows = []
    for split, count in ROWS.items():
        for number in range(count):
            key, kind = f"{split}{number:03d}", number % len(CLASSES)
            colour, depth = scene(kind, rng)
            Image.fromarray(colour).save(root / "image" / f"{key}.png")
            Image.fromarray(depth).save(root / "depth" / f"{key}.png")
            image, deep = f"image/{key}.png", f"depth/{key}.png"
            if split == "train" and number >= count - 2:
                image, deep = ("", deep) if number % 2 else (image, "")
            rows.append([key, split, CLASSES[kind], image, deep])
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "label", "image_file_name", "depth_file_name"])
        writer.writerows(rows)
    (root / "dataset.toml").write_text('aligned = ["image", "depth"]\n[depth]\nunit = "mm"\n')


def scene(kind: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(S, S, 3) uint8 and (S, S) uint16: what one thing of class ``kind`` looks like and how far away it is."""
    y, x = np.mgrid[:SIDE, :SIDE]
    centre, radius = rng.uniform(10, 14, 2), rng.uniform(6, 8)
    distance = np.hypot(y - centre[0], x - centre[1])
    inside = distance < radius if kind < 2 else (distance < radius) & (distance > radius - 3)
    paint = {0: 220, 1: 90, 2: 220}[kind] + rng.uniform(-15, 15, 3)
    colour = np.where(inside[..., None], paint, 150) + rng.normal(0, 6, (SIDE, SIDE, 3))
    depth = np.where(inside, {0: 900, 1: 2600, 2: 900}[kind] + rng.uniform(-80, 80), 1800)
    depth = depth + rng.normal(0, 15, (SIDE, SIDE))
    return colour.clip(0, 255).astype(np.uint8), depth.astype(np.uint16)


@pytest.fixture(scope="session")
def laid_out() -> Callable[[Path, Path], None]:
    """``laid_out(package, site)``: what pip would put into a site-packages folder, without pip or network."""
    return lay_out


def lay_out(package: Path, site: Path) -> None:
    """Copy the modules that pyproject.toml names, and write the metadata it describes."""
    values = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))
    project = values["project"]
    for module in values["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(package / module, site / module, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Requires-Dist: {text}" for text in project["dependencies"]]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    points = [f"{key} = {value}" for key, value in project["entry-points"]["cmcd"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[cmcd]", *points]) + "\n")


@pytest.fixture(scope="session")
def pip_install(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``pip_install(package, …)``: pip puts them into an environment of its own; the Python there.

    The environment borrows all that is installed here, and nothing is fetched: pip checks what the package requires.
    """
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    here = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", here], check=True, capture_output=True, text=True).stdout.strip()
    modules = [entry.load() for entry in entry_points(group="cmcd") if entry.dist and entry.dist.name == "cmcd"]
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    borrowed += [str(Path(module.__file__).parents[1]) for module in [import_module("cmcd_core"), *modules]]
    (Path(site) / "borrowed.pth").write_text("\n".join(dict.fromkeys(borrowed)) + "\n")

    def install(*packages: Path) -> Path:
        folder = tmp_path_factory.mktemp("sources")  # builds may leave something beside what they build
        sources = [str(shutil.copytree(package, folder / package.name)) for package in packages]
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index"]
        command += ["--no-build-isolation", "--disable-pip-version-check", *sources]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return python

    return install
