"""Wire formats. This file says what one is; every other file here is one.

A format reads a host message into `Message`s and writes edited ones back in the form they came in. It imports no host
package: LangChain objects are read by their attributes. Repairs of single messages happen here, at reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from memctx.errors import ConfigError, InvalidMessage
from memctx.messages import Message, ToolCall

NAMES = ("openai-chat", "openai-responses", "anthropic", "gemini", "langchain")
RESPONSES_ROLES = {"message", "reasoning", "item_reference", "compaction"}


class Format(Protocol):
    """One wire format. `provider` is the name `memctx.validity.check` knows its rules by."""

    provider: str
    groups_heads: bool  # several host items make one assistant turn
    unique_ids: bool  # call ids may not repeat within a request

    def parse(self, raw: Any, index: int) -> list[Message]:
        """Read one host message; several `Message`s where it carries several results. Raises `InvalidMessage`."""
        ...

    def acceptable(self, call_id: str) -> bool:
        """Whether the provider takes this call id."""
        ...

    def rename(self, message: Message) -> Any:
        """`message.out` with the ids of `message.calls` or `message.call_id`."""
        ...

    def with_text(self, message: Message, text: str) -> Any:
        """`message.out` with its text replaced: the content of a result, or of a whole message."""
        ...

    def with_arguments(self, message: Message, arguments: Mapping[str, str]) -> Any:
        """`message.out` with the JSON arguments of some calls replaced, by call id."""
        ...

    def result(self, call: ToolCall, text: str, like: Message) -> Message:
        """A stand-in result for a call that has none. `like` is the message that made the call."""
        ...

    def note(self, text: str, like: Any) -> Message:
        """A user message of ours. `like` is any host object of the thread, for formats whose messages are objects."""
        ...

    def assemble(self, items: Sequence[tuple[Message, Any]]) -> list[Any]:
        """Host messages for (message, wire form) pairs; the host's own object wherever nothing changed."""
        ...


def detect(hosts: Sequence[Any]) -> str | None:
    """The format these host messages are in, or None while plain text messages leave it open."""
    for raw in hosts:
        if not isinstance(raw, Mapping):
            if hasattr(raw, "content") and hasattr(raw, "type"):
                return "langchain"
            continue
        if "parts" in raw:
            return "gemini"
        kind = raw.get("type")
        if "role" not in raw or (isinstance(kind, str) and kind in RESPONSES_ROLES):
            return "openai-responses" if isinstance(kind, str) else None
        if raw["role"] in ("tool", "developer", "function") or raw.get("tool_calls"):
            return "openai-chat"
        for part in raw["content"] if isinstance(raw.get("content"), list) else ():
            found = _PART_FORMATS.get(part.get("type")) if isinstance(part, Mapping) else None
            if found:
                return found
    return None


_PART_FORMATS = {
    "tool_use": "anthropic",
    "tool_result": "anthropic",
    "thinking": "anthropic",
    "redacted_thinking": "anthropic",
    "server_tool_use": "anthropic",
    "image": "anthropic",
    "document": "anthropic",
    "input_text": "openai-responses",
    "output_text": "openai-responses",
    "input_image": "openai-responses",
    "input_file": "openai-responses",
    "image_url": "openai-chat",
    "input_audio": "openai-chat",
    "file": "openai-chat",
    "refusal": "openai-chat",
}


def load(name: str) -> Format:
    """The format called `name`; raises `ConfigError` listing the known names."""
    if name not in NAMES:
        raise ConfigError(f"unknown message format {name!r}; known: {', '.join(NAMES)}", field="format")
    from importlib import import_module

    chosen: Format = import_module(f"memctx.formats.{name.replace('-', '_')}").FORMAT
    return chosen


def clean(text: str) -> str:
    """Text that can be encoded: a lone surrogate becomes U+FFFD, anything else is returned as it is."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def cleaned(value: Any) -> Any:
    """`value` itself if every string in it can be encoded, else a copy in which they can."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return _cleaned(value)
    except (TypeError, ValueError, RecursionError) as cause:
        raise InvalidMessage(f"a message holds what JSON cannot carry: {cause}", code="not_json") from cause
    return value


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, Mapping):
        return {clean(str(key)): _cleaned(item) for key, item in value.items()}
    return value


def arguments_text(arguments: Any) -> str:
    """Call arguments as JSON text; text stays as the model wrote it."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def arguments_object(text: str) -> Any:
    """Call arguments as an object where the wire wants one; what is not an object is carried whole under `_raw`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"_raw": text}
