"""Changes of a library as data. A model only proposes them; what they do is deterministic code.

What a model wrote is read from JSON (ACE's form, arXiv 2510.04618) or from tags (MEMO's form).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memctx._experience_items import POLARITY, Admission, Experience, Level
from memctx.errors import FilterError


@dataclass(frozen=True, slots=True)
class Add:
    """Admit an experience; the outcome it comes from is given to `Library.apply`."""

    experience: Experience


@dataclass(frozen=True, slots=True)
class Edit:
    """Say it otherwise. Its id, situation and counters stay. The last edit counts, and the advice of a Merge above it."""

    id: int
    advice: str


@dataclass(frozen=True, slots=True)
class Remove:
    """It no longer holds. Its history stays."""

    id: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Merge:
    """One for all: the first stays, with the counters and the evidence of all; `advice` "" keeps its own."""

    ids: tuple[int, ...]
    advice: str = ""


Op = Add | Edit | Remove | Merge


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done, by id. `skipped`: ops on what was removed or merged before, or that change nothing."""

    removed: tuple[int, ...] = ()
    edited: tuple[int, ...] = ()
    merged: tuple[int, ...] = ()
    skipped: tuple[Op, ...] = ()
    admission: Admission = field(default_factory=Admission)


@dataclass(frozen=True, slots=True)
class Proposed:
    """What a model proposed: ops in the order it wrote them, and what of it was no op, with the reason."""

    ops: tuple[Op, ...]
    malformed: tuple[str, ...]


def ids_of(ops: Sequence[Op]) -> list[int]:
    """The ids that ops name, each once. Raises `FilterError` for an op that cannot be one."""
    found: dict[int, None] = {}
    for op in ops:
        if not isinstance(op, Add | Edit | Remove | Merge):
            raise FilterError(f"{op!r:.60} is no op: use Add, Edit, Remove or Merge", field="ops")
        if isinstance(op, Merge) and len(set(op.ids)) < 2:
            raise FilterError(f"{op!r:.60}: give two or more different ids", field="ops")
        named = op.ids if isinstance(op, Merge) else () if isinstance(op, Add) else (op.id,)
        found.update(dict.fromkeys(named))
    return list(found)


# -- reading what a model wrote ------------------------------------------------------------------------------------------

_TAG = re.compile(r"<(add|edit|remove|merge)\b([^>]{0,200}?)(?:/>|>(.{0,8000}?)</\1>)", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"\d{1,18}")
_KINDS = {"add": "add", "edit": "edit", "update": "edit", "remove": "remove", "delete": "remove", "merge": "merge"}
_LEVELS: Mapping[str, Level] = {level: level for level in POLARITY}
_TEXT = ("advice", "content", "text")
_IDS = ("ids", "id", "number", "bullet_id")


def parse(text: str, *, task: str = "", level: Level = "principle") -> Proposed:
    """The ops in a model's answer. `task` and `level` stand for what an Add does not say. Nothing it writes raises."""
    items = list(_json(text))
    if not items:
        items = [_tagged(*found) for found in _TAG.findall(text)]
    ops: list[Op] = []
    malformed: list[str] = []
    for item in items:
        try:
            ops.append(_op(item, task, level))
        except (ValueError, TypeError) as cause:
            malformed.append(f"{item!r:.200}: {cause}")
    return Proposed(tuple(ops), tuple(malformed))


def _json(text: str) -> Iterator[Any]:
    """The items of the first JSON list of operations, bare or under a name."""
    decoder = json.JSONDecoder()
    for match in list(re.finditer(r"[{\[]", text))[:50]:
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, Mapping):
            value = value.get("operations", value.get("ops", [value] if _kind(value) else None))
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield from value
            return


def _tagged(name: str, attributes: str, content: str) -> dict[str, Any]:
    ids = [int(number) for number in _NUMBER.findall(attributes)]
    return {"type": name.lower(), "ids": ids, "text": content.strip()}


def _kind(item: Mapping[str, Any]) -> str | None:
    return _KINDS.get(str(item.get("type", item.get("op", item.get("operation", "")))).strip().lower())


def _op(item: Any, task: str, level: Level) -> Op:
    kind = _kind(item) if isinstance(item, Mapping) else None
    if kind is None:
        raise ValueError("it names no operation")
    text = next((item[name] for name in _TEXT if isinstance(item.get(name), str)), "").strip()
    if kind == "add":
        if not text:
            raise ValueError("an added experience needs a text")
        said = str(item.get("level", item.get("section", ""))).strip().lower()
        return Add(
            Experience(text, _LEVELS.get(said, level), str(item.get("task", task)), str(item.get("observation", "")))
        )
    ids = _numbers(next((item[name] for name in _IDS if name in item), []))
    if kind == "merge":
        if len(set(ids)) < 2:
            raise ValueError("a merge needs two ids")
        return Merge(tuple(dict.fromkeys(ids)), text)
    if len(ids) != 1:
        raise ValueError("it needs one id")
    if kind == "remove":
        return Remove(ids[0], str(item.get("reason", text))[:200])
    if not text:
        raise ValueError("an edit needs a text")
    return Edit(ids[0], text)


def _numbers(given: Any) -> list[int]:
    """12, "12", "#12", "[note-00012]", or a list of such."""
    if isinstance(given, list | tuple):
        return [number for each in given for number in _numbers(each)]
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise ValueError(f"{given!r:.40} is no id")
    return [int(number) for number in _NUMBER.findall(str(given))]
