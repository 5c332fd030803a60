"""OpenAI chat messages, as they are: `{"messages": [...]}`; tau1, livemcp, mint and webdancer runs have this form.

Calls that a run writes as tags in its text stay text.
"""

from __future__ import annotations

from typing import Any

from memctx._runs.model import At, Run, dicts, seconds

NAME = "openai"
ROLES = {"system", "developer", "user", "assistant", "tool", "function"}


def matches(record: dict[str, Any]) -> bool:
    messages = record.get("messages")
    return isinstance(messages, list) and all(isinstance(m, dict) and m.get("role") in ROLES for m in messages)


def convert(record: dict[str, Any], at: At) -> Run:
    messages = dicts(record.get("messages"), at, "messages")
    for index, message in enumerate(messages):
        _check(message, at, index)
    tools = record.get("tools") or _functions(record.get("functions"))
    times = seconds([m.get("timestamp") for m in messages])
    return Run(at.run_id(record), [_clean(m) for m in messages], dicts(tools, at, "tools"), times)


def _check(message: dict[str, Any], at: At, index: int) -> None:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise at.bad(f"role {role!r} is not one of {', '.join(sorted(ROLES))}", index=index)
    if content is not None and not isinstance(content, (str, list)):
        raise at.bad(f"content must be text, a list of parts or null, got {type(content).__name__}", index=index)
    for tool_call in dicts(message.get("tool_calls") or [], at, f"messages[{index}].tool_calls"):
        function = tool_call.get("function", tool_call.get("custom"))
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise at.bad("a tool call needs function.name and function.arguments", index=index)


def _clean(message: dict[str, Any]) -> dict[str, Any]:
    """Without what the request could not carry: recording stamps and null fields (content may be null)."""
    return {k: v for k, v in message.items() if k != "timestamp" and (v is not None or k == "content")}


def _functions(functions: Any) -> list[dict[str, Any]]:
    """Older dumps list bare functions; webdancer names them `name_for_model`."""
    if not isinstance(functions, list):
        return []
    return [{"type": "function", "function": _function(f)} for f in functions if isinstance(f, dict)]


def _function(raw: dict[str, Any]) -> dict[str, Any]:
    name = raw.get("name", raw.get("name_for_model", ""))
    description = raw.get("description", raw.get("description_for_model", ""))
    return {"name": name, "description": description, "parameters": raw.get("parameters") or {"type": "object"}}
