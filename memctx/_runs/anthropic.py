"""Anthropic Messages: content blocks (`tool_use`, `tool_result`, `text`, `image`), with an optional top-level `system`.

Thinking blocks have no place in chat form and are left out; they are never shown again to another provider.
"""

from __future__ import annotations

from typing import Any

from memctx._runs.model import At, Run, assistant, call, dicts, result, seconds, text_of

NAME = "anthropic"
BLOCKS = {"tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use"}


def matches(record: dict[str, Any]) -> bool:
    messages = record.get("messages")
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and m.get("role") in ("user", "assistant") for m in messages
    ):
        return False
    return "system" in record or any(b.get("type") in BLOCKS for m in messages for b in _blocks(m.get("content")))


def convert(record: dict[str, Any], at: At) -> Run:
    raw = dicts(record.get("messages"), at, "messages")
    messages: list[dict[str, Any]] = []
    stamps: list[Any] = []
    if record.get("system"):
        messages.append({"role": "system", "content": _text(_blocks(record["system"]))})
        stamps.append(raw[0].get("timestamp") if raw else None)
    for index, message in enumerate(raw):
        parts = _message(message, at, index)
        messages += parts
        stamps += [message.get("timestamp")] * len(parts)
    return Run(at.run_id(record), messages, [_tool(t) for t in record.get("tools") or []], seconds(stamps))


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def _text(blocks: list[dict[str, Any]]) -> str:
    return "\n".join(str(b.get("text", "")) for b in blocks if b.get("type") == "text")


def _message(raw: dict[str, Any], at: At, index: int) -> list[dict[str, Any]]:
    role, blocks = raw.get("role"), _blocks(raw.get("content"))
    if role == "assistant":
        calls = [call(str(b.get("id", "")), str(b.get("name", "")), b.get("input")) for b in blocks if _is_call(b)]
        return [assistant(_text(blocks), calls)]
    if role != "user":
        raise at.bad(f"role {role!r} is not user or assistant", index=index)
    results = [result(str(b.get("tool_use_id", "")), _content(b)) for b in blocks if b.get("type") == "tool_result"]
    rest = [_part(b) for b in blocks if b.get("type") != "tool_result"]
    plain = all(p.get("type") == "text" for p in rest)
    content = "\n".join(str(p.get("text", "")) for p in rest) if plain else rest
    return results + ([{"role": "user", "content": content}] if rest or not results else [])


def _is_call(block: dict[str, Any]) -> bool:
    return block.get("type") == "tool_use"


def _content(block: dict[str, Any]) -> str:
    content = block.get("content")
    return _text(_blocks(content)) if isinstance(content, (str, list)) else text_of(content)


def _part(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source")
    if block.get("type") != "image" or not isinstance(source, dict):
        return block
    url = source.get("url") or f"data:{source.get('media_type', 'image/png')};base64,{source.get('data', '')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _tool(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict) or "input_schema" not in raw:
        return raw if isinstance(raw, dict) else {}
    function = {"name": raw.get("name"), "description": raw.get("description", ""), "parameters": raw["input_schema"]}
    return {"type": "function", "function": function}
