"""Errors that a user can act on. Each carries one message and, where there is one, a hint of what to do."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str) -> str:
    """The text as a terminal may have it: what data hold may be a control sequence, which is shown, not sent."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(error: BaseException) -> str:
    """``ValueError: too small``: an exception's kind and words on one line, the kind alone where it has none."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``Did you mean 'depth'? `` with a space for what comes after; empty where nothing known is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1)
    return f"Did you mean {near[0]!r}? " if near else ""


class CmcdError(Exception):
    """An expected failure: the command line prints it without a traceback.

    Args:
        message: What is wrong, naming the file, field or flag.
        hint: What to do about it.

    Attributes:
        told: Another process of the run has said it already.
    """

    exit_code: int = 1
    told: bool = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = printable(message)
        self.hint = printable(hint)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(CmcdError):
    """The command line or the configuration asks for something impossible."""

    exit_code = 2


class DataError(CmcdError):
    """A file or data set cannot be used as it is."""

    exit_code = 2


class PluginError(CmcdError):
    """A plugin is missing, broken, or does not keep its contract."""

    exit_code = 2
