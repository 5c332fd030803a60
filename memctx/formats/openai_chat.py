"""OpenAI chat completions: one dict a message, a tool message for each result."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from memctx.errors import InvalidMessage
from memctx.formats import arguments_text, cleaned
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


class OpenAIChat:
    """See `memctx.formats.Format`."""

    provider = "openai-chat"
    groups_heads = False
    unique_ids = True

    def parse(self, raw: Any, index: int) -> list[Message]:
        role = raw.get("role") if isinstance(raw, Mapping) else None
        if not isinstance(role, str) or role not in ROLES:
            text = f"message {index} has role {role!r:.40}; use one of {', '.join(ROLES)}"
            raise InvalidMessage(text, code="bad_role", index=index)
        out = self._repaired(raw, index)
        calls = tuple(_call(call, index) for call in out.get("tool_calls") or ())
        return [
            Message(
                role=ROLES[role],
                text=content_text(out.get("content"), index),
                raw=raw,
                out=out,
                calls=calls,
                call_id=_call_id(out, index) if role == "tool" else "",
                sealed=bool(out.get("reasoning_content")),
                host=index,
            )
        ]

    def _repaired(self, raw: Mapping[str, Any], index: int) -> Any:
        out: Any = cleaned(raw)
        calls = out.get("tool_calls", ...)
        if calls is None or calls == []:
            out = {key: value for key, value in out.items() if key != "tool_calls"}
        elif calls is not ... and not isinstance(calls, list):
            text = f"message {index}: tool_calls must be a list, got {type(calls).__name__}"
            raise InvalidMessage(text, code="empty_tool_calls", index=index)
        elif calls is not ...:
            fixed = [_repaired_call(call) for call in calls]
            if any(a is not b for a, b in zip(fixed, calls, strict=True)):
                out = {**out, "tool_calls": fixed}
        if out.get("content", ...) == [] and out.get("tool_calls"):
            out = {**out, "content": None}
        return out

    def acceptable(self, call_id: str) -> bool:
        return 0 < len(call_id) <= 40

    def rename(self, message: Message) -> Any:
        if message.role == "tool":
            return {**message.out, "tool_call_id": message.call_id}
        pairs = zip(message.out["tool_calls"], message.calls, strict=True)
        return {**message.out, "tool_calls": [{**raw, "id": call.id} for raw, call in pairs]}

    def with_text(self, message: Message, text: str) -> Any:
        return {**message.out, "content": text}

    def with_arguments(self, message: Message, arguments: Mapping[str, str]) -> Any:
        return {**message.out, "tool_calls": [_with_arguments(raw, arguments) for raw in message.out["tool_calls"]]}

    def result(self, call: ToolCall, text: str, like: Message) -> Message:
        raw = {"role": "tool", "tool_call_id": call.id, "content": text}
        return Message("tool", text, raw, raw, call_id=call.id, tool=call.name)

    def note(self, text: str, like: Any) -> Message:
        raw = {"role": "user", "content": text}
        return Message("user", text, raw, raw)

    def assemble(self, items: Sequence[tuple[Message, Any]]) -> list[Any]:
        return [out for _, out in items]


def content_text(content: Any, index: int) -> str:
    """The text of a content field: a string, None, or parts."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        text = f"message {index}: content must be text or a list of parts, got {type(content).__name__}"
        raise InvalidMessage(text, code="bad_content_type", index=index)
    return "\n".join(part_text(part, index) for part in content)


def part_text(part: Any, index: int) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise InvalidMessage(f"message {index}: a content part is {part!r:.40}", code="bad_part", index=index)
    return next((part[key] for key in TEXT_KEYS if isinstance(part.get(key), str)), "")


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


def _repaired_call(call: Any) -> Any:
    """Arguments as text and a name the provider takes; other faults are left for `check` to name."""
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    function = call["function"]
    changes: dict[str, Any] = {}
    if not isinstance(function.get("arguments"), str):
        changes["arguments"] = arguments_text(function.get("arguments") or {})
    if isinstance(function.get("name"), str) and function["name"] and not _NAME.fullmatch(function["name"]):
        changes["name"] = re.sub(r"[^a-zA-Z0-9_-]", "_", function["name"])[:64]
    if call.get("type", "function") == "function" and not changes and "type" in call:
        return call
    return {**call, "type": call.get("type", "function"), "function": {**function, **changes}}


_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def _with_arguments(raw: Any, arguments: Mapping[str, str]) -> Any:
    if raw["id"] not in arguments or "function" not in raw:
        return raw
    return {**raw, "function": {**raw["function"], "arguments": arguments[raw["id"]]}}


FORMAT = OpenAIChat()
