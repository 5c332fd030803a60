"""SWE-agent: `prompt` + `steps` (thought, action, observation), or a demonstration's `history`.

An action is one call of a tool `bash` with the action's text as `command`; its observation is the result.
"""

from __future__ import annotations

from typing import Any

from memctx._runs.model import At, Run, assistant, call, dicts, result, text_of

NAME = "sweagent"


def matches(record: dict[str, Any]) -> bool:
    return ("prompt" in record and "steps" in record) or "history" in record


def convert(record: dict[str, Any], at: At) -> Run:
    messages = _history(record, at) if "history" in record else _steps(record, at)
    return Run(at.run_id(record), messages)


def _steps(record: dict[str, Any], at: At) -> list[dict[str, Any]]:
    messages = [
        {"role": str(m.get("role", "user")), "content": text_of(m.get("content"))}
        for m in dicts(record.get("prompt"), at, "prompt")
    ]
    for number, step in enumerate(dicts(record.get("steps"), at, "steps")):
        call_id = f"call_{number}"
        command = call(call_id, "bash", {"command": text_of(step.get("action"))})
        messages.append(assistant(text_of(step.get("thought")), [command]))
        messages.append(result(call_id, step.get("observation")))
    return messages


def _history(record: dict[str, Any], at: At) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    pending = ""  # the id of an action told in text, whose observation comes as the next user message
    for number, raw in enumerate(dicts(record.get("history"), at, "history")):
        role, text = str(raw.get("role", "user")), text_of(raw.get("content"))
        calls = dicts(raw.get("tool_calls") or [], at, f"history[{number}].tool_calls")
        if role == "assistant" and not calls and raw.get("action"):
            pending = f"call_{number}"
            command = call(pending, "bash", {"command": text_of(raw["action"])})
            messages.append(assistant(text_of(raw.get("thought")), [command]))
        elif role == "user" and pending:
            messages.append(result(pending, text))
            pending = ""
        elif role == "tool":
            messages += [result(str(i), text) for i in raw.get("tool_call_ids") or [raw.get("tool_call_id", "")]]
        else:
            messages.append(assistant(text, calls) if role == "assistant" else {"role": role, "content": text})
    return messages
