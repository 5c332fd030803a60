"""Wire formats. This file says what one is; every other file here is one.

A format reads a host message into `Message`s and writes edited ones back in the form they came in. It imports no host
package: LangChain and SDK objects are read by what they show. Repairs of single messages happen here, at reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from memctx._rules._values import dict_of
from memctx.errors import ConfigError, InvalidMessage
from memctx.messages import Message, ToolCall
from memctx.validity import Violation, check

NAMES = ("openai-chat", "openai-responses", "anthropic", "gemini", "langchain")
RESPONSES_ROLES = {"message", "reasoning", "item_reference", "compaction"}
LANGCHAIN_TYPES = {"human", "ai", "system", "developer", "tool", "function", "chat", "remove"}
EMPTY = "(empty)"  # stands where a provider wants text and the host's message has none


class Format(Protocol):
    """One wire format. `provider` is the name `memctx.validity.check` knows its rules by."""

    provider: str
    groups_heads: bool  # several host items make one assistant turn

    def parse(self, raw: Any, index: int) -> list[Message]:
        """Read one host message; several `Message`s where it carries several results. Raises `InvalidMessage`."""
        ...

    def acceptable(self, call_id: str) -> bool:
        """Whether the provider takes this call id."""
        ...

    def rename(self, message: Message) -> Any:
        """`message.out` with the ids of `message.calls` or `message.call_id`, where the wire has ids."""
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
        found = "langchain" if is_langchain(raw) else _detected(_mapping(raw))
        if found:
            return found
    return None


def is_langchain(raw: Any) -> bool:
    """Whether this is a LangChain message: an object with `content` and one of LangChain's message types."""
    if isinstance(raw, Mapping | str) or not hasattr(raw, "content"):
        return False
    kind = getattr(raw, "type", None)
    return isinstance(kind, str) and (kind in LANGCHAIN_TYPES or kind.endswith("MessageChunk"))


def _mapping(raw: Any) -> Mapping[str, Any]:
    """A mapping as it is, an SDK's object as the SDK sends it, and nothing for anything else."""
    return raw if isinstance(raw, Mapping) else dict_of(raw) or {}


def _detected(raw: Mapping[str, Any]) -> str | None:
    if "parts" in raw:
        return "gemini"
    kind = raw.get("type")
    if isinstance(kind, str) and ("role" not in raw or kind in RESPONSES_ROLES):
        return "openai-responses"
    if raw.get("role") in ("tool", "developer", "function") or raw.get("tool_calls") or raw.get("function_call"):
        return "openai-chat"
    content = raw.get("content")
    kinds = (_mapping(part).get("type") for part in (content if isinstance(content, list | tuple) else ()))
    return next((_PART_FORMATS[kind] for kind in kinds if isinstance(kind, str) and kind in _PART_FORMATS), None)


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
    if text.isascii() or _encodable(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def wire(raw: Any, index: int) -> tuple[Any, Any]:
    """`(data, out)`: the message as plain JSON data to read, and what goes on the wire.

    `out` is the host's object unless a lone surrogate had to be replaced; `data` is that object too unless it is, or
    holds, an SDK's own object. Raises `InvalidMessage` (`not_json`) for what JSON cannot carry.
    """
    dumped: list[Any] = []

    def dump(value: Any) -> Any:
        plain = dict_of(value)
        if plain is None and isinstance(value, Mapping):
            plain = dict(value)
        if plain is None:
            raise TypeError(f"an object of type {type(value).__name__}")
        dumped.append(value)
        return plain

    try:
        data = dict(dict.items(raw)) if type(raw) is not dict and issubclass(type(raw), dict) else raw
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, default=dump)
        data = json.loads(text) if dumped else data
        if not _encodable(text):
            data = raw = _cleaned(data)
    except Exception as cause:  # a host's object may raise anything when read
        raise _not_json(cause, index) from cause
    return data, raw


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def cleaned(value: Any, index: int) -> Any:
    """`value` itself if every string in it can be encoded, else a copy in which they can."""
    if isinstance(value, str):
        return clean(value)
    try:
        return value if _encodable(json.dumps(value, ensure_ascii=False)) else _cleaned(value)
    except Exception as cause:
        raise _not_json(cause, index) from cause


def _not_json(cause: Exception, index: int) -> InvalidMessage:
    why = str(cause)[:80] if isinstance(cause, TypeError | ValueError) else type(cause).__name__
    text = f"message {index} holds what JSON cannot carry ({why}): use only JSON values"
    return InvalidMessage(text, code="not_json", index=index)


def body(value: Any) -> dict[str, Any]:
    """A wire message as a dict that may be spread into a changed copy."""
    return dict(value) if isinstance(value, Mapping) else dict_of(value) or {}


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, Mapping):
        return {clean(key) if isinstance(key, str) else key: _cleaned(item) for key, item in value.items()}
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


def loaded(names: Iterable[Any]) -> str:
    """The text of a search's result that holds no text but the tools it has loaded: as `SearchTools` would say it."""
    return json.dumps({"tools": [{"name": name} for name in names if isinstance(name, str)]}, ensure_ascii=False)


def usable_name(name: str, limit: int) -> str:
    """A tool name with what OpenAI and Anthropic refuse replaced by `_`, and cut to `limit` characters."""
    if len(name) <= limit and _NAME.fullmatch(name):
        return name
    return _NOT_NAME.sub("_", name)[:limit]


_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_NOT_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def faults(out: Any, provider: str) -> Violation | None:
    """The first rule of its provider that one wire message breaks by itself, or None.

    `out`: a `Message.out`, whole or a part of a host message. Rules about neighbours, the list and call ids are passed
    over: the renderer and the transcript see to those; so is length, which strategies see to. What is found, nothing
    can mend. The formats of one provider refuse such a message at reading; a LangChain message may go to any provider,
    so who knows which one it is asks here.
    """
    raw = out
    if provider == "anthropic" and isinstance(out, Mapping) and out.get("type") == "tool_result":
        raw = {"role": "user", "content": [out]}
    elif provider == "gemini" and isinstance(out, Mapping) and "parts" not in out:
        raw = {"role": "user", "parts": [out]}
    return next((found for found in check([raw], provider) if found.rule not in _OF_THE_LIST), None)


def sound(messages: list[Message], provider: str, index: int) -> list[Message]:
    """`messages`, as read from one host message; raises `InvalidMessage` where one of them has a fault."""
    for message in messages:
        found = faults(message.out, provider)
        if found:
            text = f"message {index}: {found.message}: {found.remedy}"
            raise InvalidMessage(text, code=found.rule, index=index)
    return messages


_OF_THE_LIST = {
    "empty_messages", "first_not_user", "no_user", "prefill_not_supported", "trailing_whitespace",
    "unanswered_tool_call", "orphan_tool_result", "duplicate_tool_result", "tool_result_not_first",
    "tool_result_not_alone", "call_turn_misplaced", "reasoning_without_item", "compaction_block_ambiguous",
    "compaction_block_misplaced", "too_many_cache_breakpoints", "content_too_long",
    "bad_tool_call_id", "tool_id_too_long", "duplicate_tool_call_id",
}  # fmt: skip
