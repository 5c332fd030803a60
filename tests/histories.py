"""Histories for property tests: real agent shapes, and what goes wrong with them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

WORDS = st.sampled_from(
    ["alpha", "order W2378156", "flight HAT170", "2024-05-17", "naïve 数据 🙂", "/usr/lib/x.py", "Error: no", "x" * 300]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
JSON_TEXTS = st.dictionaries(st.sampled_from(["id", "name", "items", "price"]), TEXTS | st.integers(), max_size=4).map(
    json.dumps
)
RESULTS = TEXTS | JSON_TEXTS | st.just("") | st.lists(TEXTS, min_size=5, max_size=40).map("\n".join)
ARGUMENTS = st.sampled_from(["{}", '{"q": "W2378156"}', "", "null", "[1]", '{"q":', '{"a": "\\ud800"}'])


@st.composite
def chat(draw: st.DrawFn, steps: int = 12) -> list[dict[str, Any]]:
    """An OpenAI chat history with parallel, late, missing, orphaned, doubled and interleaved results."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(TEXTS)})
    messages.append({"role": "user", "content": draw(TEXTS)})
    late: list[dict[str, Any]] = []
    reuse = draw(st.booleans())
    for step in range(draw(st.integers(0, steps))):
        count = draw(st.sampled_from([0, 1, 1, 1, 2, 4]))
        ids = [f"call_{'x' if reuse else step}_{i}" for i in range(count)]
        calls = [
            {"id": i, "type": "function", "function": {"name": "look_up", "arguments": draw(ARGUMENTS)}} for i in ids
        ]
        said: dict[str, Any] = {"role": "assistant", "content": draw(TEXTS) if not calls or step % 2 else None}
        messages.append({**said, "tool_calls": calls} if calls else said)
        results = [{"role": "tool", "tool_call_id": i, "content": draw(RESULTS)} for i in draw(st.permutations(ids))]
        for result in results:
            fate = draw(st.sampled_from(["ok"] * 8 + ["late", "lost", "twice", "orphan", "user first", "system first"]))
            if fate == "late":
                late.append(result)
                continue
            if fate in ("user first", "system first"):
                messages.append({"role": fate.split()[0], "content": draw(TEXTS)})
            if fate != "lost":
                messages += [result] * (2 if fate == "twice" else 1)
            if fate == "orphan":
                messages.append({**result, "tool_call_id": "nobody"})
        if draw(st.booleans()) and late:
            messages.append(late.pop())
        if draw(st.integers(0, 3)) == 0:
            messages.append({"role": "user", "content": draw(TEXTS)})
    return messages


def as_anthropic(messages: list[dict[str, Any]], thinking: bool) -> tuple[str, list[dict[str, Any]]]:
    """The same history as Anthropic messages and system text; damage is carried over."""
    system = ""
    out: list[dict[str, Any]] = []
    for message in messages:
        text = message.get("content") or ""
        if message["role"] == "system":
            system += text
        elif message["role"] == "tool":
            block = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": text}
            if out and out[-1]["role"] == "user" and isinstance(out[-1]["content"], list):
                out[-1]["content"].append(block)
            else:
                out.append({"role": "user", "content": [block]})
        elif message["role"] == "assistant":
            blocks: list[dict[str, Any]] = (
                [{"type": "thinking", "thinking": "hm", "signature": "sig"}] if thinking else []
            )
            blocks += [{"type": "text", "text": text}] if text else []
            for call in message.get("tool_calls", ()):
                blocks.append(
                    {
                        "type": "tool_use",
                        "id": call["id"],
                        "name": "look_up",
                        "input": {"raw": call["function"]["arguments"]},
                    }
                )
            out.append({"role": "assistant", "content": blocks})
        else:
            out.append({"role": "user", "content": text})
    return system, out


def as_responses(messages: list[dict[str, Any]], thinking: bool) -> list[dict[str, Any]]:
    """The same history as OpenAI Responses input items; damage is carried over."""
    items: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        text = message.get("content") or ""
        if message["role"] == "tool":
            items.append({"type": "function_call_output", "call_id": message["tool_call_id"], "output": text})
            continue
        if message["role"] == "assistant" and thinking:
            items.append({"type": "reasoning", "id": f"rs_{index}", "summary": []})
        if text:
            kind = "output_text" if message["role"] == "assistant" else "input_text"
            items.append({"type": "message", "role": message["role"], "content": [{"type": kind, "text": text}]})
        for call in message.get("tool_calls", ()):
            function = call["function"]
            items.append(
                {
                    "type": "function_call",
                    "call_id": call["id"],
                    "name": function["name"],
                    "arguments": function["arguments"],
                }
            )
    return items
