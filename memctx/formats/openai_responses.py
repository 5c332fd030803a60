"""OpenAI Responses: a flat list of items, several of which make one assistant turn.

One `Message` an item. Calls and their outputs are paired by `call_id`. What the provider signed or stored (reasoning,
built-in tools, references, compaction) is sealed: it leaves with its turn or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from memctx._rules.openai_responses import BORN_BY_MODEL, MAX_ID, OUTPUT_OF
from memctx.errors import InvalidMessage
from memctx.formats import arguments_text, body, loaded, sound, usable_name, wire
from memctx.messages import Message, Role, ToolCall
from memctx.search_tools import SEARCH

ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
OUTPUTS = {**OUTPUT_OF, "local_shell_call": "local_shell_call_output"}
CALLS = {output: call for call, output in OUTPUTS.items()}
WRITTEN = {"function_call": "arguments", "custom_tool_call": "input"}  # calls whose text the model wrote
DONE = {
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}
SEARCH_CALL, SEARCH_OUTPUT = "tool_search_call", "tool_search_output"
MAX_NAME = 64
TEXTS = ("text", "input_text", "output_text")
# Stands for a screenshot that is out of sight: one transparent pixel, since the provider takes only an image.
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class OpenAIResponses:
    """See `memctx.formats.Format`. A cleared screenshot becomes one pixel; its text shows nowhere."""

    provider = "openai-responses"
    groups_heads = True

    def parse(self, raw: Any, index: int) -> list[Message]:
        data, out = wire(raw, index)
        kind = _kind(data, index)
        mended = _mended(data, kind)
        if mended is not data:
            out = mended
        return sound([_message(mended, kind, raw, out, index)], self.provider, index)

    def acceptable(self, call_id: str) -> bool:
        return 0 < len(call_id) <= MAX_ID

    def rename(self, message: Message) -> Any:
        """The item loses its own id as well: a stored item may not come back changed, nor two items share an id."""
        call_id = message.call_id if message.role == "tool" else message.calls[0].id
        return {**{key: value for key, value in body(message.out).items() if key != "id"}, "call_id": call_id}

    def with_text(self, message: Message, text: str) -> Any:
        out = body(message.out)
        if message.role == "tool":
            return {**out, "output": _output(out["type"], text, out.get("output"))}
        return {**out, "content": text}

    def with_arguments(self, message: Message, arguments: Mapping[str, str]) -> Any:
        """Actions (computer, shell, patch) have a form of their own and stay as they are."""
        out = body(message.out)
        field = WRITTEN.get(out["type"])
        call_id = message.calls[0].id
        return {**out, field: arguments[call_id]} if field and call_id in arguments else message.out

    def result(self, call: ToolCall, text: str, like: Message) -> Message:
        of = body(like.out).get("type", "")
        if of == SEARCH_CALL:
            raw = {
                "type": SEARCH_OUTPUT,
                "call_id": call.id,
                "execution": "client",
                "status": "incomplete",
                "tools": [],
            }
            return Message("tool", loaded(()), raw, raw, call_id=call.id, tool=call.name, sealed=True)
        kind = OUTPUTS.get(of, "function_call_output")
        raw = {"type": kind, "call_id": call.id, "output": _output(kind, text, None)}
        if kind == "apply_patch_call_output":
            raw["status"] = "failed"
        return Message("tool", text, raw, raw, call_id=call.id, tool=call.name)

    def note(self, text: str, like: Any) -> Message:
        raw = {"role": "user", "content": text}
        return Message("user", text, raw, raw)

    def assemble(self, items: Sequence[tuple[Message, Any]]) -> list[Any]:
        """Left out: reasoning that nothing of the model's follows. An output takes the kind of the call it answers."""
        kept: list[Any] = []
        by_model = False
        kinds = {message.calls[0].id: _type(out) for message, out in items if message.calls}
        for message, out in reversed(items):
            if message.sealed and not by_model and _type(out) == "reasoning":
                continue
            by_model = message.role == "assistant" and (not message.sealed or _type(out) in BORN_BY_MODEL)
            kept.append(_fitting(out, kinds.get(message.call_id)) if message.role == "tool" else out)
        kept.reverse()
        return kept


def _message(data: Any, kind: str, raw: Any, out: Any, index: int) -> Message:
    if kind == "message":
        text = _content_text(data.get("content"), "content", index)
        return Message(_role(data, index), text, raw, out, host=index)
    if kind in OUTPUTS:
        return Message("assistant", "", raw, out, calls=(_call(data, kind, index),), host=index)
    if kind in CALLS:
        text = _output_text(data.get("output"), kind, index)
        return Message("tool", text, raw, out, call_id=_call_id(data, index), host=index)
    if data.get("execution") == "client" and kind in (SEARCH_CALL, SEARCH_OUTPUT):
        return _search(data, kind, raw, out, index)
    return Message("assistant", "", raw, out, sealed=True, host=index)


def _search(data: Any, kind: str, raw: Any, out: Any, index: int) -> Message:
    """A tool search that the host runs. Both halves are sealed: the output is how its tools come to be loaded."""
    call_id = _call_id(data, index)
    if kind == SEARCH_CALL:
        call = ToolCall(call_id, SEARCH, arguments_text(data.get("arguments") or {}))
        return Message("assistant", "", raw, out, calls=(call,), sealed=True, host=index)
    tools = [tool for tool in data.get("tools") or () if isinstance(tool, Mapping)]
    inner = [tool for space in tools for tool in space.get("tools") or () if isinstance(tool, Mapping)]
    names = [tool.get("name") for tool in (*tools, *inner) if tool.get("type") != "namespace"]
    return Message("tool", loaded(names), raw, out, call_id=call_id, sealed=True, host=index)


