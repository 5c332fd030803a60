"""ComplexFuncBench: a question and the calls that answer it, arguments pointing into earlier responses (`$var1.a.b$`).

A pointer is replaced by the first value, breadth first, that its path leads to in that response, as a real call would
hold it. The record does not say which list item was meant, so the first is taken; a pointer to nothing stays as it is.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import Any

from memctx._runs.model import At, Run, assistant, call, dicts, result

NAME = "complexfuncbench"
POINTER = re.compile(r"\$(\w+)\.([^$]+)\$")


def matches(record: dict[str, Any]) -> bool:
    return isinstance(record.get("input"), str) and isinstance(record.get("output"), list)


def convert(record: dict[str, Any], at: At) -> Run:
    messages: list[dict[str, Any]] = [{"role": "user", "content": record["input"]}]
    answers: dict[str, Any] = {}
    for number, step in enumerate(dicts(record["output"], at, "output")):
        call_id = f"call_{number}"
        arguments = _resolve(step.get("arguments") or {}, answers)
        messages.append(assistant("", [call(call_id, str(step.get("name", "")), arguments)]))
        response = step.get("response")
        messages.append(result(call_id, json.dumps(response, ensure_ascii=False)))
        answers[str(step.get("label", ""))] = response
    return Run(at.run_id(record), messages)


def _resolve(value: Any, answers: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {k: _resolve(v, answers) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, answers) for v in value]
    found = POINTER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    target = _find(answers.get(found[1]), found[2].split("."))
    return value if target is None else target


def _find(tree: Any, path: list[str]) -> Any:
    queue = deque([tree])
    while queue:
        node = queue.popleft()
        target = _walk(node, path)
        if target is not None:
            return target
        queue.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
    return None


def _walk(node: Any, path: list[str]) -> Any:
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, (str, int, float)) else None
