"""What a recorded run is, and the small builders that every family uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from memctx.errors import InvalidMessage


@dataclass(frozen=True)
class Run:
    """One recorded run in OpenAI chat form.

    `times` holds seconds since the first message, one per message, or None when the record has no full set of
    timestamps. A call of a simulated user (tau2) is an assistant message with `name="user"`. `reward`, 0 to 1 in the known
    sets, is the outcome the record states; None where it states none.
    """

    id: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] | None = None
    reward: float | None = None


@dataclass(frozen=True)
class At:
    """Where a record stands, for errors and for the default run id."""

    file: str
    line: int
    stem: str

    def bad(self, text: str, *, index: int | None = None, code: str = "bad_run") -> InvalidMessage:
        where = f"{self.file}, line {self.line}" + ("" if index is None else f", message {index}")
        return InvalidMessage(f"{where}: {text}", code=code, index=index, file=self.file, line=self.line)

    def run_id(self, record: Mapping[str, Any]) -> str:
        value = record.get("id")
        return str(value) if value not in (None, "") else f"{self.stem}-{self.line}"


def text_of(value: Any) -> str:
    """A result as the text a model would be shown: text as it is, data as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text_of(arguments or {})}}


def assistant(text: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text or None if calls else text}
    return {**message, "tool_calls": calls} if calls else message


def result(call_id: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text_of(content)}


def dicts(value: Any, at: At, name: str) -> list[dict[str, Any]]:
    """`value` as a list of objects, or an error that names the field and the index."""
    if not isinstance(value, list):
        raise at.bad(f"field {name!r} must be a list of objects, got {type(value).__name__}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise at.bad(f"field {name!r} must hold objects, got {type(item).__name__}", index=index)
    return value


def reward_of(record: Mapping[str, Any]) -> float | None:
    """The outcome a record states: `reward`, `success` (a flag or a word) or `resolved`; the best turn's in InterCode."""
    stated = next((record[name] for name in ("reward", "success", "resolved") if record.get(name) is not None), None)
    if stated is None and isinstance(record.get("summary"), dict):
        stated = record["summary"].get("max_reward")
    if isinstance(stated, str):
        return float(stated.lower() in ("success", "true", "yes"))
    return float(stated) if isinstance(stated, int | float) else None


def seconds(stamps: list[Any]) -> list[float] | None:
    """Seconds since the first stamp (ISO text or epoch seconds); None unless every stamp can be read."""
    values = [_seconds(stamp) for stamp in stamps]
    known = [value for value in values if value is not None]
    if not known or len(known) != len(values):
        return None
    return [value - known[0] for value in known]


def _seconds(stamp: Any) -> float | None:
    if isinstance(stamp, (int, float)) and not isinstance(stamp, bool):
        return float(stamp)
    if not isinstance(stamp, str):
        return None
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
