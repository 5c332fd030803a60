"""Grounding recall: the definition, and the counts that were measured on the shared runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memctx.grounding import Need, grounded, kept, view_text
from memctx.runs import load

DATA = Path(__file__).parents[1] / ".." / "shared" / "data" / "trajectories"
COUNTS = {
    "livemcp_claude_sonnet4": 839,
    "sweagent_gpt4_swebench_lite": 6842,
    "tau1_airline_gpt4o": 944,
    "tau1_retail_grok3": 700,
    "tau2_airline": 1385,
    "tau2_retail": 470,
    "tau2_telecom": 805,
}
# Tool-token share in characters when only the last 3, 5, 10 results are kept.
SHARES = {
    "livemcp_claude_sonnet4": (0.32, 0.47, 0.69),
    "tau1_airline_gpt4o": (0.48, 0.67, 0.90),
    "tau2_airline": (0.49, 0.68, 0.89),
    "tau2_telecom": (0.16, 0.26, 0.46),
}
shared = pytest.mark.skipif(not DATA.is_dir(), reason="the shared trajectories are not here")


def asks(arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": text}}]}


def says(text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "x", "content": text}


def test_an_argument_is_grounded_in_the_latest_result_that_holds_it() -> None:
    messages = [says("order W1234567"), says("W1234567 again"), says("other"), asks({"id": "W1234567"})]
    assert grounded(messages) == [Need(3, "W1234567", 1)]


@pytest.mark.parametrize(
    ("messages", "texts"),
    [
        ([says("abcdef"), asks({"a": ["abcdef", {"b": "abcdef"}]})], ["abcdef", "abcdef"]),
        ([says("abcdef"), {"role": "user", "content": "abcdef"}, asks({"a": "abcdef"})], []),
        ([says("abcd"), asks({"a": "abcd"})], []),
        ([says("12345.5"), asks({"a": 12345.5, "b": True})], ["12345.5"]),
        ([says("true12"), asks({"a": True})], []),
        ([asks({"a": "abcdef"}), says("abcdef")], []),
        ([says("/a/b.py x"), asks({"command": "cat /a/b.py | wc"})], ["/a/b.py"]),
        ([says("/a/b.py x"), asks({"query": "cat /a/b.py | wc"})], []),
        ([says("/a/b.py x"), asks({"params": {"command": "cat /a/b.py"}})], []),
        ([says("broken {json"), asks("broken {json")], ["broken {json"]),
    ],
)
def test_what_counts(messages: list[dict[str, Any]], texts: list[str]) -> None:
    assert [need.text for need in grounded(messages)] == texts


def test_a_view_keeps_a_need_anywhere_in_its_text() -> None:
    need = Need(3, 'a "quoted" name', 1)
    assert kept(need, view_text([asks({"x": 'a "quoted" name'})]))
    assert kept(need, view_text([{"role": "assistant", "content": [{"type": "text", "text": 'is a "quoted" name'}]}]))
    assert not kept(need, view_text([says("gone")]))


@shared
@pytest.mark.parametrize("name", COUNTS)
def test_counts_on_shared_runs(name: str) -> None:
    assert sum(len(grounded(run.messages)) for run in load(DATA / f"{name}.jsonl.gz")) == COUNTS[name]


def _kept_share(messages: list[dict[str, Any]], last: int) -> tuple[int, int]:
    sizes: list[int] = []
    left = whole = 0
    for message in messages:
        if message["role"] == "tool":
            sizes.append(len(message["content"]))
        elif message.get("tool_calls"):
            left += sum(sizes[-last:])
            whole += sum(sizes)
    return left, whole


@shared
@pytest.mark.parametrize("name", SHARES)
def test_shares_on_shared_runs(name: str) -> None:
    runs = list(load(DATA / f"{name}.jsonl.gz"))
    for last, share in zip((3, 5, 10), SHARES[name], strict=True):
        left, whole = map(sum, zip(*(_kept_share(run.messages, last) for run in runs), strict=True))
        assert left / whole == pytest.approx(share, abs=0.0051)
