"""LangChain dumps: `messages_to_dict` (`{type, data}`), `dumpd` (`{lc, id, kwargs}`), and model dumps."""

from __future__ import annotations

from typing import Any

from memctx._runs.model import At, Run, assistant, call, dicts, result

NAME = "langchain"
ROLES = {"system": "system", "human": "user", "ai": "assistant", "tool": "tool", "function": "tool", "chat": "user"}


def matches(record: dict[str, Any]) -> bool:
    messages = record.get("messages")
    return isinstance(messages, list) and bool(messages) and all(_kind(m) is not None for m in messages)


def convert(record: dict[str, Any], at: At) -> Run:
    raw = dicts(record.get("messages"), at, "messages")
    return Run(at.run_id(record), [_message(m, at, i) for i, m in enumerate(raw)], record.get("tools") or [])


def _kind(raw: Any) -> str | None:
    """human, ai, tool, system; None when this is no LangChain message."""
    if not isinstance(raw, dict) or "role" in raw:
        return None
    if "lc" in raw and isinstance(raw.get("id"), list) and raw["id"]:
        return str(raw["id"][-1]).removesuffix("Chunk").removesuffix("Message").lower()
    kind = str(raw.get("type", "")).removesuffix("MessageChunk").lower()
    return kind if kind in ROLES else None


def _message(raw: dict[str, Any], at: At, index: int) -> dict[str, Any]:
    kind = _kind(raw) or ""
    data = raw.get("kwargs") if "lc" in raw else raw.get("data", raw)
    if kind not in ROLES or not isinstance(data, dict):
        raise at.bad(f"type {kind!r} is not one of {', '.join(ROLES)}, or it has no data", index=index)
    content = data.get("content")
    if ROLES[kind] == "tool":
        return result(str(data.get("tool_call_id") or ""), _text(content))
    if ROLES[kind] != "assistant":
        return {"role": ROLES[kind], "content": content}
    return assistant(_text(content), _calls(data, at, index))


def _text(content: Any) -> str:
    if not isinstance(content, list):
        return str(content or "")
    parts = [p if isinstance(p, str) else str(p.get("text", "")) for p in content if isinstance(p, (str, dict))]
    return "\n".join(p for p in parts if p)


def _calls(data: dict[str, Any], at: At, index: int) -> list[dict[str, Any]]:
    calls = [
        call(str(c.get("id") or ""), str(c.get("name", "")), c.get("args"))
        for field in ("tool_calls", "invalid_tool_calls")
        for c in dicts(data.get(field) or [], at, f"messages[{index}].{field}")
    ]
    return calls or list((data.get("additional_kwargs") or {}).get("tool_calls") or [])
