"""Grounding recall: which arguments of a run's calls come from earlier tool results, and does a view still hold them?

For each tool call take every argument leaf (strings and numbers as text; of a call's own `command` its word-like
tokens) of at least 5 characters that stands in no user or system text so far and does stand in an earlier tool
result. It is *grounded* in the latest such result. A view keeps it if that text still stands anywhere in the view made
for the call. Recall is kept / grounded. Nothing is deduplicated: an argument used twice is two needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["COMMAND_KEYS", "MIN_CHARS", "Need", "arguments", "grounded", "kept", "view_text"]

MIN_CHARS = 5
COMMAND_KEYS = frozenset({"command", "cmd"})
WORD = re.compile(r"[\w./-]{5,}")


@dataclass(frozen=True)
class Need:
    """Text that the call in message `call_index` draws on; `source` is the latest earlier result that holds it."""

    call_index: int
    text: str
    source: int


def grounded(messages: Sequence[Mapping[str, Any]]) -> list[Need]:
    """Every grounded argument of OpenAI chat messages, in order. Indices count messages."""
    needs: list[Need] = []
    given: list[str] = []
    results: list[tuple[int, str]] = []
    for index, message in enumerate(messages):
        role = message.get("role")
        if role in ("tool", "function"):
            results.append((index, _content(message)))
        elif role == "assistant":
            for text in _texts(message):
                source = None if any(text in known for known in given) else _latest(text, results)
                if source is not None:
                    needs.append(Need(index, text, source))
        else:
            given.append(_content(message))
    return needs


def kept(need: Need, view: str) -> bool:
    """Does the view's text (see `view_text`) still hold what the call needs?"""
    return need.text in view


def view_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """All text of a view in OpenAI chat form: contents and call arguments, arguments unescaped."""
    return "\n".join(part for message in messages for part in _parts(message))


def arguments(message: Mapping[str, Any]) -> Iterator[Any]:
    """The arguments of each call of an assistant message, decoded; text that is no JSON stays text."""
    for call in message.get("tool_calls") or ():
        body = call.get("function") or call.get("custom") or {}
        raw = body.get("arguments", body.get("input", ""))
        try:
            yield json.loads(raw) if isinstance(raw, str) else raw
        except (ValueError, RecursionError):
            yield raw


def _parts(message: Mapping[str, Any]) -> Iterator[str]:
    yield _content(message)
    for value in arguments(message):
        yield from _leaves(value)


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    for value in arguments(message):
        for key, item in value.items() if isinstance(value, Mapping) else [("", value)]:
            for leaf in _leaves(item):
                if key in COMMAND_KEYS:
                    yield from WORD.findall(leaf)
                elif len(leaf) >= MIN_CHARS:
                    yield leaf


def _leaves(value: Any) -> Iterator[str]:
    """Every string and number of JSON data as text, in order."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(item))
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield str(item)


def _latest(text: str, results: list[tuple[int, str]]) -> int | None:
    return next((index for index, content in reversed(results) if text in content), None)


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        return ""
    parts = [p if isinstance(p, str) else str(p.get("text", "")) for p in content if isinstance(p, (str, Mapping))]
    return "\n".join(parts)
