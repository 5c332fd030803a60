"""Anthropic Messages: content blocks; results travel in the user message after the call.

Mended at reading: blank text blocks leave (a user message with nothing else says `(empty)`), unsigned thinking leaves,
thinking comes first, marks on thinking go, call inputs are objects, tool names fit. An assistant message with nothing
left becomes a `Message` with no text and no calls; `assemble` leaves it out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from memctx._rules._anthropic_blocks import TOOL_ID, is_server_block
from memctx.errors import InvalidMessage
from memctx.formats import EMPTY, arguments_object, body, loaded, sound, usable_name, wire
from memctx.formats._blocks import host_of, runs, split
from memctx.messages import Message, Role, ToolCall

ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
THINKING = ("thinking", "redacted_thinking")
MAX_NAME = 128


class Anthropic:
    """See `memctx.formats.Format`."""

    provider = "anthropic"
    groups_heads = False

    def parse(self, raw: Any, index: int) -> list[Message]:
        data, out = wire(raw, index)
        role = data.get("role") if isinstance(data, Mapping) else None
        if not isinstance(role, str) or role not in ROLES:
            text = f"message {index} has role {role!r:.40}; use one of {', '.join(ROLES)}"
            raise InvalidMessage(text, code="bad_role", index=index)
        content = data.get("content")
        if isinstance(content, str):
            return sound([_said(data, raw, out, index)], self.provider, index)
        blocks = _blocks(content, role, index)
        mended = [block for block in (_mended(block, index) for block in blocks) if block is not None]
        if role == "assistant":
            mended = _thinking_first(mended)
        elif not mended:
            mended = [_text_block(EMPTY)]
        if role == "user" and any(_type(block) == "tool_result" for block in mended):
            return sound(_parts(raw, index, mended), self.provider, index)
        if len(mended) != len(blocks) or any(a is not b for a, b in zip(mended, blocks, strict=True)):
            out = {**data, "content": mended}
        calls = tuple(ToolCall(b["id"], b["name"], _json(b["input"])) for b in mended if _type(b) == "tool_use")
        sealed = any(_signed(block) for block in mended)
        message = Message(ROLES[role], _text(mended), raw, out, calls, sealed=sealed, host=index)
        return sound([message], self.provider, index)

    def acceptable(self, call_id: str) -> bool:
        return TOOL_ID.fullmatch(call_id) is not None

    def rename(self, message: Message) -> Any:
        if message.role == "tool":
            return {**message.out, "tool_use_id": message.call_id}
        out = body(message.out)
        ids = iter([call.id for call in message.calls])
        blocks = [
            {**block, "id": next(ids)} if _type(block) == "tool_use" else block for block in _plain(out["content"])
        ]
        return {**out, "content": blocks}

    def with_text(self, message: Message, text: str) -> Any:
        """An assistant message keeps its calls, and nothing else beside the new text."""
        if message.role == "tool":
            return {**message.out, "content": text}
        out = body(message.out)
        uses = [b for b in _plain(out["content"]) if _type(b) == "tool_use"] if message.calls else []
        return {**out, "content": [_text_block(text), *uses] if uses else text}

    def with_arguments(self, message: Message, arguments: Mapping[str, str]) -> Any:
        out = body(message.out)
        return {**out, "content": [_with_input(block, arguments) for block in _plain(out["content"])]}

    def result(self, call: ToolCall, text: str, like: Message) -> Message:
        block = {"type": "tool_result", "tool_use_id": call.id, "content": text}
        return Message("tool", text, block, block, call_id=call.id, tool=call.name)

    def note(self, text: str, like: Any) -> Message:
        raw = {"role": "user", "content": text}
        return Message("user", text, raw, raw)

    def assemble(self, items: Sequence[tuple[Message, Any]]) -> list[Any]:
        """One user message for neighbouring results: results first, then what came beside them."""
        out: list[Any] = []
        for results, rest in runs(items):
            if not results:
                if not _is_nothing(*rest[0]):
                    out.append(rest[0][1])
                continue
            blocks = [block for _, block in results]
            blocks += [block for _, wire_form in rest for block in _as_blocks(wire_form)]
            host = host_of([*results, *rest], blocks, _held)
            out.append(host if host is not None else {"role": "user", "content": blocks})
        return out


def _type(block: Any) -> Any:
    return block.get("type") if isinstance(block, Mapping) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _plain(content: Any) -> list[Any]:
    """Blocks as dicts; an SDK's own block objects are dumped."""
    if isinstance(content, str):
        return [_text_block(content)]
    return [block if isinstance(block, Mapping) else body(block) for block in content]


def _held(raw: Any) -> Any:
    content = body(raw).get("content")
    return _plain(content) if isinstance(content, list | tuple) else content


def _as_blocks(message: Any) -> list[Any]:
    return _plain(message["content"])


def _is_nothing(message: Message, out: Any) -> bool:
    """An assistant message with no block in it."""
    if message.role != "assistant" or message.text or message.calls or message.sealed:
        return False
    return not body(out).get("content")


def _said(data: Mapping[str, Any], raw: Any, out: Any, index: int) -> Message:
    """A message whose content is a string."""
    role, text = ROLES[data["role"]], data["content"]
    if not text.strip():
        text = "" if role == "assistant" else EMPTY
        out = {**data, "content": text}
    return Message(role, text, raw, out, host=index)


