"""Checks of an objective."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..files import write_tensors
from ..interfaces.objective import Objective
from ..plugin import Widths
from .findings import Check, Missing, Subject, once, require
from .lesson import DIFFERENT, EQUAL, ROWS, Lesson, lesson
from .views import generators_at

DRAWS = 48
"""A loss that draws at random is compared by its mean over so many seeds."""


class ObjectiveSubject(Subject):
    """An objective, and lessons in it."""

    def make(self, widths: Widths) -> Any:
        """What build gives for these widths."""
        return self.part.build(self.options, widths)

    @once
    def widths(self) -> Widths:
        """Different ones, or equal ones where it fails on these."""
        for widths in (DIFFERENT, EQUAL):
            with suppress(Exception):  # each of the two has a check of its own
                lesson(self.make, widths).loss()
                return widths
        raise Missing("needs what failed above")

    def lesson(self, *, attach: bool = True, seed: int = 0) -> Lesson:
        """A new one, of widths that work."""
        return lesson(self.make, self.widths, attach=attach, seed=seed)


def different_widths(subject: ObjectiveSubject) -> None:
    """Two architectures rarely agree on their width."""
    lesson(subject.make, DIFFERENT).loss()


def equal_widths(subject: ObjectiveSubject) -> None:
    """Or the same architecture twice."""
    lesson(subject.make, EQUAL).loss()


def gradients(subject: ObjectiveSubject) -> None:
    """The encoder learns by nothing else."""
    made = subject.lesson()
    made.train(2)  # a queue is empty at first
    given, learnt = made.features(torch.arange(ROWS))
    sides = {
        name: value
        for name, value in (("pooled", learnt.pooled), ("dense", learnt.dense))
        if isinstance(value, Tensor) and value.requires_grad
    }
    for value in sides.values():
        value.retain_grad()
    loss = made.objective(given, learnt)
    require(loss.requires_grad, "the loss has no gradient", "Do not detach the target's features.")
    loss.backward()
    grads = [value.grad for value in sides.values() if value.grad is not None]
    require(
        any(bool(grad.abs().sum() > 0) for grad in grads),
        "no gradient reaches the target's features",
        "Compute the loss from target.pooled or target.dense, without detach.",
    )
    require(all(bool(torch.isfinite(grad).all()) for grad in grads), "the target's gradient is NaN or infinite")


def own_parameters(subject: ObjectiveSubject) -> None:
    """They are trained and saved with the target; an encoder kept as a submodule would be too."""
    made = subject.lesson()
    encoders = {id(p) for encoder in (made.source, made.target) for p in encoder.parameters()}
    kept = [name for name, p in made.objective.named_parameters() if id(p) in encoders]
    require(
        not kept,
        f"it keeps an encoder's parameters: {', '.join(kept[:3])}",
        "Do not assign an encoder to an attribute in attach; what it has to look at goes into a list or a hook.",
    )
    made.train(2)
    made.objective.zero_grad()
    made.loss().backward()  # type: ignore[no-untyped-call]
    own = {name: p for name, p in made.objective.named_parameters() if p.requires_grad}
    idle = [name for name, p in own.items() if p.grad is None]
    require(
        not idle,
        f"no gradient for {', '.join(idle)}",
        "What is not learnt is a buffer (register_buffer), or has requires_grad_(False).",
    )
    broken = [name for name, p in own.items() if p.grad is not None and not torch.isfinite(p.grad).all()]
    require(not broken, f"the gradient of {', '.join(broken)} is NaN or infinite")
    require(all(p.grad is None for p in made.source.parameters()), "a gradient reaches the source encoder")


def any_order(subject: ObjectiveSubject) -> None:
    """Batches are shuffled."""
    turned = torch.arange(ROWS).flip(0).roll(5)
    one, other = _losses(subject, torch.arange(ROWS), 2), _losses(subject, turned, 2)
    if abs(one[0] - one[1]) <= _slack(one[0]):  # it draws nothing at random
        difference, allowed = abs(float(one[0] - other[0])), _slack(one[0])
    else:
        one, other = _losses(subject, torch.arange(ROWS), DRAWS), _losses(subject, turned, DRAWS)
        difference = abs(float(one.mean() - other.mean()))
        allowed = 5 * math.sqrt(float(one.var() + other.var()) / DRAWS) + _slack(one.mean())
    require(
        difference <= allowed,
        f"the loss changes by {difference:.3g} when the batch's pairs come in another order",
        "Row i of the source belongs to row i of the target; no row is special.",
    )


def _losses(subject: ObjectiveSubject, rows: Tensor, draws: int) -> Tensor:
    """(draws,) losses of one batch, under as many seeds."""
    out = []
    for seed in range(draws):
        made = subject.lesson()
        with generators_at(seed), torch.no_grad():
            out.append(made.loss(rows).double())
    return torch.stack(out)


def _slack(loss: Tensor) -> float:
    return 1e-5 + 1e-3 * abs(float(loss))


def small_batches(subject: ObjectiveSubject) -> None:
    """The last batch of an epoch may be small."""
    subject.lesson().loss(torch.tensor([3, 8])).backward()  # type: ignore[no-untyped-call]


def half_precision(subject: ObjectiveSubject) -> None:
    """On a GPU the encoder's features are bfloat16, and the cached source features float32."""
    made = subject.lesson()
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.loss()
    loss.backward()  # type: ignore[no-untyped-call]