def _type(out: Any) -> Any:
    return out.get("type") if isinstance(out, Mapping) else getattr(out, "type", None)


def _fitting(out: Any, call_kind: Any) -> Any:
    """The output as the kind of its call wants it."""
    wanted = OUTPUTS.get(call_kind)
    if wanted is None or _type(out) == wanted:
        return out
    held = body(out)
    return {**held, "type": wanted, "output": _output(wanted, _shown(held.get("output")), None)}


def _kind(data: Any, index: int) -> str:
    if isinstance(data, Mapping):
        kind = data.get("type")
        if isinstance(kind, str) and kind:
            return kind
        if kind is None and "role" in data:
            return "message"
        if kind is None and isinstance(data.get("id"), str):
            return "item_reference"
    text = f"item {index} has neither a type nor a role ({data!r:.60}): send the item as the API gave it"
    raise InvalidMessage(text, code="bad_role", index=index)


def _role(data: Mapping[str, Any], index: int) -> Role:
    role = data.get("role")
    if not isinstance(role, str) or role not in ROLES:
        text = f"item {index} has role {role!r:.40}; use one of {', '.join(ROLES)}"
        raise InvalidMessage(text, code="bad_role", index=index)
    return ROLES[role]


def _mended(data: Any, kind: str) -> Any:
    """`data` itself, or a copy in the form the provider takes."""
    changes: dict[str, Any] = {}
    if kind == "message":
        changes = _mended_parts(data)
    elif kind == "reasoning" and not isinstance(data.get("summary"), list):
        changes["summary"] = []
    elif kind in WRITTEN:
        field, name = WRITTEN[kind], data.get("name")
        if not isinstance(data.get(field), str):
            given = data.get(field)
            changes[field] = arguments_text({} if given is None else given)
        if isinstance(name, str) and usable_name(name, MAX_NAME) != name:
            changes["name"] = usable_name(name, MAX_NAME)
    return {**data, **changes} if changes else data


def _mended_parts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Text parts under the name that their side of the conversation uses."""
    content = data.get("content")
    if not isinstance(content, list):
        return {}
    right = "output_text" if data.get("role") == "assistant" else "input_text"
    wrong = [isinstance(p, Mapping) and p.get("type") in TEXTS and p["type"] != right for p in content]
    if not any(wrong):
        return {}
    return {"content": [{**p, "type": right} if bad else p for p, bad in zip(content, wrong, strict=True)]}


def _content_text(content: Any, field: str, index: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        text = f"item {index}: {field} must be text or a list of parts, got {type(content).__name__}"
        raise InvalidMessage(text, code="bad_content_type", index=index)
    for part in content:
        if not isinstance(part, Mapping):
            text = f"item {index}: a part of {field} must be an object with a type, got {part!r:.40}"
            raise InvalidMessage(text, code="bad_part", index=index)
    return _shown(content)


def _output_text(output: Any, kind: str, index: int) -> str:
    if kind in ("function_call_output", "custom_tool_call_output"):
        return _content_text(output, "output", index)
    return "" if kind == "computer_call_output" else _shown(output)


def _shown(output: Any) -> str:
    """The text of an output: a string, parts, or what a shell printed."""
    if isinstance(output, str):
        return output
    parts = [part for part in output if isinstance(part, Mapping)] if isinstance(output, list | tuple) else []
    fields = ("text", "refusal", "stdout", "stderr")
    return "\n".join(
        part[field] for part in parts for field in fields if isinstance(part.get(field), str) and part[field]
    )


def _output(kind: str, text: str, old: Any) -> Any:
    """An output that says `text`, in the form its kind has. `old` gives the exit code of a shell's last command."""
    if kind == "computer_call_output":
        return {"type": "computer_screenshot", "image_url": PIXEL}
    if kind == "shell_call_output":
        last = old[-1] if isinstance(old, list) and old and isinstance(old[-1], Mapping) else {}
        return [{"stdout": text, "stderr": "", "outcome": last.get("outcome", {"type": "exit", "exit_code": 0})}]
    return text


def _call(data: Mapping[str, Any], kind: str, index: int) -> ToolCall:
    call_id = _call_id(data, index)
    if kind in WRITTEN:
        name = data.get("name")
        if not isinstance(name, str) or not name:
            text = f"item {index}: a {kind} needs a name, got {name!r:.40}"
            raise InvalidMessage(text, code="bad_tool_name", index=index)
        return ToolCall(call_id, name, data[WRITTEN[kind]])
    action = data.get(DONE[kind], data.get("actions"))
    return ToolCall(call_id, kind.removesuffix("_call"), json.dumps(action, ensure_ascii=False))


def _call_id(data: Mapping[str, Any], index: int) -> str:
    call_id = data.get("call_id")
    if call_id is None and str(data.get("type")).startswith("local_shell"):
        call_id = data.get("id")
    if not isinstance(call_id, str) or not call_id:
        text = f"item {index}: a call and its output need the same call_id, a non-empty string, got {call_id!r:.40}"
        raise InvalidMessage(text, code="bad_tool_call_id", index=index)
    return call_id


FORMAT = OpenAIResponses()
