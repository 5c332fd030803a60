"""InterCode: a query and the turns of one shell or database, each an action with its observation."""

from __future__ import annotations

from typing import Any

from memctx._runs.model import At, Run, assistant, call, result, text_of

NAME = "intercode"


def matches(record: dict[str, Any]) -> bool:
    return "query" in record and isinstance(record.get("turn_history"), dict)


def convert(record: dict[str, Any], at: At) -> Run:
    turns = record["turn_history"]
    actions, observations = turns.get("actions"), turns.get("observations")
    if not isinstance(actions, list) or not isinstance(observations, list):
        raise at.bad("turn_history needs two lists: actions and observations")
    messages: list[dict[str, Any]] = [{"role": "user", "content": text_of(record["query"])}]
    tool = "sql" if "sql" in str(record.get("environment", "")) else "bash"
    for number, action in enumerate(actions):
        call_id = f"call_{number}"
        messages.append(assistant("", [call(call_id, tool, {"command": text_of(action)})]))
        if number < len(observations):
            messages.append(result(call_id, observations[number]))
    return Run(at.run_id(record), messages)
