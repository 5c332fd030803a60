"""LangChain messages and SDK objects into a provider's wire form, by their shape and without importing either.

What LangChain's own provider packages leave out of a request is left out here too, so the check sees what is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from memctx._rules._values import dict_of, list_of, text_of

ROLES = {
    "human": "user", "HumanMessageChunk": "user", "ai": "assistant", "AIMessageChunk": "assistant",
    "system": "system", "SystemMessageChunk": "system", "tool": "tool", "ToolMessageChunk": "tool",
    "function": "function", "FunctionMessageChunk": "function", "chat": "chat", "ChatMessageChunk": "chat",
}  # fmt: skip
NOT_SENT_TO_OPENAI = {
    "tool_use", "tool_call", "function_call", "thinking", "redacted_thinking", "reasoning", "reasoning_content",
    "code_interpreter_call", "non_standard", "input_json_delta",
}  # fmt: skip

Placed = list[tuple[Any, int]]  # a wire message and the index of the host message it came from


def wire_form(items: list[Any], provider: str) -> tuple[list[Any], list[int]]:
    """The list with LangChain messages converted, and for each new message the index of its source."""
    placed: Placed = []
    converted = False
    for index, item in enumerate(items):
        role = _langchain_role(item)
        if role is None:
            placed.append((item, index))
            continue
        converted = True
        try:
            placed.extend((wire, index) for wire in CONVERT[provider](role, item))
        except Exception:
            placed.append((item, index))
    if converted and provider in MERGE:
        placed = MERGE[provider](placed)
    return [wire for wire, _ in placed], [index for _, index in placed]


def _langchain_role(item: Any) -> str | None:
    if issubclass(type(item), (dict, str, list, tuple, int, float, type(None))):
        return None
    try:
        kind = text_of(item.type)
        role = ROLES.get(kind or "")
        if role is None or not hasattr(item, "content"):
            return None
        return text_of(getattr(item, "role", None)) if role == "chat" else role
    except Exception:
        return None


def _arguments(value: Any) -> Any:
    if issubclass(type(value), str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return value  # the rules report it


def _calls(item: Any) -> list[dict[str, Any]]:
    """Calls of an assistant message, malformed ones included: LangChain sends those as well."""
    return [*(getattr(item, "tool_calls", None) or []), *(getattr(item, "invalid_tool_calls", None) or [])]


def _chat(role: str, item: Any) -> list[dict[str, Any]]:
    """One OpenAI chat message."""
    content = item.content
    blocks = list_of(content)
    if blocks is not None:
        content = [part for part in map(_chat_part, blocks) if part is not None]
        if role == "assistant" and not content:
            content = ""
    message: dict[str, Any] = {"role": role, "content": content}
    if role == "tool":
        message["tool_call_id"] = item.tool_call_id
        return [message]
    extra = getattr(item, "additional_kwargs", None) or {}
    if role == "system":
        message["role"] = extra.get("__openai_role__", "system")
    if getattr(item, "name", None) is not None:
        message["name"] = item.name
    if role == "assistant":
        _chat_calls(message, item, extra)
    return [message]


def _chat_calls(message: dict[str, Any], item: Any, extra: dict[str, Any]) -> None:
    calls = [
        {
            "id": call.get("id"),
            "type": "function",
            "function": {"name": call.get("name"), "arguments": _arguments(call.get("args"))},
        }
        for call in _calls(item)
    ] or extra.get("tool_calls")
    if calls:
        message["tool_calls"] = calls
    elif extra.get("function_call"):
        message["function_call"] = extra["function_call"]
    if calls or extra.get("function_call"):
        message["content"] = message["content"] or None


def _chat_part(raw: Any) -> Any:
    text = text_of(raw)
    if text is not None:
        return {"type": "text", "text": text}
    part = dict_of(raw) or {}
    kind = text_of(part.get("type"))
    if kind in NOT_SENT_TO_OPENAI:
        return None
    if kind == "image":
        source = dict_of(part.get("source")) or part
        data = source.get("base64") or source.get("data")
        return {"type": "image_url", "image_url": {"url": source.get("url") or (data and "data:image;base64")}}
    if kind == "audio":
        mime = text_of(part.get("mime_type")) or "audio/wav"
        audio = {"data": part.get("base64") or part.get("data"), "format": "mp3" if "mp" in mime else "wav"}
        return {"type": "input_audio", "input_audio": audio}
    if kind == "file" and "file" not in part:
        data = part.get("base64") or part.get("data") or part.get("url")
        return {"type": "file", "file": {"file_id": part.get("file_id"), "file_data": data}}
    return raw


def _anthropic(role: str, item: Any) -> list[dict[str, Any]]:
    """One Anthropic message, its system role kept until `_merge_anthropic` hoists it."""
    if role == "tool":
        block = {"type": "tool_result", "tool_use_id": item.tool_call_id, "content": item.content}
        if getattr(item, "status", None) == "error":
            block["is_error"] = True
        return [{"role": "user", "content": [block]}]
    content = item.content
    blocks = list_of(content)
    if blocks is not None:
        content = [{"type": "text", "text": raw} if text_of(raw) is not None else raw for raw in blocks]
        content = [
            block for block in content if (dict_of(block) or {}).get("type") not in ("tool_call", "input_json_delta")
        ]
    calls = _calls(item) if role == "assistant" else []
    if not calls:
        return [{"role": role, "content": content}]
    text = text_of(content)
    content = ([{"type": "text", "text": text}] if text else []) if text is not None else content
    known = {block.get("id") for block in map(dict_of, content) if block and block.get("type") == "tool_use"}
    content.extend(_tool_use(call) for call in calls if call.get("id") not in known)
    return [{"role": role, "content": content}]


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    arguments = call.get("args")
    if issubclass(type(arguments), str):  # a malformed call: its text is sent as an empty input
        arguments = {}
    return {"type": "tool_use", "id": call.get("id"), "name": call.get("name"), "input": arguments}


def _merge_anthropic(placed: Placed) -> Placed:
    """Leading system messages become the system text; the results of one step become one user message."""
    out: Placed = []
    merged: dict[str, Any] | None = None
    for wire, index in placed:
        role = wire.get("role") if type(wire) is dict else None
        if role == "system" and not out and len(placed) > 1:
            continue
        if role != "user":
            merged = None
        elif merged is not None:
            merged["content"].extend(_as_blocks(wire["content"]))
            continue
        elif _has_results(wire):
            merged = {"role": "user", "content": list(_as_blocks(wire["content"]))}
        out.append((merged or wire, index))
    return out or placed


def _has_results(message: dict[str, Any]) -> bool:
    blocks = list_of(message.get("content")) or []
    return any(type(block) is dict and block.get("type") == "tool_result" for block in blocks)


def _as_blocks(content: Any) -> list[Any]:
    text = text_of(content)
    return [{"type": "text", "text": text}] if text is not None else list_of(content) or []


def _responses(role: str, item: Any) -> list[dict[str, Any]]:
    """The Responses items of one message: its text, then its calls."""
    (chat,) = _chat(role, item)
    content = chat["content"]
    if role == "tool":
        return [{"type": "function_call_output", "call_id": chat["tool_call_id"], "output": _input_parts(content)}]
    items: list[dict[str, Any]] = []
    if content is not None:
        parts = _input_parts(content)
        if role == "assistant" and type(parts) is list:
            parts = [{**part, "type": "output_text"} if part.get("type") == "input_text" else part for part in parts]
        items.append({"type": "message", "role": chat["role"], "content": parts})
    calls = chat.get("tool_calls") or []
    items.extend({"type": "function_call", "call_id": call["id"], **call["function"]} for call in calls)
    return items


def _input_parts(content: Any) -> Any:
    return [_input_part(part) for part in content] if type(content) is list else content


def _input_part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"type": "input_text", "text": part.get("text")}
    if kind == "image_url":
        return {"type": "input_image", "image_url": (dict_of(part.get("image_url")) or {}).get("url")}
    return {"type": "input_file", **(dict_of(part.get("file")) or {})} if kind == "file" else part


def _gemini(role: str, item: Any) -> list[dict[str, Any]]:
    """One Gemini content; system text is sent beside the contents."""
    (chat,) = _chat(role, item)
    if role == "system":
        return []
    if role == "tool":
        result = {
            "name": getattr(item, "name", None),
            "id": chat["tool_call_id"],
            "response": {"output": chat["content"]},
        }
        return [{"role": "user", "parts": [{"functionResponse": result}]}]
    content = chat["content"]
    blocks = content if type(content) is list else [{"type": "text", "text": content}] if content else []
    parts: list[Any] = [{"text": block["text"]} if "text" in block else {"inlineData": block} for block in blocks]
    for call in _calls(item) if role == "assistant" else []:
        arguments = {} if issubclass(type(call.get("args")), str) else call.get("args")
        parts.append({"functionCall": {"name": call.get("name"), "id": call.get("id"), "args": arguments}})
    return [{"role": "model" if role == "assistant" else role, "parts": parts}]


def _merge_gemini(placed: Placed) -> Placed:
    """Names for responses, which LangChain may leave out, and one turn for the responses of one step."""
    names: dict[Any, Any] = {}
    out: Placed = []
    for wire, index in placed:
        parts = wire.get("parts") if type(wire) is dict else None
        for part in parts if type(parts) is list else []:
            call, response = part.get("functionCall"), part.get("functionResponse")
            if call and type(call.get("id")) is str:
                names[call["id"]] = call["name"]
            if response and response["name"] is None and type(response["id"]) is str:
                response["name"] = names.get(response["id"])
        last = out[-1][0].get("parts") if out and type(out[-1][0]) is dict else None
        if parts and last and _responds(parts) and _responds(last):
            last.extend(parts)
        else:
            out.append((wire, index))
    return out


def _responds(parts: Any) -> bool:
    return type(parts) is list and bool(parts) and type(parts[0]) is dict and "functionResponse" in parts[0]


CONVERT: dict[str, Callable[[str, Any], list[dict[str, Any]]]] = {
    "openai-chat": _chat,
    "openai-responses": _responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
}
MERGE: dict[str, Callable[[Placed], Placed]] = {"anthropic": _merge_anthropic, "gemini": _merge_gemini}
