"""Gemini: contents made of parts; the responses of a call turn stand alone in the turn after it.

Calls without an id go by name: `search`, then `search~2` for the second of that name in the same content, and responses
are counted the same way. A part's keys may be camelCase (REST) or snake_case (Python) and stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from memctx._rules.gemini import SNAKE, TOOL_NAME
from memctx.errors import InvalidMessage
from memctx.formats import EMPTY, arguments_object, body, sound, wire
from memctx.formats._blocks import host_of, runs, split
from memctx.messages import Message, Role, ToolCall

ROLES: dict[str, Role] = {"user": "user", "model": "assistant", "function": "user"}
SEALED = {"thoughtSignature", "toolCall", "toolResponse", "executableCode", "codeExecutionResult"}
OUTPUT_KEYS = ("output", "result", "error")  # the keys under which a response carries plain text


class Gemini:
    """See `memctx.formats.Format`. A call's new id is known to us alone: on the wire it goes on by name."""

    provider = "gemini"
    groups_heads = True

    def parse(self, raw: Any, index: int) -> list[Message]:
        data, out = wire(raw, index)
        role = data.get("role") if isinstance(data, Mapping) else None
        if not isinstance(role, str) or role not in ROLES:
            text = f"content {index} has role {role!r:.40}; use one of {', '.join(ROLES)}"
            raise InvalidMessage(text, code="bad_role", index=index)
        parts = _parts_of(data, index)
        mended = [part for part in (_mended(part, role, index) for part in parts) if part is not None]
        if not mended and role != "model":
            mended = [{"text": EMPTY}]
        if any(_response(part) for part in mended):
            return sound(_split(raw, index, mended), self.provider, index)
        if len(mended) != len(parts) or any(a is not b for a, b in zip(mended, parts, strict=True)):
            out = {**data, "parts": mended}
        named = _ids([call for call in map(_call, mended) if call])
        calls = tuple(ToolCall(call_id, call["name"], _json(call.get("args") or {})) for call_id, call in named)
        text = _text(mended)
        wordless = role == "model" and bool(mended) and not text and not calls
        sealed = wordless or any(_keys(part) & SEALED or part.get("thought") for part in mended)
        messages = [Message(ROLES[role], text, raw, out, calls, sealed=sealed, host=index)]
        return sound(messages, self.provider, index) if mended else messages

    def acceptable(self, call_id: str) -> bool:
        return bool(call_id)

    def rename(self, message: Message) -> Any:
        """As it is, less an id by which a response would miss its call."""
        found = _response(message.out) if message.role == "tool" else None
        if found is None or "id" not in found[1]:
            return message.out
        return {**message.out, found[0]: {key: value for key, value in found[1].items() if key != "id"}}

    def with_text(self, message: Message, text: str) -> Any:
        """A model turn keeps its calls, and nothing else beside the new text."""
        if message.role == "tool":
            key, response = _response(message.out) or ("functionResponse", {})
            return {**message.out, key: {**response, "response": {"output": text}}}
        out = body(message.out)
        return {**out, "parts": [{"text": text}, *(part for part in out["parts"] if _call(part))]}

    def with_arguments(self, message: Message, arguments: Mapping[str, str]) -> Any:
        out = body(message.out)
        ids = iter([call.id for call in message.calls])
        return {
            **out,
            "parts": [_with_args(part, next(ids), arguments) if _call(part) else part for part in out["parts"]],
        }

    def result(self, call: ToolCall, text: str, like: Message) -> Message:
        calls = [part for part in body(like.out).get("parts") or () if _call(part)]
        made = next((part for part, each in zip(calls, like.calls, strict=False) if each.id == call.id), None)
        response: dict[str, Any] = {"name": call.name, "response": {"output": text}}
        if made and (own := _call(made).get("id")):
            response["id"] = own
        part = {"function_response" if made and "function_call" in made else "functionResponse": response}
        return Message("tool", text, part, part, call_id=call.id, tool=call.name)

    def note(self, text: str, like: Any) -> Message:
        raw = {"role": "user", "parts": [{"text": text}]}
        return Message("user", text, raw, raw)

    def assemble(self, items: Sequence[tuple[Message, Any]]) -> list[Any]:
        """Neighbouring responses in one content, text beside them in the next; call turns join a model turn before."""
        out: list[Any] = []
        for results, rest in runs(items):
            if results:
                out += _answers(results, rest)
                continue
            ((message, content),) = rest
            if message.role == "assistant" and not body(content).get("parts"):
                continue
            if message.role == "assistant" and out and _asks(content, out[-1]):
                before = body(out.pop())
                content = {**before, "parts": [*before["parts"], *body(content)["parts"]]}
            out.append(content)
        return out


def _asks(content: Any, before: Any) -> bool:
    """Whether two model turns must be one, since there is a call in them."""
    if body(before).get("role") != "model":
        return False
    return any(_call(part) for part in (*body(before)["parts"], *body(content)["parts"]))


