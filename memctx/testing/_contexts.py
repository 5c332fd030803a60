"""Contexts for tests of strategies, built without a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from memctx.edits import Clear, Drop, Replace
from memctx.formats.openai_chat import OpenAIChat
from memctx.messages import Message, Transcript
from memctx.offer import name_of, names_of
from memctx.plan import Plan
from memctx.strategies import Context
from memctx.tokens import counter

TOOLS = tuple(
    {
        "type": "function",
        "function": {"name": name, "description": f"{name} of a part", "parameters": {"type": "object"}},
    }
    for name in (
        "lookup",
        *(f"{verb}_{thing}" for verb in ("read", "list", "move") for thing in ("price", "shelf", "hall")),
    )
)


def make_context(
    messages: Sequence[Any],
    plan: Plan | None = None,
    *,
    limit: int = 8_000,
    transcript: Transcript | None = None,
    memo: dict[str, Any] | None = None,
    pinned: Callable[[Message], bool] = lambda _: False,
    catalogue: Sequence[Any] = TOOLS,
) -> Context:
    """A context over OpenAI chat messages with `plan` in force. Hand in `transcript` and `memo` again to go on."""
    plan, tokens = plan or Plan(), counter()
    history = transcript or Transcript(OpenAIChat(), lambda message: tokens.message(message.out))
    history.sync(list(messages))
    clears = {edit.target: edit for edit in plan.edits if isinstance(edit, Clear) and not edit.call}
    offer = plan.offer(history.position)
    guarded, hidden = _guarded(history, pinned), _hidden(history, plan)

    def size(message: Message) -> int:
        if history.position[message.id] in hidden:
            return 0
        clear = clears.get(message.id)
        return (
            message.tokens if clear is None else message.tokens - tokens.text(message.text) + tokens.text(clear.content)
        )

    return Context(
        transcript=history,
        plan=plan,
        limit=limit,
        tokens=sum(size(message) for message in history.messages),
        tools=offer.tools if offer else names_of(catalogue),
        protected=lambda message: message.id in guarded,
        shown=lambda step: step not in hidden,
        cleared=clears.get,
        count=tokens.text,
        memo={} if memo is None else memo,
        serial=plan.serial,
        catalogue=tuple(catalogue),
        offer=offer,
        weigh=lambda name: tokens.tools([tool for tool in catalogue if name_of(tool) == name]),
    )


def _guarded(history: Transcript, pinned: Callable[[Message], bool]) -> set[str]:
    """System text, the first and the newest user message, the newest step, and what is pinned."""
    users = [message for message in history.messages if message.role == "user"]
    kept = [*users[:1], *users[-1:], *(m for m in history.messages if m.role == "system" or pinned(m))]
    newest = history.steps[-1].messages if history.steps else ()
    return {message.id for message in (*kept, *newest)}


def _hidden(history: Transcript, plan: Plan) -> set[int]:
    hidden: set[int] = set()
    for edit in plan.edits:
        if isinstance(edit, Drop | Replace) and edit.first in history.position and edit.last in history.position:
            hidden |= set(range(history.position[edit.first], history.position[edit.last] + 1))
    return hidden
