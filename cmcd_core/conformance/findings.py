"""What a check says, and how checks are run one after another, whatever the plugin does."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

from ..catalog import Plugin
from ..errors import CmcdError

Outcome = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One check of one part.

    Attributes:
        plugin: Name of the plugin, which is its entry point's.
        kind: ``"modality"``, ``"loader"``, ``"objective"``, ``"task"``, or ``"plugin"`` for what concerns all of it.
        name: Name of the part.
        check: What was looked at, as what should be so.
        outcome: ``"ok"``, ``"failed"`` or ``"skipped"``.
        why: What is wrong, or why it was skipped.
        hint: What to do about it.
    """

    plugin: str
    kind: str
    name: str
    check: str
    outcome: Outcome
    why: str = ""
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"{self.outcome:<8} {self.check}", *filter(None, (*self.why.splitlines(), *self.hint.splitlines()))]
        return ("\n" + " " * 9).join(lines)


class NotOk(Exception):  # noqa: N818
    """A check ended with something to say."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


class Failed(NotOk):
    """The part does not do what its contract says."""


class Skipped(NotOk):
    """There is nothing to check it on, or it does not apply."""


class Missing(Skipped):
    """What it is checked on could not be had, which a check above says more of."""


def require(holds: bool, why: str, hint: str = "") -> None:
    """Raise :class:`Failed` unless it holds."""
    if not holds:
        raise Failed(why, hint)


@dataclass
class Subject:
    """A part under test, with what its checks share.

    Attributes:
        given: Options that the caller of the kit set.
        samples: What the caller gave to look at; None: something is generated.
        failed: Names of shared things that could not be had.
    """

    plugin: Plugin
    part: Any
    given: dict[str, Any] = field(default_factory=dict)
    samples: Sequence[Any] | None = None
    failed: dict[str, Exception] = field(default_factory=dict)

    @property
    def options(self) -> Any:
        """Its options: the defaults, and what was given."""
        return self.part.options(**self.given)


S = TypeVar("S", bound=Subject)
T = TypeVar("T")


class once(Generic[S, T]):  # noqa: N801
    """A property that is made once. The check that asks first meets what it raises; those after it are skipped."""

    def __init__(self, make: Callable[[S], T]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type[S], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, subject: None, owner: type[S]) -> once[S, T]: ...
    @overload
    def __get__(self, subject: S, owner: type[S]) -> T: ...
    def __get__(self, subject: S | None, owner: type[S]) -> once[S, T] | T:
        if subject is None:
            return self
        if self.name in subject.failed:
            known = subject.failed[self.name]
            if isinstance(known, Missing):
                raise known
            raise Missing(f"needs what {'was skipped' if isinstance(known, Skipped) else 'failed'} above")
        try:
            value = self.make(subject)
        except Exception as error:
            subject.failed[self.name] = error
            raise
        vars(subject)[self.name] = value  # found before this descriptor from now on
        return value


Check = tuple[str, Callable[[Any], None]]


def run_checks(checks: Sequence[Check], subject: Subject, kind: str) -> Iterator[Finding]:
    """One finding a check, in order, as they are done."""
    for title, check in checks:
        outcome, why, hint = _outcome(check, subject)
        yield Finding(subject.plugin.name, kind, subject.part.name, title, outcome, why, hint)


def _outcome(check: Callable[[Any], None], subject: Subject) -> tuple[Outcome, str, str]:
    try:
        check(subject)
    except Skipped as skipped:
        return "skipped", skipped.why, skipped.hint
    except Failed as failed:
        return "failed", failed.why, failed.hint
    except CmcdError as error:
        return "failed", error.message, error.hint
    except (Exception, SystemExit) as error:
        return "failed", raised(error, subject.plugin.module), ""
    return "ok", "", ""


def raised(error: BaseException, module: str) -> str:
    """``ValueError: too small (depth.py:31, in decode)``: an exception, and where the plugin's code raised it."""
    said = error.message if isinstance(error, CmcdError) else str(error)
    text = " ".join(f"{type(error).__name__}: {said}".split()).removesuffix(":")
    return f"{text}{_place(error, module)}"


def _place(error: BaseException, module: str) -> str:
    """Its last place in the plugin's own files, or ``""``."""
    file = getattr(sys.modules.get(module.partition(":")[0]), "__file__", None)
    if file is None:
        return ""
    package = Path(file).name == "__init__.py"
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if (Path(file).parent in Path(frame.filename).parents if package else frame.filename == file)
    ]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name})" if own else ""
