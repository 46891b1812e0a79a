"""The tiled losses are the whole ones, in memory that grows with N."""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
import torch
from cmcd_objectives import functional as f
from cmcd_objectives.functional import tiles
from cmcd_objectives.functional.contrast import cmc_terms, nt_xent_terms
from cmcd_objectives.functional.similarity_distillation import cmd_terms
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.losses import in_a_process

DIRECTIONS = ("both", "target_to_source", "source_to_target")


@contextmanager
def form(side: int | None):
    """Tiles of ``side`` everywhere; None: whole matrices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILED_FROM", 10**18 if side is None else 0)
        patch.setattr(tiles, "SIDE", side or tiles.SIDE)
        yield


def draw(n: int, d: int, k: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Everything that may learn: batch, queues, and scalars."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    a = normal(n, d)
    leaves = {
        "a": 3 * a,
        "b": a + normal(n, d),
        "queue_a": normal(k, d),
        "queue_b": normal(k, d),
        "cold": torch.tensor(0.2, dtype=torch.float64),
        "warm": torch.tensor([0.4], dtype=torch.float64),
        "scale": torch.tensor(5.0, dtype=torch.float64),
        "bias": torch.tensor(-3.0, dtype=torch.float64),
    }
    return {name: leaf.requires_grad_() for name, leaf in leaves.items()}


def choices(n: int, k: int) -> dict[str, dict]:
    """Ways to choose the candidates and to weigh the anchors; the last group leaves its rows no others."""
    generator = torch.Generator().manual_seed(n)
    group = torch.randint(0, max(n // 2, 1), (n,), generator=generator)
    weight = torch.rand(n, generator=generator).double()
    return {
        "plain": {},
        "group": {"group": group},
        "weight": {"weight": weight},
        "group and weight": {"group": group, "weight": weight},
        "one group": {"group": torch.zeros(n, dtype=torch.long)},
    }


def exclude(n: int, k: int, rows: int) -> torch.Tensor:
    return torch.rand(rows, k, generator=torch.Generator().manual_seed(k)) < 0.4


def cmd_losses(n, k):
    losses = {}
    for name, options in choices(n, k).items():
        for anchors in ("target", "source"):
            for own in (True, False):
                for queue, rows in {"no": None, "common": 1, "own": n}.items():

                    def loss(v, options=options, anchors=anchors, own=own, rows=rows):
                        pair = (v["queue_a"], v["queue_b"])
                        further = {} if rows is None else {"queue": pair if anchors == "target" else v["queue_a"]}
                        if rows is not None:
                            further["exclude"] = exclude(n, k, rows)
                        temperatures = {"temperature_source": v["cold"], "temperature_target": v["warm"]}
                        return cmd_terms(
                            v["a"], v["b"], anchors=anchors, include_self=own, **temperatures, **options, **further
                        )

                    losses[f"cmd {anchors} own={own} {name} queue={queue}"] = loss
    return losses


def cmc_losses(n, k):
    losses = {}
    for name, options in choices(n, k).items():
        for direction in DIRECTIONS:
            for queue in ("no", "pair", "source"):
                if queue == "source" and direction == "source_to_target":
                    continue

                def loss(v, options=options, direction=direction, queue=queue):
                    further = {}
                    if queue != "no":
                        further["exclude"] = exclude(n, k, n)
                        further["queue"] = v["queue_a"] if queue == "source" else (v["queue_a"], v["queue_b"])
                    return cmc_terms(v["a"], v["b"], temperature=v["cold"], direction=direction, **options, **further)

                losses[f"cmc {direction} {name} queue={queue}"] = loss
    return losses


def further_losses(n, k):
    losses = {
        f"nt_xent {name}": lambda v, options=options: nt_xent_terms(v["a"], v["b"], temperature=v["cold"], **options)
        for name, options in choices(n, k).items()
    }
    losses |= {
        f"siglip {name}": lambda v, options=options: f.siglip(
            v["a"], v["b"], scale=v["scale"], bias=v["bias"], **options
        )
        for name, options in choices(n, k).items()
    }
    losses["seed"] = lambda v: f.seed(
        v["a"], v["b"], queue=v["queue_a"], temperature_source=v["cold"], temperature_target=v["warm"]
    )
    losses["compress 1q"] = lambda v: f.compress(v["a"], v["b"], queue=v["queue_a"], temperature=v["cold"])
    losses["compress 2q"] = lambda v: f.compress(
        v["a"], v["b"], queue=(v["queue_a"], v["queue_b"]), temperature=v["warm"]
    )
    return losses


def all_losses(n, k):
    return cmd_losses(n, k) | cmc_losses(n, k) | further_losses(n, k)


def numbers(result) -> list[torch.Tensor]:
    """Loss first, then what is reported."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, dict):
        halves = list(result.values())
        loss = torch.stack([half.loss for half in halves]).mean()
        return [loss, *(x for half in halves for x in (half.log_candidates, half.hits))]
    if hasattr(result, "entropy"):
        return [result.loss, result.entropy, result.hits]
    return list(result)