def attaches_alike(subject: ObjectiveSubject) -> None:
    """A resumed run attaches anew, and loads the state after that."""
    first, second = subject.lesson().objective.state_dict(), subject.lesson().objective.state_dict()
    changed = [name for name, value in first.items() if not _same(value, second[name])]
    require(
        not changed,
        f"attach gives another {', '.join(changed)} the second time",
        "Draw from a generator of its own: torch.Generator().manual_seed(0).",
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-6, equal_nan=True)


def resumes(subject: ObjectiveSubject) -> None:
    """Attached anew, then the state from a .safetensors file: the loss is what it was."""
    trained, again = subject.lesson(), subject.lesson(seed=1)
    trained.train(3)
    again.objective.load_state_dict(_saved(trained))
    again.target.load_state_dict(trained.target.state_dict())
    losses = []
    for made in (trained, again):
        with generators_at(0), torch.no_grad():
            losses.append(made.loss())
    require(
        _same(*losses),
        f"the loss is {float(losses[0]):.6g} before, and {float(losses[1]):.6g} after its state was saved and loaded",
        "What changes in training must be a parameter or a buffer.",
    )


def serves_later(subject: ObjectiveSubject) -> None:
    """As retrieval and distances load it: without a training set, so without attach."""
    trained, later = subject.lesson(), subject.lesson(attach=False, seed=1)
    trained.train(3)
    later.objective.load_state_dict(_saved(trained))
    spaces = [_space(trained, trained.objective), _space(trained, later.objective)]
    require(
        len(spaces[0]) == len(spaces[1]) and all(map(_same, *spaces)),
        "embed gives something else where the state is loaded without attach",
        "What embed needs must be a parameter or a buffer; where its size follows from the data, take it from the "
        "state (register_load_state_dict_pre_hook).",
    )


def _saved(made: Lesson) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "objective.safetensors"
        write_tensors(file, made.objective.state_dict())
        return load_file(file)


def _space(made: Lesson, objective: Objective) -> tuple[Tensor, ...]:
    """What embed gives for a batch; nothing where there is no common space."""
    objective.eval()
    made.target.eval()
    with torch.no_grad():
        return tuple(objective.embed(*made.features(torch.arange(ROWS))) or ())


def embeds(subject: ObjectiveSubject) -> None:
    """Or None, where there is no common space."""
    made = subject.lesson()
    made.train(1)
    space = _space(made, made.objective)
    if not space:
        return
    shapes = [tuple(side.shape) for side in space]
    fits = len(shapes) == 2 and shapes[0] == shapes[1] and len(shapes[0]) == 2 and shapes[0][0] == ROWS
    require(fits, f"embed gives {' and '.join(map(str, shapes))}", "Return two tensors (N, D) of one width, or None.")
    require(all(bool(torch.isfinite(side).all()) for side in space), "embed gives NaN or infinite values")


def diagnoses(subject: ObjectiveSubject) -> None:
    """They are logged each epoch."""
    made = subject.lesson()
    made.train(2)
    said = made.objective.diagnostics()
    require(isinstance(said, Mapping), f"diagnostics gives a {type(said).__name__}", "Return names and numbers.")
    wrong = [name for name, value in said.items() if not isinstance(name, str) or not math.isfinite(float(value))]
    require(not wrong, f"diagnostics: {', '.join(map(str, wrong))} is no finite number")


CHECKS: tuple[Check, ...] = (
    ("the loss is one finite number where source and target widths differ", different_widths),
    ("the loss is one finite number where the widths are equal", equal_widths),
    ("gradients reach the target's features", gradients),
    ("its own parameters, and no encoder's, are learnt with it", own_parameters),
    ("the loss does not depend on the order of the pairs", any_order),
    ("a batch of two pairs is enough", small_batches),
    ("it works with bfloat16 features (mixed precision)", half_precision),
    ("attach is deterministic", attaches_alike),
    ("it goes on alike from its saved state", resumes),
    ("its saved state can be loaded without attach, for embed", serves_later),
    ("embed gives both sides in one space, or None", embeds),
    ("diagnostics gives names and numbers", diagnoses),
)
