"""One agent, run under one way of managing its context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ClearToolUsesEdit, ContextEditingMiddleware
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from memctx._demo.meter import Meter, Overflow
from memctx._demo.model import UNKNOWN, Actor, ScriptedModel
from memctx._demo.script import Turn
from memctx._demo.tools import Library
from memctx.adapters.langchain import ContextMiddleware
from memctx.pipeline import Pipeline
from memctx.pricing import PRICES, Ledger
from memctx.tokens import counter

WINDOW = 32_000
PRICE = "openai-write"  # a token written to the cache costs 1.25, one read from it 0.1
SYSTEM = "You read the source of the Python standard library with your tools, and answer from what you have read."


@dataclass(frozen=True, slots=True)
class Way:
    """A way of managing the context: what goes into the agent, and the window it has. No window: it never ends."""

    name: str
    middleware: Callable[[], Sequence[AgentMiddleware[Any, Any, Any]]]
    window: int | None = WINDOW


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. Tokens; money in units of one uncached input token."""

    name: str
    answered: int
    wrong: int
    questions: int
    sizes: tuple[int, ...]
    refused: int  # tokens of the request that was too long, 0 if none was
    money: float
    cache_share: float
    invalid: int
    reopened: int


def ways() -> list[Way]:
    """Nothing, LangChain's own editing, memctx; and nothing in a window without end, for what that would cost."""
    return [
        Way("no management", list),
        Way("LangChain ContextEditingMiddleware", lambda: [_langchain()]),
        Way("memctx", lambda: [ContextMiddleware(Pipeline.safe(budget=WINDOW, price=PRICE), reopen=True)]),
        Way("no management, endless window", list, None),
    ]


def _langchain() -> AgentMiddleware[Any, Any, Any]:
    """LangChain's edit with an exact count in place of characters / 4, at the highest trigger that cannot overflow."""
    tokens = counter("o200k_base")
    known: dict[str, int] = {}

    def count(messages: Sequence[Any]) -> int:
        total = 0
        for message in messages:
            key = repr((message.type, message.content, getattr(message, "tool_calls", "")))
            if key not in known:
                known[key] = tokens.message(message)
            total += known[key]
        return total

    outside = 1_000  # the system text and the tools, which its count leaves out
    return ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=WINDOW - outside)], token_counter=count)


def run(way: Way, library: Library, turns: Sequence[Turn], watch: Callable[[int], None]) -> Outcome:
    """Play all turns, or those before the first request that is too long."""
    tokens = counter("o200k_base")
    meter = Meter(Ledger(PRICES[PRICE]), tokens, way.window)
    model = ScriptedModel(actor=Actor(turns), meter=meter)
    agent = create_agent(
        model, library.functions(), system_prompt=SYSTEM, middleware=way.middleware(), checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": "demo"}, "recursion_limit": 1_000}
    answers: list[tuple[str, str]] = []
    state: dict[str, Any] = {"messages": []}
    for number, turn in enumerate(turns, 1):
        try:
            state = agent.invoke({"messages": [{"role": "user", "content": turn.text}]}, config, durability="exit")
        except Overflow:
            break
        if turn.question:
            answers.append((state["messages"][-1].text, turn.question.answer))
        watch(number)
    calls = [call for message in state["messages"] if isinstance(message, AIMessage) for call in message.tool_calls]
    return Outcome(
        name=way.name,
        answered=sum(given == right for given, right in answers),
        wrong=sum(given not in (right, UNKNOWN) for given, right in answers),
        questions=sum(turn.question is not None for turn in turns),
        sizes=tuple(meter.sizes),
        refused=meter.refused,
        money=meter.ledger.money,
        cache_share=meter.ledger.cached / meter.ledger.tokens if meter.ledger.tokens else 0.0,
        invalid=meter.invalid,
        reopened=sum(call["name"] == "reopen" for call in calls),
    )
