"""OpenAI chat completions: one dict a message, a tool message for each result."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from memctx.errors import InvalidMessage
from memctx.formats import arguments_text, body, sound, usable_name, wire
from memctx.messages import Message, Role, ToolCall

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "function": "user",  # the retired function role has no id to bind by: it stays where it is
    "assistant": "assistant",
    "tool": "tool",
}
TEXT_KEYS = ("text", "refusal")
MAX_NAME = 64
MAX_ID = 40
_NOT_AUTHOR = re.compile(r"[\s<|\\/>]")


class OpenAIChat:
    """See `memctx.formats.Format`."""

    provider = "openai-chat"
    groups_heads = False

    def parse(self, raw: Any, index: int) -> list[Message]:
        data, out = wire(raw, index)
        role = data.get("role") if isinstance(data, Mapping) else None
        if not isinstance(role, str) or role not in ROLES:
            text = f"message {index} has role {role!r:.40}; use one of {', '.join(ROLES)}"
            raise InvalidMessage(text, code="bad_role", index=index)
        mended = _mended(data, index)
        message = Message(
            role=ROLES[role],
            text=content_text(data.get("content"), index, may_lack=role in ("assistant", "function")),
            raw=raw,
            out=out if mended is data else mended,
            calls=tuple(_call(call, index) for call in mended.get("tool_calls") or ()),
            call_id=_call_id(data, index) if role == "tool" else "",
            sealed=bool(data.get("reasoning_content")),
            host=index,
        )
        return sound([message], self.provider, index)

    def acceptable(self, call_id: str) -> bool:
        return 0 < len(call_id) <= MAX_ID

    def rename(self, message: Message) -> Any:
        if message.role == "tool":
            return {**body(message.out), "tool_call_id": message.call_id}
        out = body(message.out)
        pairs = zip(out["tool_calls"], message.calls, strict=True)
        return {**out, "tool_calls": [{**raw, "id": call.id} for raw, call in pairs]}

    def with_text(self, message: Message, text: str) -> Any:
        return {**body(message.out), "content": text}

    def with_arguments(self, message: Message, arguments: Mapping[str, str]) -> Any:
        out = body(message.out)
        return {**out, "tool_calls": [_with_arguments(raw, arguments) for raw in out["tool_calls"]]}

    def result(self, call: ToolCall, text: str, like: Message) -> Message:
        raw = {"role": "tool", "tool_call_id": call.id, "content": text}
        return Message("tool", text, raw, raw, call_id=call.id, tool=call.name)

    def note(self, text: str, like: Any) -> Message:
        raw = {"role": "user", "content": text}
        return Message("user", text, raw, raw)

    def assemble(self, items: Sequence[tuple[Message, Any]]) -> list[Any]:
        return [out for _, out in items]


def content_text(content: Any, index: int, *, may_lack: bool = False) -> str:
    """The text of a content field: a string, parts, or None where `may_lack`."""
    if isinstance(content, str) or (content is None and may_lack):
        return content or ""
    if not isinstance(content, list | tuple):
        text = f"message {index}: content must be text or a list of parts, got {type(content).__name__}"
        raise InvalidMessage(text, code="bad_content_type", index=index)
    return "\n".join(filter(None, (part_text(part, index) for part in content)))


def part_text(part: Any, index: int) -> str:
    """The text of one part; "" for an image, a sound or a file."""
    if not isinstance(part, Mapping):
        text = f"message {index}: a content part must be an object with a type, got {part!r:.40}"
        raise InvalidMessage(text, code="bad_part", index=index)
    return next((part[key] for key in TEXT_KEYS if isinstance(part.get(key), str)), "")


def _mended(data: Any, index: int) -> Any:
    """`data` itself, or a copy in which the calls have the form the provider takes."""
    changes: dict[str, Any] = {}
    calls = data.get("tool_calls")
    if calls is not None and not isinstance(calls, list | tuple):
        text = f"message {index}: tool_calls must be a list, got {type(calls).__name__}"
        raise InvalidMessage(text, code="empty_tool_calls", index=index)
    if calls:
        mended = [_mended_call(call) for call in calls]
        if any(a is not b for a, b in zip(mended, calls, strict=True)):
            changes["tool_calls"] = mended
    name = data.get("name")
    if isinstance(name, str) and data["role"] != "function" and (fit := _NOT_AUTHOR.sub("_", name)[:MAX_NAME]) != name:
        changes["name"] = fit or "_"
    if data.get("role") == "assistant" and data.get("content", "") in (None, []):
        lone = not (calls or data.get("function_call") or data.get("refusal") or data.get("audio"))
        if lone or data.get("content") == []:
            changes["content"] = "" if lone else None
    if not changes and calls != []:
        return data
    return {**{key: value for key, value in data.items() if key != "tool_calls" or calls}, **changes}


def _call(call: Any, index: int) -> ToolCall:
    function = call.get("function", call.get("custom")) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        text = f"message {index}: a tool call needs 'id' and 'function' with a 'name', got {call!r:.80}"
        raise InvalidMessage(text, code="bad_tool_name", index=index)
    if not isinstance(call.get("id"), str) or not call["id"]:
        text = f"message {index}: a tool call's id must be a non-empty string, got {call.get('id')!r:.40}"
        raise InvalidMessage(text, code="bad_tool_call_id", index=index)
    return ToolCall(call["id"], function["name"], arguments_text(function.get("arguments", function.get("input", ""))))


def _call_id(out: Mapping[str, Any], index: int) -> str:
    call_id = out.get("tool_call_id")
    if not isinstance(call_id, str) or not call_id:
        text = f"message {index}: a tool message needs the tool_call_id it answers, got {call_id!r:.40}"
        raise InvalidMessage(text, code="bad_tool_call_id", index=index)
    return call_id


def _mended_call(call: Any) -> Any:
    """Arguments as text and a name the provider takes; other faults are left for `check` to name."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return call
    changes: dict[str, Any] = {}
    if not isinstance(function.get("arguments"), str):
        changes["arguments"] = arguments_text({} if function.get("arguments") is None else function["arguments"])
    name = function.get("name")
    if isinstance(name, str) and usable_name(name, MAX_NAME) != name:
        changes["name"] = usable_name(name, MAX_NAME)
    if not changes and "type" in call:
        return call
    return {**call, "type": call.get("type", "function"), "function": {**function, **changes}}


def _with_arguments(raw: Any, arguments: Mapping[str, str]) -> Any:
    if raw["id"] not in arguments or "function" not in raw:
        return raw
    return {**raw, "function": {**raw["function"], "arguments": arguments[raw["id"]]}}


FORMAT = OpenAIChat()
