"""The command line as a user meets it: whole runs in small, and what bad input says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import timm
import torch

import cmcd_core
from cmcd_core.catalog import load
from cmcd_core.cli.estimate import estimate
from cmcd_core.cli.options import configuration
from cmcd_core.resolve import resolve

SMALL = [
    "run", "--source", "image", "--target", "depth", "-o", "data.train=80", "-o", "data.val=40", "-o", "data.test=60",
    "-o", "run.size=32", "--epochs", "2", "--label-draws", "2",
    "-o", "evaluate.train_steps=4", "-o", "evaluate.train_epochs=1",
]  # fmt: skip


def cmcd(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own; a failing traceback is a failure of the test."""
    done = subprocess.run(
        [sys.executable, "-c", "from cmcd_core.cli import main; main()", *words],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    where = tmp_path_factory.mktemp("cli")
    done = cmcd(*SMALL, "--out", "first", cwd=where)
    assert done.returncode == 0, done.stderr
    return where, done


def test_a_run_ends_with_its_table_and_what_to_type(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    where, done = finished
    for word in ("distilled", "untrained", "scratch", "top1", "points of top1", "seconds:", "folder:", "next:"):
        assert word in done.stdout
    assert "embedded demo data" in done.stderr
    for file in (
        "config.toml",
        "result.json",
        "metrics.jsonl",
        "source/model.safetensors",
        "target/config.json",
        "objective/objective.safetensors",
        "evaluations/0/predictions.npz",
        "evaluations/0/head.safetensors",
    ):
        assert (where / "first" / file).is_file(), file


def test_result_json_keeps_the_contract(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    values = cmcd_core.load_run(finished[0] / "first").values
    assert values["schema"] == 1
    assert {e["encoder"] for e in values["evaluations"]} == {"distilled", "untrained", "scratch", "source"}
    for entry in values["evaluations"]:
        low, high = entry["intervals"]["top1"]
        assert 0 <= low <= entry["metrics"]["top1"] <= high <= 1
        assert entry["draws"] == 2
        assert len(entry["per_draw"]) == 2
    lines = [json.loads(line) for line in (finished[0] / "first/metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [
        ("pretrain", 0), ("pretrain", 1), ("distill", 0), ("distill", 1),
    ]  # fmt: skip
    assert values["distill"]["loss"] == lines[-1]["loss"]
    assert {"cmd.entropy", "cmd.kl", "cmd.tv_bound"} <= lines[-1].keys()


def test_plain_timm_gives_the_same_features(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder = finished[0] / "first" / "target"
    ours = cmcd_core.load_encoder(folder)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    x = torch.rand(4, ours.channels, 32, 32, generator=torch.Generator().manual_seed(0))
    cfg = theirs.pretrained_cfg
    assert len(cfg["mean"]) == len(cfg["std"]) == ours.channels
    shape = (1, -1, 1, 1)
    normal = (x - torch.tensor(cfg["mean"]).view(shape)) / torch.tensor(cfg["std"]).view(shape)
    with torch.no_grad():
        assert torch.allclose(theirs(normal), ours(x).pooled, atol=1e-5)


@pytest.mark.slow
def test_its_config_repeats_the_run(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    where, _ = finished
    done = cmcd("run", "-c", "first/config.toml", "--out", "second", "--json", cwd=where)
    assert done.returncode == 0, done.stderr
    again, first = json.loads(done.stdout), cmcd_core.load_run(where / "first").values
    assert again["evaluations"] == first["evaluations"]
    assert again["distill"] == first["distill"]


def test_an_existing_folder_is_refused_and_a_finished_one_resumes_to_nothing(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    where, _ = finished
    before = (where / "first/result.json").read_bytes()
    refused = cmcd(*SMALL, "--out", "first", cwd=where)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    other = cmcd(*SMALL, "--out", "first", "--resume", "--seed", "5", cwd=where)
    assert other.returncode == 2
    assert "run.seed" in other.stderr
    resumed = cmcd("run", "--out", "first", "--resume", cwd=where)
    assert resumed.returncode == 0
    assert "nothing to do" in resumed.stderr
    assert (where / "first/result.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_a_stopped_run_goes_on_to_the_same_numbers(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    where, _ = finished
    words = [*SMALL, "--out", "stopped"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from cmcd_core.cli import main; main()", *words],
        cwd=where, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    log = where / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.read_text().count("\n")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run was faster than the signal")
    assert process.returncode == 143
    assert "--resume" in stderr
    done = cmcd("run", "--out", "stopped", "--resume", cwd=where)
    assert done.returncode == 0, done.stderr
    first, again = (cmcd_core.load_run(where / name).values for name in ("first", "stopped"))
    assert again["evaluations"] == first["evaluations"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "--target"),
        (["run", "--target", "dept"], "'depth'"),
        (["run", "--target", "depth", "--data", "nowhere"], "nowhere"),
        (["run", "--target", "depth", "-o", "target.unitt=m"], "did you mean 'unit'"),
        (["run", "--target", "depth", "-o", "distill.epoch=3"], "did you mean 'epochs'"),
        (["run", "--target", "depth", "-o", "epochs"], "SECTION.KEY=VALUE"),
        (["run", "--target", "depth", "--objective", "cmd + 0.5*cmx"], "cmx"),
        (["run", "--target", "depth", "--objective", "cmd ++ cmc"], "weighted sum"),
        (["run", "--target", "depth", "--labels", "0"], "--labels"),
        (["run", "--target", "depth", "--teacher", "weights.pth", "--dry-run", "-o", "run.seed=-1"], "run.seed"),
        (["run", "--target", "depth", "-c", "missing.toml"], "missing.toml"),
        (["run", "--target", "depth", "--task", "segmentatio"], "segmentatio"),
        (["run", "--targt", "depth"], "--target"),
        (["run", "--target", "depth", "--resume"], "--out"),
        (["plugins", "show", "cmdd"], "'cmd'"),
    ],
)
def test_bad_usage_is_one_clear_error(words: list[str], said: str, tmp_path: Path) -> None:
    done = cmcd(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("file", "flag", "wanted"),
    [
        ({"label_column": "kind"}, "pairs", {"label_column": "kind", "root": "pairs"}),
        ({"label_column": "kind", "root": "pairs"}, "pairs", {"label_column": "kind", "root": "pairs"}),
        ({"label_column": "kind", "root": "others"}, "pairs", {"root": "pairs"}),
        ({"loader": "demo", "seed": "1"}, "pairs", {"root": "pairs"}),
        ({"loader": "shards", "root": "pairs"}, "folder:pairs", {"loader": "folder", "root": "pairs"}),
    ],
)
def test_a_files_options_of_the_data_stay_unless_the_flag_names_others(
    file: dict[str, str], flag: str, wanted: dict[str, str]
) -> None:
    assert configuration({"data": file}, {}, flag, ())["data"] == wanted


def test_dry_run_prints_a_configuration_that_toml_reads(tmp_path: Path) -> None:
    done = cmcd(*SMALL, "--objective", "cmd + 0.5*cmc", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    values = tomllib.loads(done.stdout)
    assert values["objective"]["expression"] == "cmd + 0.5*cmc"
    assert values["objective"].keys() == {"expression", "cmd", "cmc"}
    for word in ("time", "disk", "memory"):
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_estimate_counts_what_is_cached_on_the_pairs() -> None:
    """Features of the source are of step 2's data, wherever step 1 had its own."""

    def megabytes(views: int) -> float:
        data = {"loader": "demo", "train": 400, "val": 20, "test": 20}
        values = {"source": "image", "target": "depth", "data": data, "pretrain": {"data": {**data, "train": 40}}}
        resolved = resolve(cmcd_core.RunConfig.from_mapping({**values, "distill": {"views": views}}), load())
        return float(estimate(resolved)["disk"].split()[1])

    assert megabytes(51) - megabytes(1) == pytest.approx(400 * 50 * 512 * 4 / 1e6, abs=1)


def test_help_needs_neither_torch_nor_pydantic(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom cmcd_core.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print([n for n in ('torch', 'pydantic', 'numpy', 'timm', 'rich') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr.strip() == "[]"
    assert "cmcd run --source image --target depth" in done.stdout


def test_a_dry_run_and_a_plugin_list_do_without_torch(tmp_path: Path) -> None:
    for words in (["plugins", "list"], [*SMALL, "--dry-run"]):
        code = (
            f"import sys\nfrom cmcd_core.cli import main\ntry: main({words!r})\n"
            "except SystemExit as e: assert not e.code\n"
            "sys.exit('torch' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path, env={**os.environ})