def outcome(loss, leaves):
    values = numbers(loss(leaves))
    gradients = torch.autograd.grad(values[0].squeeze(), list(leaves.values()), allow_unused=True)
    return values, [torch.zeros_like(x) if g is None else g for x, g in zip(leaves.values(), gradients, strict=True)]


def assert_same(loss, leaves, side):
    with form(None):
        values, gradients = outcome(loss, leaves)
    with form(side):
        tiled_values, tiled_gradients = outcome(loss, leaves)
    for ours, whole in zip(tiled_values, values, strict=True):
        torch.testing.assert_close(ours.squeeze(), whole.squeeze(), atol=1e-10, rtol=1e-10, check_dtype=False)
    for name, ours, whole in zip(leaves, tiled_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, whole, atol=1e-10, rtol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", all_losses(7, 5))
def test_value_and_gradient_are_those_of_the_whole_matrix(name):
    """7 rows and 5 queue entries in tiles of 3: neither divides."""
    assert_same(all_losses(7, 5)[name], draw(7, 4, 5), 3)


@settings(max_examples=60)
@given(
    st.integers(2, 12),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 14),
    st.sampled_from(sorted(all_losses(3, 3))),
    st.integers(0, 10_000),
)
def test_shapes(n, d, k, side, name, seed):
    assert_same(all_losses(n, k)[name], draw(n, d, k, seed), side)


@pytest.mark.parametrize(
    "name",
    [
        "cmd target own=False group and weight queue=own",
        "cmd source own=True group queue=common",
        "cmc both group and weight queue=pair",
        "nt_xent group and weight",
        "siglip group and weight",
        "seed",
        "compress 2q",
    ],
)
def test_gradcheck(name):
    leaves = draw(7, 3, 5)
    loss = all_losses(7, 5)[name]

    def value(*tensors):
        return numbers(loss(dict(zip(leaves, tensors, strict=True))))[0]

    with form(2):
        assert torch.autograd.gradcheck(value, tuple(leaves.values()))


@pytest.mark.parametrize("name", ["cmd target own=False plain queue=no", "cmc both plain queue=no", "siglip plain"])
@pytest.mark.parametrize("learns", [("a",), ("b",), ("cold",), ("bias",), ("b", "warm"), ()])
def test_gradients_that_nobody_asks_for_are_left_out(name, learns):
    leaves = draw(6, 4, 3)
    with form(4):
        expected = dict(zip(leaves, outcome(all_losses(6, 3)[name], leaves)[1], strict=True))
        some = {key: leaf.detach().requires_grad_(key in learns) for key, leaf in leaves.items()}
        loss = numbers(all_losses(6, 3)[name](some))[0].squeeze()
        if loss.requires_grad:
            loss.backward()
    for key, leaf in some.items():
        if leaf.grad is not None:
            torch.testing.assert_close(leaf.grad, expected[key])
        assert (leaf.grad is None) == (key not in learns or not expected[key].any())


def test_hits_of_equal_similarities():
    """Collapsed targets hit as argmax does, at the first only, on whichever tile."""
    a, b = torch.randn(9, 4), torch.ones(9, 4)
    for side in (None, 2, 9):
        with form(side):
            assert cmc_terms(a.new_ones(9, 4), b)["target_to_source"].hits.item() == pytest.approx(1 / 9)
            assert cmc_terms(a.new_ones(9, 4), b)["source_to_target"].hits.item() == pytest.approx(1 / 9)
            assert cmd_terms(a, a, anchors="source").hits == 1


