"""The state before a call as a short text, without a model: what is asked, and what the newest tool result says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memctx._skim import skim

ASKED, RESULT = 800, 300  # characters kept of what the user said last, and of the newest result
READ = 20 * RESULT  # characters of a result that are looked at


def summarise(messages: Sequence[Any]) -> str:
    """What the user said last; then, after an empty line, an outline of the newest message if it is a tool result.

    `messages`: `memctx.messages.Message`s, or mappings in OpenAI chat form. A summary by a model may stand in its place: its
    first paragraph is compared with first paragraphs, the rest with the rest.
    """
    read = map(_read, reversed(messages))
    role, text = next(read, ("", ""))
    result = skim(text[:READ], level=1, limit=RESULT)[: 2 * RESULT] if role == "tool" else ""
    asked = text if role == "user" else next((text for role, text in read if role == "user" and text), "")
    return f"{_dense(asked[:ASKED])}\n\n{_dense(result)}" if result else _dense(asked[:ASKED])


def parts(state: str) -> tuple[str, str]:
    """What is asked and what the newest result says, of a state as `summarise` gives it."""
    asked, _, result = state.partition("\n\n")
    return asked.strip(), result.strip()


def _dense(text: str) -> str:
    """No empty lines."""
    return "\n".join(line for line in text.splitlines() if line.strip())


def _read(message: Any) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        return message.role, message.text
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return str(message.get("role", "")), content
