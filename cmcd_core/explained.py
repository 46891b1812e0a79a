"""What pydantic found wrong with a configuration, in the user's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, model: type[BaseModel], where: str = "", *, between: str = ".") -> str:
    """Pydantic's findings as plain lines: the key, what was expected, what was given, the nearest known key.

    Args:
        where: The section or file that the key is in; it comes first.
        between: What stands between that and the key.
    """
    return "\n".join(_explain_one(dict(item), model, where, between) for item in error.errors())


def _explain_one(item: Mapping[str, Any], model: type[BaseModel], where: str, between: str) -> str:
    loc: Sequence[Any] = [part for part in item["loc"] if not str(part).startswith("function-")]
    key = ".".join(map(str, loc))
    prefix = between.join(part for part in (where, key) if part)
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        near = get_close_matches(str(loc[-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
        return f"{prefix}: unknown option, {hint}"
    if item["type"] == "missing":
        return f"{prefix}: missing"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = item["input"]
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{prefix}: {message}{shown}" if prefix else f"{message}{shown}"


def _fields_at(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    for part in loc:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(field.alias or name for name, field in model.model_fields.items())
