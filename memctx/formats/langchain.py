"""LangChain messages, read by their attributes; never imported: whoever hands us one has loaded the package.

Edits are made with `model_copy`, so a message keeps its id, name, status, artifact and metadata. Calls stand in up to
three places (`tool_calls`, content blocks, `additional_kwargs`); a change goes into all of them, or an adapter would
send the old one. Malformed calls (`invalid_tool_calls`) are sent by the adapters too: they count, and want results.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memctx.errors import InvalidMessage
from memctx.formats import arguments_object, arguments_text, cleaned, is_langchain, loaded
from memctx.messages import Message, Role, ToolCall

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "function": "user",  # the retired function role has no id to bind by: it stays where it is
    "ai": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
}
SEALED = {
    "thinking", "redacted_thinking", "reasoning", "reasoning_content", "compaction", "server_tool_use",
    "tool_reference", "tool_search_call", "tool_search_output",
}  # fmt: skip
CALL_BLOCKS = {"tool_use": "id", "tool_call": "id", "function_call": "call_id"}  # block type -> where its id stands
ARGUMENTS = ("input", "args", "arguments")  # where such a block carries its arguments
ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")  # what every provider takes: the format does not know which one follows


class LangChain:
    """See `memctx.formats.Format`. `provider` is a default; the pipeline may name another."""

    provider = "openai-chat"
    groups_heads = False

    def parse(self, raw: Any, index: int) -> list[Message]:
        role = _role(raw, index)
        out = _mended(raw, index)
        return [
            Message(
                role=role,
                text=_text(out.content, index),
                raw=raw,
                out=out,
                calls=tuple(_call(call, index) for call in _calls(out)) if role == "assistant" else (),
                call_id=_call_id(out, index) if role == "tool" else "",
                sealed=_sealed(out),
                host=index,
            )
        ]

    def acceptable(self, call_id: str) -> bool:
        return ID.fullmatch(call_id) is not None

    def rename(self, message: Message) -> Any:
        if message.role == "tool":
            return _changed(message.out, tool_call_id=message.call_id)
        ids = [call.id for call in message.calls]
        olds = [call.get("id") for call in _calls(message.out)]
        return _recalled(message.out, lambda place, call: {**call, "id": ids[place]}, lambda: _renamer(olds, ids))

    def with_text(self, message: Message, text: str) -> Any:
        return _changed(message.out, content=text)

    def with_arguments(self, message: Message, arguments: Mapping[str, str]) -> Any:
        whole = len(getattr(message.out, "tool_calls", None) or ())

        def call(place: int, old: Mapping[str, Any]) -> Any:
            text = arguments.get(message.calls[place].id)
            if text is None:
                return old
            return {**old, "args": arguments_object(text) if place < whole else text}

        def block(old: Mapping[str, Any], call_id: Any) -> Any:
            return _with_arguments(old, arguments[call_id]) if call_id in arguments else old

        return _recalled(message.out, call, lambda: block)

    def result(self, call: ToolCall, text: str, like: Message) -> Message:
        raw = _new("ToolMessage", content=text, tool_call_id=call.id, name=call.name)
        return Message("tool", text, raw, raw, call_id=call.id, tool=call.name)

    def note(self, text: str, like: Any) -> Message:
        raw = _new("HumanMessage", content=text)
        return Message("user", text, raw, raw)

    def assemble(self, items: Sequence[tuple[Message, Any]]) -> list[Any]:
        return [out for _, out in items]


def _new(kind: str, **fields: Any) -> Any:
    return getattr(sys.modules["langchain_core.messages"], kind)(**fields)


def _changed(message: Any, **fields: Any) -> Any:
    return message.model_copy(update=fields)


def _role(raw: Any, index: int) -> Role:
    kind = getattr(raw, "type", None) if is_langchain(raw) else None
    if isinstance(kind, str) and kind.endswith("MessageChunk"):
        kind = kind.removesuffix("MessageChunk").lower()
    if kind == "chat":
        kind = getattr(raw, "role", None)
    if isinstance(kind, str) and kind in ROLES:
        return ROLES[kind]
    shown = kind if isinstance(kind, str) else type(raw).__name__
    text = f"message {index} is of type {shown!r:.40}; use one of {', '.join(ROLES)} (apply RemoveMessage beforehand)"
    raise InvalidMessage(text, code="bad_role", index=index)


def _mended(raw: Any, index: int) -> Any:
    """The host's object, or a copy in which all text can be encoded."""
    changes: dict[str, Any] = {}
    for name in ("content", "tool_calls", "invalid_tool_calls"):
        value = getattr(raw, name, None)
        if value and (fit := cleaned(value, index)) is not value:
            changes[name] = fit
    return _changed(raw, **changes) if changes else raw