@pytest.mark.parametrize("side", [None, 2])
def test_one_pair(side):
    a, b, queue = torch.randn(1, 4), torch.randn(1, 4), torch.randn(3, 4)
    with form(side):
        for function in (f.cmd, f.cmc, lambda x, y: f.nt_xent(x, y, temperature=1)):
            with pytest.raises(ValueError, match="at least 2"):
                function(a, b)
        with pytest.raises(ValueError, match=r"group must be \(1,\)"):
            f.cmd(a, b, queue=(queue, queue), group=torch.zeros(2))
    names = [name for name in all_losses(1, 3) if name.startswith("cmc") and "pair" in name]
    for name in (*names, "cmd source own=True plain queue=common", "siglip plain", "seed", "compress 1q"):
        assert_same(all_losses(1, 3)[name], draw(1, 4, 3), 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_low_temperature_and_precision(dtype, autocast):
    """Finite, of the inputs' type in the gradient, and as exact as the whole form, under autocast too."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(9, 6, generator=generator).to(dtype)
    queue, group = torch.randn(5, 6, generator=generator).to(dtype), torch.arange(9) // 2
    losses = [
        lambda b, t: f.cmd(a, b, temperature_source=t, temperature_target=t),
        lambda b, t: f.cmd(a, b, anchors="source", temperature_source=t, temperature_target=t, group=group),
        lambda b, t: f.cmc(a, b, temperature=t, group=group, queue=queue),
        lambda b, t: f.nt_xent(a, b, temperature=t),
        lambda b, t: f.siglip(a, b, scale=1 / t, bias=-10, group=group),
        lambda b, t: f.seed(a, b, queue=queue, temperature_source=t, temperature_target=t),
        lambda b, t: f.compress(a, b, queue=queue, temperature=t),
    ]
    start = torch.randn(9, 6, generator=generator).to(dtype)
    start[0] = 0
    for loss, temperature in product(losses, (1e-3, 0.2)):
        results = []
        for side in (None, 4):
            b = start.clone().requires_grad_()
            with form(side), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast and side is not None):
                value = loss(b, temperature)
                value.backward()
            assert value.dtype == torch.float32
            assert torch.isfinite(value)
            assert torch.isfinite(b.grad).all()
            results.append((value.detach(), b.grad))
        torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-5, atol=1e-5)
        if temperature == 0.2:
            torch.testing.assert_close(results[1][1], results[0][1])


def test_nan_stays_nan():
    """A diverged model must not look as if it had nothing left to learn."""
    leaves = draw(7, 4, 5)
    leaves["b"] = leaves["b"].detach().clone()
    leaves["b"][3, 0] = torch.nan
    with form(3):
        for name, loss in all_losses(7, 5).items():
            if "weight" not in name and "one group" not in name:
                assert numbers(loss(leaves))[0].isnan(), name


@pytest.mark.parametrize("name", ["cmd source own=True plain queue=no", "cmc both plain queue=pair", "siglip plain"])
def test_refuses_to_be_differentiated_twice(name):
    leaves = draw(6, 4, 3)
    with form(4), pytest.raises(RuntimeError, match="only once"):
        torch.autograd.grad(numbers(all_losses(6, 3)[name](leaves))[0].squeeze(), leaves["b"], create_graph=True)


def test_chosen_by_size(monkeypatch):
    monkeypatch.setattr(tiles, "TILED_FROM", 8 * 8)
    assert cmd_terms(torch.randn(7, 3), torch.randn(7, 3)).logits is not None
    assert cmd_terms(torch.randn(8, 3), torch.randn(8, 3)).logits is None
    per_anchor = torch.rand(8, 1) + 0.5
    assert (
        cmc_terms(torch.randn(8, 3), torch.randn(8, 3), temperature=per_anchor)["target_to_source"].logits is not None
    )


def allocated(run, path: Path) -> int:
    """Largest number of bytes that torch held beyond those at the start."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    profile.export_chrome_trace(str(path))
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


LARGE = {
    "cmd": lambda a, b: f.cmd(a, b),
    "cmd source anchors": lambda a, b: f.cmd(a, b, anchors="source", group=torch.arange(len(a)) // 2),
    "cmc": lambda a, b: f.cmc(a, b, group=torch.arange(len(a)) // 2),
    "siglip": lambda a, b: f.siglip(a, b, scale=10, bias=-10, group=torch.arange(len(a)) // 2),
    "nt_xent": lambda a, b: f.nt_xent(a, b, temperature=0.1),
    "seed": lambda a, b: f.seed(a, b, queue=a.flip(0), temperature_source=0.1, temperature_target=0.2),
    "compress": lambda a, b: f.compress(a, b, queue=a.flip(0), temperature=0.1),
}


@pytest.mark.parametrize("name", LARGE)
def test_memory(name, tmp_path):
    """An eighth of one N x N matrix, gradients included; narrow features and tiles, as N is small here."""
    a, b = torch.randn(2048, 16), torch.randn(2048, 16, requires_grad=True)
    with form(192):
        peak = allocated(lambda: LARGE[name](a, b).backward(), tmp_path / "trace.json")
    assert 2048 * 16 * 4 < peak <= 2048**2 * 4 / 8


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize("name", ["cmd", "cmd source anchors", "cmc", "siglip", "nt_xent"])
def test_memory_of_the_process(name):
    """At N = 8192, D = 256: at most an eighth of one N x N matrix beyond inputs and gradients."""
    assert in_a_process(name, 8192)["mib"] <= 32