def _blocks(content: Any, role: str, index: int) -> list[Any]:
    if not isinstance(content, list | tuple):
        text = f"message {index}: content must be text or a list of blocks, got {type(content).__name__}"
        raise InvalidMessage(text, code="bad_content_type", index=index)
    if not content and role != "assistant":
        text = f"message {index}: content is an empty list; give it a block, or leave the message out"
        raise InvalidMessage(text, code="empty_content_list", index=index)
    return list(content)


def _mended(block: Any, index: int) -> Any:
    """The block, a copy the provider takes, or None where nothing of it may be sent."""
    kind = _type(block)
    if not isinstance(kind, str):
        text = f"message {index}: a content block must be an object with a type, got {block!r:.40}"
        raise InvalidMessage(text, code="bad_part", index=index)
    look = _MENDERS.get(kind)
    return block if look is None else look(block, index)


def _mended_text(block: Any, index: int) -> Any:
    text = block.get("text")
    return None if isinstance(text, str) and not text.strip() else block


def _mended_thinking(block: Any, index: int) -> Any:
    if not block.get("signature" if block["type"] == "thinking" else "data"):
        return None
    if "cache_control" in block:
        return {key: value for key, value in block.items() if key != "cache_control"}
    return block


def _mended_use(block: Any, index: int) -> Any:
    call_id, name, given = block.get("id"), block.get("name"), block.get("input")
    if not isinstance(call_id, str) or not call_id:
        text = f"message {index}: a tool_use id must be a non-empty string, got {call_id!r:.40}"
        raise InvalidMessage(text, code="bad_tool_call_id", index=index)
    if not isinstance(name, str) or not name:
        text = f"message {index}: a tool_use needs a name, got {name!r:.40}"
        raise InvalidMessage(text, code="bad_tool_name", index=index)
    changes: dict[str, Any] = {}
    if usable_name(name, MAX_NAME) != name:
        changes["name"] = usable_name(name, MAX_NAME)
    if not isinstance(given, Mapping):
        changes["input"] = {} if given is None else arguments_object(given if isinstance(given, str) else _json(given))
    return {**block, **changes} if changes else block


def _mended_result(block: Any, index: int) -> Any:
    call_id, content = block.get("tool_use_id"), block.get("content")
    if not isinstance(call_id, str) or not call_id:
        text = f"message {index}: a tool_result needs the tool_use_id it answers, got {call_id!r:.40}"
        raise InvalidMessage(text, code="bad_tool_call_id", index=index)
    if content is not None and not isinstance(content, str | list | tuple):
        text = f"message {index}: tool_result content must be text or a list of blocks, got {type(content).__name__}"
        raise InvalidMessage(text, code="bad_content_type", index=index)
    if isinstance(content, list | tuple):
        parts = [part for part in (_mended(part, index) for part in content) if part is not None]
        if len(parts) != len(content):
            block = {**block, "content": parts}
    if block.get("is_error") is True and not block.get("content"):
        return {**block, "content": "error"}
    return block


_MENDERS: dict[str, Callable[[Any, int], Any]] = {
    "text": _mended_text,
    "tool_use": _mended_use,
    "tool_result": _mended_result,
    **dict.fromkeys(THINKING, _mended_thinking),
}


def _thinking_first(blocks: list[Any]) -> list[Any]:
    """The first thinking block moved to the front where text or a call of the same stretch stands before it."""
    spoken = False
    for place, block in enumerate(blocks):
        kind = block["type"]
        if kind in THINKING:
            return [block, *blocks[:place], *blocks[place + 1 :]] if spoken else blocks
        spoken = kind in ("text", "tool_use") or (spoken and not is_server_block(kind))
    return blocks


def _signed(block: Any) -> bool:
    return block["type"] in (*THINKING, "compaction") or is_server_block(block["type"])


def _text(blocks: Iterable[Any]) -> str:
    """The text of text blocks, also of those inside a result."""
    texts = [block["text"] for block in blocks if _type(block) == "text" and isinstance(block.get("text"), str)]
    return "\n".join(texts)


def _parts(raw: Any, index: int, blocks: list[Any]) -> list[Message]:
    results = [_result(block) for block in blocks if block["type"] == "tool_result"]
    others = [block for block in blocks if block["type"] != "tool_result"]
    rest = {"role": "user", "content": others}
    return split(raw, index, results, Message("user", _text(others), raw, rest) if others else None)


def _result(block: Any) -> Message:
    """A result that refers to tools is sealed: the provider has loaded them only while it shows the references."""
    content = block.get("content")
    parts = content if isinstance(content, list | tuple) else ()
    names = [part.get("tool_name") for part in parts if _type(part) == "tool_reference"]
    text = loaded(names) if names else content if isinstance(content, str) else _text(parts)
    return Message("tool", text, block, block, call_id=block["tool_use_id"], sealed=bool(names))


def _with_input(block: Any, arguments: Mapping[str, str]) -> Any:
    if _type(block) != "tool_use" or block["id"] not in arguments:
        return block
    return {**block, "input": arguments_object(arguments[block["id"]])}


FORMAT = Anthropic()
