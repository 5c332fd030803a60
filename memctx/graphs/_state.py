"""The state before a call as a short text, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memctx._skim import skim

REQUEST, RESULT = 500, 300  # characters kept of what was asked, and of the newest result


def summarise(messages: Sequence[Any]) -> str:
    """What the user said last, what was asked first, and an outline of the newest tool result, each cut to a bound.

    `messages`: `memctx.messages.Message`s, or mappings in OpenAI chat form. A summary by a model may stand in its place.
    """
    said = [text for role, text in map(_read, messages) if role == "user" and text]
    results = [text for role, text in map(_read, messages) if role == "tool" and text]
    parts = [said[-1][:REQUEST]] if said else []
    parts += [said[0][:REQUEST]] if len(said) > 1 else []
    parts += [skim(results[-1][: 20 * RESULT], level=1, limit=RESULT)] if results else []
    return "\n".join(parts)


def _read(message: Any) -> tuple[str, str]:
    if isinstance(message, Mapping):
        content = message.get("content")
        return str(message.get("role", "")), content if isinstance(content, str) else ""
    return message.role, message.text
