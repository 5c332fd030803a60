"""tau2-bench simulations: flat tool calls `{id, name, arguments, requestor}` and tool messages keyed by `id`.

The simulated user calls tools too. Those calls are kept as assistant messages named "user", so that their results stay
bound to them and every call of the record counts as a call.
"""

from __future__ import annotations

from typing import Any

from memctx._runs.model import At, Run, call, dicts, result, seconds

NAME = "tau2"


def matches(record: dict[str, Any]) -> bool:
    messages = record.get("messages")
    if not isinstance(messages, list):
        return False
    return any((isinstance(m, dict) and "requestor" in m) or _flat(m) for m in messages)


def _flat(message: Any) -> bool:
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    first = calls[0] if isinstance(calls, list) and calls else None
    return isinstance(first, dict) and "requestor" in first


def convert(record: dict[str, Any], at: At) -> Run:
    raw = dicts(record.get("messages"), at, "messages")
    messages = [_message(m, at, i) for i, m in enumerate(raw)]
    return Run(at.run_id(record), messages, [], seconds([m.get("timestamp") for m in raw]))


def _message(raw: dict[str, Any], at: At, index: int) -> dict[str, Any]:
    role, text = raw.get("role"), raw.get("content")
    if role == "tool":
        return result(str(raw.get("id", "")), text)
    if role not in ("system", "user", "assistant"):
        raise at.bad(f"role {role!r} is not one of system, user, assistant, tool", index=index)
    calls = [_call(c, at, index) for c in dicts(raw.get("tool_calls") or [], at, f"messages[{index}].tool_calls")]
    if not calls:
        return {"role": role, "content": text or ""}
    message: dict[str, Any] = {"role": "assistant", "content": text, "tool_calls": calls}
    return message if role == "assistant" else {**message, "name": "user"}


def _call(raw: dict[str, Any], at: At, index: int) -> dict[str, Any]:
    if not isinstance(raw.get("name"), str):
        raise at.bad("a tool call needs a name", index=index)
    return call(str(raw.get("id", "")), raw["name"], raw.get("arguments"))
