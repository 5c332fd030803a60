"""An agent that learns from outcomes: the second run of a task does at once what the first one had to find out.

Runs offline in seconds: a scripted agent stands where a model would. It does what a note of an earlier run says, and else
guesses. Needs `memctx-agents[embed]`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from memctx.experience import Library
from memctx.memory import Memory
from memctx.pipeline import Pipeline
from memctx.strategies.experience import ExperienceNotes

GUESSES = ["order_status", "customer", "refund"]
ANSWERS = {
    "order_status": "error: this order is archived, ask the archive",
    "customer": "error: no customer of that name",
    "archive": "order 17: delivered on Monday",
    "refund": "error: not allowed",
}


def act(seen: list[dict[str, Any]], tried: list[str]) -> str:
    """The next tool: one that a note names, a hint in the newest result, or the next guess."""
    noted = [name for m in seen for name in re.findall(r"^> (\w+)\(", str(m["content"]), re.MULTILINE)]
    hinted = re.findall(r"ask the (\w+)", str(seen[-1]["content"])) if len(tried) > 1 else []
    wanted: list[str] = [*noted[::-1], *hinted, *GUESSES, "archive"]
    return next(name for name in wanted if name not in tried)


def run(library: Library, memory: Any, name: str, task: str) -> None:
    """One run of the agent's loop; at its end the host reports how it went."""
    pipeline = Pipeline(strategies=[ExperienceNotes()], budget=8_000)
    session = pipeline.session(name, memory=memory)
    history: list[dict[str, Any]] = [{"role": "user", "content": task}]
    tried: list[str] = []
    while not (solved := "delivered" in str(history[-1]["content"])) and len(tried) < 4:
        tool = act(session.view(history).messages, tried)
        tried.append(tool)
        call = {"id": f"call_{len(tried)}", "type": "function", "function": {"name": tool, "arguments": json.dumps({})}}
        history.append({"role": "assistant", "content": None, "tool_calls": [call]})
        history.append({"role": "tool", "tool_call_id": call["id"], "content": ANSWERS[tool]})
    session.view(history)
    done = library.finish(session, 1.0 if solved else -1.0, writer="support-agent")
    print(f"{name}: {' -> '.join(tried)}: {len(tried)} calls, {len(done.added)} learned")


def main() -> None:
    with Memory() as memory:
        scope = memory.at("acme")
        library = Library(scope)
        run(library, scope, "first", "Where is order 17?")
        run(library, scope, "second", "Where is order 17 now?")
        run(library, scope, "third", "Where is my order 17, please?")
        print("\nWhat the library would put into a prompt:")
        print(library.playbook(tokens=200))
        print("\nTaken back with the first run:", len(library.revoke("first")), "experiences")


if __name__ == "__main__":
    main()
