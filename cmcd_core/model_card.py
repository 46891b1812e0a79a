"""The README.md beside an exported encoder, in Hugging Face's form: what it is, whence, and what it is worth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .interfaces.timm_encoder import TimmEncoder
from .reading import Reader
from .report.cautions import SMALL_TEST
from .report.words import budget, labels, labels_of, short_name

MADE = "<!-- made by cmcd export -->"
"""Tells a card of ours from a README that somebody wrote."""


def model_card(reader: Reader, folder: Path, shape: tuple[int, ...] | None, entry: Mapping[str, Any] | None) -> str:
    """The card of what lies in ``folder``.

    Args:
        shape: (C, H, W) of one input; None: not known.
        entry: The evaluation that was exported with its head; None: an encoder alone.
    """
    run = reader.run.read_result() if reader.run else {}
    name = entry["encoder"] if entry else "source" if reader.folder.resolve().name == "source" else "distilled"
    taught = run if name == "distilled" else {}
    sections = [
        ("", _summary(reader, taught, entry)),
        ("Input and output", _interface(reader, shape)),
        ("Use", _use(reader, folder)),
        ("Where it comes from", _origin(run, name)),
        ("What it is worth", _metrics(taught)),
        ("Limits", _limits(reader, taught)),
    ]
    parts = [f"## {title}\n\n{text}" if title else text for title, text in sections if text]
    title = f"{reader.bound.name} encoder" + (f", distilled from {taught['source']}" if taught else "")
    return f"{_front(reader, taught, folder)}\n{MADE}\n\n# {title}\n\n" + "\n\n".join(parts) + "\n"


def _front(reader: Reader, taught: Mapping[str, Any], folder: Path) -> str:
    """The YAML that the Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    is_timm = (folder / "model.safetensors").is_file()
    results = [
        EvalResult(
            task_type=entry["task"],
            dataset_type=short_name(entry["data"]),
            dataset_name=short_name(entry["data"]),
            dataset_split="test",
            metric_type=entry["primary"],
            metric_name=f"{entry['primary']}, {entry['protocol']}, {labels(entry)}",
            metric_value=round(entry["metrics"][entry["primary"]], 4),
        )
        for entry in _distilled(taught)
    ]
    tags = ["cmcd", "feature-extraction", "knowledge-distillation", reader.bound.name]
    known = _timm_teacher(reader)
    data = ModelCardData(
        library_name="timm" if is_timm else "onnx",
        tags=[*tags, *(["onnx"] if any(folder.glob("*.onnx")) and is_timm else [])],
        license="unknown",
        base_model=known.get("hf_hub_id") or None,
        model_name=f"{reader.bound.name}-encoder",
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _summary(reader: Reader, taught: Mapping[str, Any], entry: Mapping[str, Any] | None) -> str:
    name = reader.bound.name
    if not taught:
        text = f"An encoder of {name}, exported by cmcd {version('cmcd')}."
    else:
        text = (
            f"An encoder of {name}. It was taught what an encoder of {taught['source']} knows, from "
            f"{taught.get('distill', {}).get('pairs', 'unlabelled')} unlabelled pairs, by cross-modality contrastive "
            "distillation ([arXiv 2405.03355](https://arxiv.org/abs/2405.03355))."
        )
    if entry is not None:
        text += (
            f" The graph ends in a head for {entry['task']}: {entry['encoder']}, {entry['protocol']}, trained on "
            f"{entry['n_train']} labels of {short_name(entry['data'])}."
        )
    return text


def _interface(reader: Reader, shape: tuple[int, ...] | None) -> str:
    encoder = reader.encoder
    count = sum(parameter.numel() for parameter in encoder.parameters())
    network = f"timm `{encoder.architecture}`" if isinstance(encoder, TimmEncoder) else type(encoder).__name__
    dense = f", and a map of {encoder.dense_dim} channels" if encoder.dense_dim else ""
    known = ", ".join(map(str, shape)) if shape else f"{encoder.channels}, H, W"
    options = reader.encoder.card.get("options", {})
    rows = [f"| `{name}` | `{json.dumps(value)}` |" for name, value in options.items()]
    table = "\n".join(["| option | value |", "|---|---|", *rows])
    return (
        f"- network: {network}, {count:,} parameters\n"
        f"- input: (N, {known}) float32 in [0, 1]\n"
        f"- output: (N, {encoder.dim}) pooled features{dense}\n\n"
        f"A file becomes such an input by cmcd's modality `{reader.bound.name}` with these options:\n\n{table}"
    )


def _use(reader: Reader, folder: Path) -> str:
    """How to load each thing that lies there."""
    blocks = []
    if (folder / "model.safetensors").is_file() and isinstance(reader.encoder, TimmEncoder):
        mean, std = (getattr(reader.encoder, name).flatten().tolist() for name in ("mean", "std"))
        rounded = [[round(value, 6) for value in values] for values in (mean, std)]
        blocks.append(
            "With timm (`local-dir:FOLDER`, or `hf-hub:USER/NAME` once it is on the Hub):\n\n```python\n"
            "import timm\nimport torch\n\n"
            'model = timm.create_model("local-dir:.", pretrained=True, num_classes=0).eval()\n'
            f"mean, std = torch.tensor({rounded[0]}).view(1, -1, 1, 1), torch.tensor({rounded[1]}).view(1, -1, 1, 1)\n"
            "features = model((batch - mean) / std)\n```"
        )
        blocks.append(
            "With cmcd, normalisation included:\n\n```python\nfrom cmcd_core import embed, load_encoder\n\n"
            'features = load_encoder(".")(batch).pooled\n'
            'found = embed(".", ["a_file", "a_folder"])  # found.keys, found.features\n```'
        )
    for file in sorted(folder.glob("*.onnx")):
        blocks.append(
            f"With onnxruntime, normalisation included, any batch size (output 0 is pooled):\n\n```python\n"
            f'import onnxruntime\n\nsession = onnxruntime.InferenceSession("{file.name}")\n'
            "print([output.name for output in session.get_outputs()])\n"
            'pooled, *others = session.run(None, {"input": batch})  # batch: float32 array\n```'
        )
    return "\n\n".join(blocks)


def _origin(run: Mapping[str, Any], name: str) -> str:
    """``name``: what the encoder is called in the run's result."""
    lines = [f"- made by cmcd {run['cmcd']}" if run else f"- exported by cmcd {version('cmcd')}"]
    if run and name in ("distilled", "source"):
        lines += _teacher(run, name == "source")
    elif run:
        lines.append(f"- it is the run's baseline `{name}`, which was not distilled from {run['source']}")
    if run and name == "distilled":
        found = run.get("distill", {})
        lines.append(
            f"- distilled by `{run['objective']}` on {found.get('pairs', '?')} pairs of {short_name(run['data'])}, "
            f"{found.get('epochs', '?')} epochs, seed {run['seed']}"
        )
    lines.append(
        "- licence: cmcd knows none for these weights. They follow from the data and the teacher: name one in the "
        "`license:` above before you publish them"
    )
    return "\n".join(lines)


def _teacher(run: Mapping[str, Any], is_source: bool) -> Iterator[str]:
    step_one = run.get("pretrain", {})
    if teachers := _names(step_one.get("teacher")):
        for name in teachers:
            licence = _licence(name)
            said = f"licence {licence}" if licence else "its licence is not known to cmcd: ask whoever published it"
            yield f"- teacher: {short_name(name)} ({said})"
        return
    if step_one:
        samples, data = step_one.get("samples", "?"), short_name(run.get("data_of", {}).get("pretrain", "?"))
        what = "pretrained" if is_source else f"teacher: an encoder of {run['source']}, pretrained"
        yield f"- {what} by contrastive self-supervision on {samples} samples of {data}"


def _metrics(taught: Mapping[str, Any]) -> str:
    """Each evaluation, and each paired difference, with its interval."""
    if not _distilled(taught):
        return "Nothing was measured."
    places = list(dict.fromkeys(short_name(entry["data"]) for entry in taught["evaluations"]))

    def which(entry: Mapping[str, Any]) -> str:
        return f"{entry['task']} on {short_name(entry['data'])}" if len(places) > 1 else str(entry["task"])

    rows = ["| encoder | task | protocol | labels | metric | mean [95 % interval] | test samples |"]
    rows.append("|---|---|---|---|---|---|---|")
    for entry in taught["evaluations"]:
        if entry["modality"] == taught["target"]:
            name = entry["primary"]
            low, high = entry["intervals"][name]
            mean = f"{entry['metrics'][name]:.3f} [{low:.3f}, {high:.3f}]"
            labels = f"{budget(entry)} ({entry['n_train']})"
            cells = [entry["encoder"], which(entry), entry["protocol"], labels, name, mean, str(entry["n_test"])]
            rows.append(f"| {' | '.join(cells)} |")
    compared = [
        f"- {labels_of(one, taught['evaluations'])}, {which(one)}, {one['protocol']}: "
        f"{one['difference'] * 100:+.1f} points of {one['metric']} over {one['over']} "
        f"({one['interval'][0] * 100:+.1f} to {one['interval'][1] * 100:+.1f})"
        for one in taught["comparisons"]
    ]
    differences = ["Differences of the distilled encoder, paired, with 95 % intervals:", "\n".join(compared)]
    data = " and ".join(places)
    intro = f"On the test split of {data}; `distilled` is this encoder."
    return "\n\n".join([intro, "\n".join(rows), *(differences if compared else [])])


def _limits(reader: Reader, taught: Mapping[str, Any]) -> str:
    lines = [
        f"- It knows {reader.bound.name} as the training data show it: another sensor, unit, place or time is another "
        "question, to be measured first.",
        f"- Inputs are brought to {reader.size} x {reader.size} px; what is smaller than a pixel there is lost."
        if reader.bound.modality.spatial
        else "- Inputs have one constant shape; what lies outside it is cut off.",
    ]
    if any(place == "demo" for place in [taught.get("data"), *taught.get("data_of", {}).values()]):
        lines.append("- It was trained or measured on generated demo data: it is of no use on real data.")
    tests = [entry["n_test"] for entry in _distilled(taught)]
    if tests and min(tests) < SMALL_TEST:
        lines.append(f"- It was measured on {min(tests)} test samples only; see the intervals.")
    unclear = [one for one in taught.get("comparisons", ()) if one["over"] == "scratch" and one["interval"][0] <= 0]
    if unclear:
        lines.append("- It is not clearly better than training from scratch everywhere; see the differences.")
    return "\n".join(lines)


def _distilled(taught: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry for entry in taught.get("evaluations", ()) if entry["encoder"] == "distilled"]


def _names(teacher: str | Sequence[str] | None) -> list[str]:
    return [teacher] if isinstance(teacher, str) else list(teacher or ())


def _timm_teacher(reader: Reader) -> Mapping[str, Any]:
    """timm's configuration of the only teacher; empty where there is none of its."""
    teachers = _names((reader.run.read_result() if reader.run else {}).get("pretrain", {}).get("teacher"))
    return _timm_config(teachers[0]) if len(teachers) == 1 else {}


def _timm_config(name: str) -> Mapping[str, Any]:
    import timm

    if "/" in name or not timm.is_model(name):
        return {}
    config: Any = timm.get_pretrained_cfg(name)
    return dict(config.to_dict()) if config else {}


def _licence(teacher: str) -> str:
    return str(_timm_config(teacher).get("license") or "")
