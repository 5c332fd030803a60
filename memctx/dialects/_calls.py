"""What the dialects share: reading a model's arguments, whose records it may change, and looking again after a conflict."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from memctx.errors import ConflictError, FilterError, LimitError, NotFound
from memctx.records import TRUST, Record

T = TypeVar("T")
TRIES = 50  # each time one is beaten another got through, so only so many writers at once can exhaust it
BAD_INPUT = (FilterError, LimitError, NotFound, ConflictError)  # what a model can bring about, and can mend


def read(arguments: Any) -> dict[str, Any]:
    """The arguments of a tool call as a dict. Raises `FilterError`."""
    given = arguments
    if isinstance(given, str | bytes):
        try:
            given = json.loads(given or "{}")
        except (ValueError, RecursionError) as cause:
            raise FilterError(f"the arguments are not JSON ({cause}): send one JSON object") from cause
    if not isinstance(given, Mapping):
        raise FilterError(f"the arguments are {type(given).__name__}: send one JSON object")
    return {str(name): value for name, value in given.items()}


def text(arguments: Mapping[str, Any], name: str) -> str:
    """A text argument that must be there. Raises `FilterError`."""
    value = arguments.get(name)
    if not isinstance(value, str):
        raise FilterError(f"{name} = {value!r:.40}: give a text", field=name)
    return value


def chosen(arguments: Mapping[str, Any], name: str, known: Mapping[str, T], default: str | None = None) -> T:
    """The value behind one of a few names. Raises `FilterError` that lists them."""
    given = arguments.get(name)
    given = default if given is None else given
    if isinstance(given, str) and given in known:
        return known[given]
    raise FilterError(f"{name} = {given!r:.40}: use {' or '.join(known) or 'none, all are switched off'}", field=name)


def kept(record: Record) -> bool:
    """Whether a model may read a record but not change it."""
    return record.pinned or record.trust >= TRUST["host"]


def again(step: Callable[[], T]) -> T:
    """Do a step that reads and then writes; where another writer came between, look again. Raises `ConflictError`."""
    for _ in range(TRIES - 1):
        with suppress(ConflictError):
            return step()
    return step()
