"""InternalState: constant memory, and nothing lost that was not written down."""

from __future__ import annotations

from typing import Any

import pytest

from memctx.edits import Drop
from memctx.effects import Handlers, drive
from memctx.errors import ConfigError
from memctx.formats.openai_chat import FORMAT
from memctx.messages import Message, Transcript
from memctx.plan import Plan
from memctx.strategies import Context
from memctx.strategies.internal_state import InternalState

PROMPT = [
    {"role": "system", "content": "Keep all you know in <state></state>."},
    {"role": "user", "content": "Find all."},
]


def size(text: str) -> int:
    return len(text) // 4 + 1


def turn(n: int, text: str) -> list[dict[str, Any]]:
    call = {"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": f'{{"n": {n}}}'}}
    return [
        {"role": "assistant", "content": text, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{n}", "content": f"page {n} " * 50},
    ]


class Thread:
    """A thread whose context is built by hand: system, first user message and newest step are protected."""

    def __init__(self) -> None:
        self.transcript = Transcript(FORMAT, lambda m: size(m.text))
        self.plan = Plan()
        self.memo: dict[str, Any] = {}

    def ask(self, strategy: InternalState, messages: list[dict[str, Any]]) -> list[Any]:
        self.transcript.sync(messages)
        steps = self.transcript.steps
        users = [step.messages[0].id for step in steps if step.role == "user"]
        safe = {m.id for m in steps[-1].messages} | {users[0], users[-1]}

        def protected(message: Message) -> bool:
            return message.role == "system" or message.id in safe

        hidden = {i for e in self.plan.edits if isinstance(e, Drop) for i in self.between(e)}
        tokens = sum(step.tokens for i, step in enumerate(steps) if i not in hidden)
        ctx = Context(
            self.transcript, self.plan, 1_000, tokens, (), protected, lambda i: i not in hidden, lambda _: None, size,
            self.memo, self.plan.serial,
        )  # fmt: skip
        edits: list[Any] = drive(strategy.propose(ctx), Handlers({}))
        self.plan = self.plan.accept(edits, ctx.serial) if edits else self.plan
        return edits

    def between(self, edit: Drop) -> range:
        position = self.transcript.position
        return range(position[edit.first], position[edit.last] + 1)

    def visible(self) -> list[int]:
        hidden = {i for e in self.plan.edits if isinstance(e, Drop) for i in self.between(e)}
        return [i for i in range(len(self.transcript.steps)) if i not in hidden]


def test_memory_is_constant_over_a_hundred_turns() -> None:
    thread, strategy = Thread(), InternalState()
    messages: list[dict[str, Any]] = list(PROMPT)
    handles = set()
    for n in range(100):
        messages += turn(n, f"<state>seen {n} pages</state>")
        thread.ask(strategy, list(messages))
        assert thread.visible() == [0, 1, len(thread.transcript.steps) - 1]
        assert len(thread.plan.edits) <= 1
        handles |= {edit.handle for edit in thread.plan.edits if isinstance(edit, Drop)}
    assert len(handles) == 1
    assert thread.between(thread.plan.edits[0]) == range(2, 101)  # type: ignore[arg-type]


def test_without_a_state_nothing_leaves() -> None:
    thread, messages = Thread(), list(PROMPT)
    for n, text in enumerate(["looking", "<state></state>", "<state>  ", "<memo>x</memo>", "state"]):
        messages += turn(n, text)
        assert thread.ask(InternalState(), list(messages)) == []


def test_the_last_state_stays_when_newer_turns_wrote_none() -> None:
    thread, messages = Thread(), list(PROMPT)
    for n, text in enumerate(["<state>1</state>", "<state>2</state>", "no state here", "nor here"]):
        messages += turn(n, text)
        thread.ask(InternalState(), list(messages))
    assert thread.visible() == [0, 1, 3, 4, 5]


def test_an_empty_tag_takes_every_text_and_no_silent_call() -> None:
    thread, messages = Thread(), list(PROMPT)
    for n, text in enumerate(["a", "b", ""]):
        messages += turn(n, text)
        thread.ask(InternalState(tag=""), list(messages))
    assert thread.visible() == [0, 1, 3, 4]


def test_the_same_view_twice_proposes_once() -> None:
    thread = Thread()
    messages = [*PROMPT, *turn(0, "<state>0</state>"), *turn(1, "<state>1</state>")]
    assert len(thread.ask(InternalState(), list(messages))) == 1
    assert thread.ask(InternalState(), list(messages)) == []


def test_it_survives_nothing_and_a_bad_tag_is_named() -> None:
    thread = Thread()
    assert thread.ask(InternalState(), [{"role": "user", "content": "hi"}]) == []
    with pytest.raises(ConfigError, match="tag"):
        InternalState(tag="<state>")