def _text(content: Any, index: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        text = f"message {index}: content must be text or a list of blocks, got {type(content).__name__}"
        raise InvalidMessage(text, code="bad_content_type", index=index)
    texts = [block if isinstance(block, str) else _block_text(block, index) for block in content]
    names = [block.get("tool_name") for block in content if isinstance(block, Mapping) and _is_reference(block)]
    if names:
        return loaded(names)
    return "\n".join(filter(None, texts))


def _is_reference(block: Mapping[str, Any]) -> bool:
    """Whether an Anthropic search has loaded a tool with this block."""
    return block.get("type") == "tool_reference"


def _block_text(block: Any, index: int) -> str:
    if not isinstance(block, Mapping):
        text = f"message {index}: a content block must be text or an object with a type, got {block!r:.40}"
        raise InvalidMessage(text, code="bad_part", index=index)
    said = block.get("text") if block.get("type", "text") in ("text", "output_text", "input_text") else None
    return said if isinstance(said, str) else ""


def _calls(message: Any) -> list[Any]:
    """Well-formed calls, then malformed ones: the order in which the adapters send them."""
    return [*(getattr(message, "tool_calls", None) or ()), *(getattr(message, "invalid_tool_calls", None) or ())]


def _call(call: Any, index: int) -> ToolCall:
    """A call without an id has the id "", which no provider takes, so the transcript gives it one."""
    call_id, name = call.get("id"), call.get("name")
    if call_id is not None and not isinstance(call_id, str):
        text = f"message {index}: a tool call's id must be a string, got {call_id!r:.40}"
        raise InvalidMessage(text, code="bad_tool_call_id", index=index)
    arguments = call.get("args")
    return ToolCall(
        call_id or "", name if isinstance(name, str) else "", arguments_text({} if arguments is None else arguments)
    )


def _call_id(message: Any, index: int) -> str:
    call_id = getattr(message, "tool_call_id", None)
    if call_id is not None and not isinstance(call_id, str):
        text = f"message {index}: a tool message needs the tool_call_id it answers, got {call_id!r:.40}"
        raise InvalidMessage(text, code="bad_tool_call_id", index=index)
    return call_id or ""


def _sealed(message: Any) -> bool:
    content = message.content
    kinds = (
        {block.get("type") for block in content if isinstance(block, Mapping)} if isinstance(content, list) else set()
    )
    extra = getattr(message, "additional_kwargs", None) or {}
    return bool(kinds & SEALED) or any(extra.get(key) for key in ("reasoning", "reasoning_content", "thinking"))


Change = Callable[[Mapping[str, Any], Any], Any]  # (block or wire call, its id) -> the changed one


def _recalled(message: Any, call: Callable[[int, Mapping[str, Any]], Any], block: Callable[[], Change]) -> Any:
    """A copy whose calls went through `call(place, call)`, and their doubles elsewhere through `block()`."""
    whole = getattr(message, "tool_calls", None) or []
    broken = getattr(message, "invalid_tool_calls", None) or []
    fields: dict[str, Any] = {"tool_calls": [call(place, old) for place, old in enumerate(whole)]}
    if broken:
        fields["invalid_tool_calls"] = [call(place, old) for place, old in enumerate(broken, len(whole))]
    if isinstance(message.content, list):
        change = block()
        fields["content"] = [_reblocked(old, change) for old in message.content]
    extra = getattr(message, "additional_kwargs", None) or {}
    if isinstance(extra.get("tool_calls"), list):
        change = block()
        doubles = [change(old, old.get("id")) for old in extra["tool_calls"]]
        fields["additional_kwargs"] = {**extra, "tool_calls": doubles}
    return _changed(message, **fields)


def _reblocked(block: Any, change: Change) -> Any:
    where = CALL_BLOCKS.get(block.get("type", "")) if isinstance(block, Mapping) else None
    return block if where is None else change(block, block.get(where))


def _renamer(olds: Sequence[Any], ids: Sequence[str]) -> Change:
    """Gives the doubles in one place their new ids. They stand in the order of the calls, so twins are told apart."""
    used: dict[tuple[Any, Any], int] = {}

    def rename(double: Mapping[str, Any], old: Any) -> Any:
        kind = double.get("type", "")
        news = [new for given, new in zip(olds, ids, strict=True) if given == old]
        place = used.get((kind, old), 0)
        used[kind, old] = place + 1
        return {**double, CALL_BLOCKS.get(kind, "id"): news[place]} if place < len(news) else double

    return rename


def _with_arguments(double: Mapping[str, Any], text: str) -> Any:
    """A double of a call with other arguments: text where text stood, an object where an object stood."""
    function = double.get("function")
    if isinstance(function, Mapping):
        return {**double, "function": {**function, "arguments": text}}
    for key in ARGUMENTS:
        if key in double:
            return {**double, key: text if isinstance(double[key], str) else arguments_object(text)}
    return double


FORMAT = LangChain()
