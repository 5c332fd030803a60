"""Requests from a file, for `memctx check`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memctx.errors import ConfigError

BODIES = ("messages", "input", "contents")  # OpenAI chat and Anthropic, Responses, Gemini
SYSTEMS = ("system", "instructions", "system_instruction", "systemInstruction")


@dataclass(frozen=True, slots=True)
class Request:
    """The messages of one request in a provider's own form, and what was sent beside them."""

    messages: Any
    system: Any = None
    tools: Any = None
    server_history: bool = False


def read_requests(path: Path) -> list[Request]:
    """The requests of a JSON or JSONL file.

    A JSON file is a list of messages, a request body, or a list of bodies; a JSONL file has one message a line (one
    request) or one body a line. Raises `ConfigError` for a file that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"cannot read {path}: {cause}; give a JSON or JSONL file", code="unreadable_file") from cause
    values = list(_values(path, text))
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0] if any(map(_is_body, values[0])) else values
    elif not any(map(_is_body, values)):
        values = [values]
    return [_request(value) for value in values]


def _values(path: Path, text: str) -> Iterator[Any]:
    """The one value of a JSON file, or one a line."""
    try:
        yield json.loads(text)
        return
    except RecursionError as cause:
        raise ConfigError(f"{path} nests too deep to be read as JSON", code="not_json") from cause
    except json.JSONDecodeError as cause:
        whole = cause
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (json.JSONDecodeError, RecursionError) as cause:
                where = whole if number == 1 else cause
                raise ConfigError(f"{path}, line {number}: not JSON ({where})", code="not_json") from cause


def _is_body(value: Any) -> bool:
    return isinstance(value, dict) and "role" not in value and any(key in value for key in BODIES)


def _request(value: Any) -> Request:
    if not _is_body(value):
        return Request(value)
    messages = next(value[key] for key in BODIES if key in value)
    system = next((value[key] for key in SYSTEMS if key in value), None)
    return Request(messages, system, value.get("tools"), bool(value.get("previous_response_id")))
