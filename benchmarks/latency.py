"""Time of one call: memctx against LangChain's context editing, on one agent history.

    python benchmarks/latency.py [--messages 1601] [--sizes 100,1000,10000] [--calls 45] [--json]

A history grows by one step (a call and its result) at a time, as an agent's does. memctx's session lives with it from
the first message; what is timed is `Session.view` and `Session.observe` of preset safe over the last `--calls` steps
before the history reaches the size; OpenAI dicts for all sizes, LangChain messages for the comparison. LangChain's
`ContextEditingMiddleware.wrap_model_call` is timed on equal messages at the same size: its own deep copy,
`ClearToolUsesEdit` and approximate counter. Medians, one process, one run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from memctx.pipeline import Pipeline

PAGE = 1_490  # characters in a result: 1,601 messages are then about 337k tokens by LangChain's approximate counter


@dataclass(frozen=True, slots=True)
class Timing:
    """Median milliseconds of one call at a history of `messages`; `worst` is the slowest of the calls timed."""

    who: str
    form: str
    messages: int
    median_ms: float
    worst_ms: float


def steps() -> Iterator[tuple[str, str, str]]:
    """(path, text, remark) of an agent that reads the installed Python standard library page by page, without end."""
    number = 0
    for path in cycle(sorted(Path(os.__file__).parent.glob("*.py"))):
        text = path.read_text(encoding="utf-8", errors="replace")
        for start in range(0, len(text) - PAGE, PAGE):
            number += 1
            yield (
                path.name,
                f"[{number}] {path.name} from {start}\n{text[start : start + PAGE]}",
                f"Reading {path.name}, page {start // PAGE}.",
            )


def openai_step(number: int, path: str, body: str, remark: str) -> list[Any]:
    """A step as OpenAI chat messages."""
    call = {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "read", "arguments": json.dumps({"path": path})},
    }
    return [
        {"role": "assistant", "content": remark, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{number}", "content": body},
    ]


def langchain_step(number: int, path: str, body: str, remark: str) -> list[Any]:
    """A step as LangChain messages, with what `langchain_openai` 1.7 leaves on a reply."""
    from langchain_core.messages import AIMessage, ToolMessage

    call = {"id": f"call_{number}", "name": "read", "args": {"path": path}}
    read = 400 * number
    usage: Any = {
        "input_tokens": read,
        "output_tokens": 24,
        "total_tokens": read + 24,
        "input_token_details": {"audio": 0, "cache_read": 0},
        "output_token_details": {"audio": 0, "reasoning": 0},
    }
    billed = {
        "completion_tokens": 24,
        "prompt_tokens": read,
        "total_tokens": read + 24,
        "completion_tokens_details": {"accepted_prediction_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0},
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
    }
    about = {
        "token_usage": billed,
        "model_provider": "openai",
        "model_name": "gpt-5-2025-08-07",
        "system_fingerprint": "fp_0123456789",
        "id": f"chatcmpl-{number}",
        "service_tier": "default",
        "finish_reason": "tool_calls",
        "logprobs": None,
    }
    remarks: Any = {"refusal": None}
    return [
        AIMessage(
            remark,
            tool_calls=[call],
            id=f"lc_run--{number}",
            usage_metadata=usage,
            response_metadata=about,
            additional_kwargs=remarks,
        ),
        ToolMessage(body, tool_call_id=f"call_{number}", id=f"tool-{number}", name="read"),
    ]


def opening(form: str) -> Any:
    """The user's message."""
    text = "Find where the cache is invalidated."
    if form == "openai-chat":
        return {"role": "user", "content": text}
    from langchain_core.messages import HumanMessage

    return HumanMessage(text, id="human")


def grown(form: str, size: int) -> Iterator[list[Any]]:
    """One list, handed out after each step that was added, until it has `size` messages or one more."""
    step = openai_step if form == "openai-chat" else langchain_step
    messages = [opening(form)]
    for number, content in enumerate(steps()):
        messages += step(number, *content)
        yield messages
        if len(messages) >= size:
            return


def ours(form: str, sizes: Sequence[int], calls: int) -> Iterator[Timing]:
    """memctx, preset safe, one session over the whole history; the garbage collector off while a call is timed."""
    session = Pipeline.safe().session()
    wanted = sorted(sizes)
    spent: list[float] = []
    for messages in grown(form, wanted[-1]):
        held = list(messages) if form == "langchain" else messages  # a graph's state is a new list of the same objects
        spent.append(timed(partial(call, session, held)))
        if len(messages) >= wanted[0]:
            yield _timing("memctx safe", form, wanted.pop(0), spent[-calls:])


def call(session: Any, messages: list[Any]) -> None:
    """What a loop does around its model call."""
    session.view(messages)
    session.observe(messages[-2], None)


def theirs(size: int, calls: int) -> Timing:
    """LangChain's middleware with its defaults, as `create_agent` would call it."""
    from langchain.agents.middleware import ContextEditingMiddleware, ModelRequest
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    messages = deque(grown("langchain", size), maxlen=1)[0]
    middleware: Any = ContextEditingMiddleware()
    model: Any = GenericFakeChatModel(messages=iter(()))
    request = ModelRequest(model=model, messages=messages)
    spent = [timed(lambda: middleware.wrap_model_call(request, lambda edited: edited)) for _ in range(calls)]
    return _timing("LangChain ContextEditing", "langchain", size, spent)


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` took."""
    gc.collect(0)
    start = perf_counter()
    work()
    return perf_counter() - start


def _timing(who: str, form: str, size: int, spent: Sequence[float]) -> Timing:
    return Timing(who, form, size, round(1e3 * median(spent), 4), round(1e3 * max(spent), 3))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--messages", type=int, default=1601, help="size of the history both are timed at")
    parser.add_argument("--sizes", default="100,1000,10000", help="sizes between which memctx must be flat")
    parser.add_argument("--calls", type=int, default=45, help="calls timed at each size")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(arguments)
    sizes = [int(size) for size in given.sizes.split(",")]
    deque(ours("openai-chat", [200], 1), maxlen=0)  # warms the process: vocabulary, code, clock
    found = [
        *ours("openai-chat", [*sizes, given.messages], given.calls),
        *ours("langchain", [given.messages], given.calls),
    ]
    peer = theirs(given.messages, max(5, given.calls // 5))
    report(found, peer, sizes, as_json=given.json)


def report(found: list[Timing], peer: Timing, sizes: Sequence[int], *, as_json: bool) -> None:
    """Print the timings, how many times faster memctx is, and how flat."""
    summary = {
        f"times faster at {t.messages} messages, {t.form}": round(peer.median_ms / t.median_ms, 1)
        for t in found
        if t.messages == peer.messages
    }
    flat = [t.median_ms for t in found if t.form == "openai-chat" and t.messages in sizes]
    summary[f"slowest over fastest of {', '.join(map(str, sizes))} messages"] = round(max(flat) / min(flat), 2)
    if as_json:
        sys.stdout.write(json.dumps({"timings": [asdict(t) for t in [*found, peer]], "summary": summary}) + "\n")
        return
    for t in [*found, peer]:
        sys.stdout.write(
            f"{t.who:26}{t.form:13}{t.messages:7} messages {t.median_ms:9.3f} ms, worst {t.worst_ms:8.2f}\n"
        )
    for name, value in summary.items():
        sys.stdout.write(f"{name}: {value}\n")


if __name__ == "__main__":
    main()
