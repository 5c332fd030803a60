"""An agent that learns which tool comes next: from runs that the host reports as good, in a graph that lives in its memory.

Runs offline in a second; no model is called. Needs `memctx-agents[embed]`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from memctx import Memory, Pipeline
from memctx.strategies.next_tool import NextTool, learn_run

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("find_user", "get_order", "cancel_order", "refund", "transfer_to_human")
]


def run(asked: str, *calls: tuple[str, str]) -> list[dict[str, Any]]:
    """A run in OpenAI chat form: what the user asked, and (tool, its result)."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": asked}]
    for number, (name, result) in enumerate(calls):
        call = {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    return messages


FOUND, PENDING, DELIVERED = (
    ("find_user", "user U-7"),
    ("get_order", "order is pending"),
    ("get_order", "order is delivered"),
)
HISTORY = [  # (messages, the outcome as the host reports it)
    (run("Please cancel order O-17", FOUND, PENDING, ("cancel_order", "cancelled")), 1.0),
    (run("Cancel my last order, I found a better price", FOUND, PENDING, ("cancel_order", "cancelled")), 1.0),
    (run("The lamp is broken, I want my money back", FOUND, DELIVERED, ("refund", "refunded")), 1.0),
    (run("My money back for the broken chair, please", FOUND, DELIVERED, ("refund", "refunded")), 1.0),
    (run("Cancel my order", ("transfer_to_human", "nobody is there")), 0.0),  # ended badly: nothing is learned from it
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "agent.db") as memory:
        shop = memory.at("shop")
        for messages, reward in HISTORY:
            changed = learn_run(shop, "support", messages, reward)
            print(f"{messages[0]['content'][:44]:46} outcome {reward:.0f}: {changed} edges changed")

        pipeline = Pipeline([NextTool(graph="support")])
        for thread, asked, order in (
            ("1", "Cancel the order of the red bag", PENDING),
            ("2", "The bag is broken: a refund!", DELIVERED),
        ):
            session = pipeline.session(thread, memory=shop)
            history = run(asked, FOUND, order)
            before = session.view(history[:3], TOOLS).messages
            after = session.view(history, TOOLS).messages
            assert after[: len(before)] == before, "what was shown stays as it was: the cached prefix is good"
            print(f"\n{asked}")
            print("\n".join(message["content"] for message in after if "<memctx-next-tool>" in str(message["content"])))

        receipt = shop.erase()
        print(f"\nThe shop leaves: {sum(receipt.removed.values())} rows removed, {len(receipt.left)} traces left")


if __name__ == "__main__":
    main()