def _answers(results: list[tuple[Message, Any]], rest: list[tuple[Message, Any]]) -> list[Any]:
    parts = [part for _, part in results]
    others = [part for _, content in rest for part in content["parts"]]
    if not any("text" in part for part in others):
        parts, others = parts + others, []
    host = host_of([*results, *(() if others else rest)], parts, lambda raw: body(raw).get("parts"))
    role = next((body(m.raw).get("role") for m, _ in results if body(m.raw).get("role") in ROLES), "user")
    return [
        host if host is not None else {"role": role, "parts": parts},
        *([{"role": "user", "parts": others}] if others else []),
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _keys(part: Mapping[str, Any]) -> set[str]:
    return {SNAKE.get(key, key) for key, value in part.items() if value is not None}


def _under(part: Any, name: str) -> tuple[str, Any] | None:
    """The key, as the host spells it, and the object under it."""
    for key in part:
        if SNAKE.get(key, key) == name and isinstance(part[key], Mapping):
            return key, part[key]
    return None


def _call(part: Any) -> Any:
    found = _under(part, "functionCall")
    return found[1] if found else None


def _response(part: Any) -> tuple[str, Any] | None:
    return _under(part, "functionResponse")


def _ids(named: Sequence[Any]) -> list[tuple[str, Any]]:
    """(id, call or response): its own id, or its name with a number from the second of that name on."""
    seen: dict[str, int] = {}
    out: list[tuple[str, Any]] = []
    for each in named:
        name = each["name"]
        seen[name] = seen.get(name, 0) + 1
        by_name = name if seen[name] == 1 else f"{name}~{seen[name]}"
        out.append((each.get("id") or by_name, each))
    return out


def _parts_of(data: Mapping[str, Any], index: int) -> list[Any]:
    parts = data.get("parts")
    if not isinstance(parts, list | tuple):
        text = f"content {index}: parts must be a list, got {type(parts).__name__}"
        raise InvalidMessage(text, code="bad_content_type", index=index)
    if not parts and data.get("role") != "model":
        text = f"content {index}: parts is an empty list; give it a part, or leave the content out"
        raise InvalidMessage(text, code="empty_content_list", index=index)
    return list(parts)


def _mended(part: Any, role: str, index: int) -> Any:
    """The part, a copy the provider takes, or None where nothing of it may be sent."""
    if not isinstance(part, Mapping):
        raise InvalidMessage(
            f"content {index}: a part must be an object, got {part!r:.40}", code="bad_part", index=index
        )
    if part.get("text") == "" and "thoughtSignature" not in _keys(part):
        return None
    for name, field, wrong in (
        ("functionCall", "args", role != "model"),
        ("functionResponse", "response", role == "model"),
    ):
        found = _under(part, name)
        if found is None:
            continue
        if wrong:
            text = f"content {index}: a {name} may not stand in a turn of role {role!r}"
            raise InvalidMessage(text, code="bad_part", index=index)
        mended = _mended_call(found[1], field, index)
        return part if mended is found[1] else {**part, found[0]: mended}
    return part


def _mended_call(value: Mapping[str, Any], field: str, index: int) -> Any:
    name, given = value.get("name"), value.get(field)
    if not isinstance(name, str) or not name:
        text = f"content {index}: a function call and its response need a name, got {name!r:.40}"
        raise InvalidMessage(text, code="bad_tool_name", index=index)
    changes: dict[str, Any] = {}
    if not TOOL_NAME.fullmatch(name):
        changes["name"] = re.sub(r"^(?![a-zA-Z_])", "_", re.sub(r"[^a-zA-Z0-9_.:-]", "_", name))[:128]
    if field == "args" and given is not None and not isinstance(given, Mapping):
        changes["args"] = arguments_object(given if isinstance(given, str) else _json(given))
    if field == "response" and not isinstance(given, Mapping):
        changes["response"] = {"output": given}
    if "id" in value and value["id"] is not None and not (isinstance(value["id"], str) and value["id"]):
        text = f"content {index}: an id must be a non-empty string, got {value['id']!r:.40}"
        raise InvalidMessage(text, code="bad_tool_call_id", index=index)
    return {**value, **changes} if changes else value


def _text(parts: Sequence[Any]) -> str:
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str) and not part.get("thought")]
    return "\n".join(filter(None, texts))


def _split(raw: Any, index: int, parts: list[Any]) -> list[Message]:
    answers = [(part, found[1]) for part in parts if (found := _response(part))]
    named = _ids([response for _, response in answers])
    results = [
        Message("tool", _said(response), part, part, call_id=call_id, tool=response["name"])
        for (part, response), (call_id, _) in zip(answers, named, strict=True)
    ]
    others = [part for part in parts if not _response(part)]
    rest = Message("user", _text(others), raw, {"role": "user", "parts": others}) if others else None
    return split(raw, index, results, rest)


def _said(response: Mapping[str, Any]) -> str:
    """What a response says: its one text, or all of it as JSON."""
    value = response["response"]
    if len(value) == 1 and isinstance(text := next((value[key] for key in OUTPUT_KEYS if key in value), None), str):
        return text
    return _json(value)


def _with_args(part: Any, call_id: str, arguments: Mapping[str, str]) -> Any:
    found = _under(part, "functionCall")
    if found is None or call_id not in arguments:
        return part
    return {**part, found[0]: {**found[1], "args": arguments_object(arguments[call_id])}}


FORMAT = Gemini()
