"""The tool results of a thread that are still in sight, followed from call to call at the cost of what is new."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from memctx._skim import data
from memctx.messages import Message, Step
from memctx.plan import Plan
from memctx.strategies import Context
from memctx.strategies._pending import later_than


@dataclass(frozen=True, slots=True)
class Found:
    """A result that may be edited. `rank` counts all results of the thread from 0, `step` is the index of its step."""

    rank: int
    step: int
    message: Message


@dataclass(slots=True)
class Results:
    """Results not yet shortened. One per strategy and thread, kept in `Context.memo`."""

    seen: int = 0
    total: int = 0
    sizes: dict[str, int] = field(default_factory=dict)  # tokens of results that were asked for
    live: dict[tuple[str, str], tuple[int, Message]] = field(default_factory=dict)
    plan: Plan | None = None

    @classmethod
    def of(cls, ctx: Context, over: int = 0) -> Results:
        """The results of this thread that have more than `over` tokens, brought up to date."""
        memo: Results = ctx.memo.setdefault("results", cls())
        if later_than(memo.plan, ctx.plan):  # an older plan: its results are live again
            memo = ctx.memo["results"] = cls()
        memo._read(ctx, over)
        return memo

    def _read(self, ctx: Context, over: int) -> None:
        messages, fresh = ctx.transcript.messages, self.seen
        for message in messages[fresh:]:
            if message.role == "tool" and message.tokens > over:
                key = (message.call_id, str(ctx.transcript.position[message.id]))
                self.total += key not in self.live  # a second result of one call takes the place of the first
                rank = self.live.pop(key, (self.total - 1, message))[0]
                self.live[key] = (rank, message)
        self.seen = len(messages)
        if ctx.plan is not self.plan:
            self.live = {key: item for key, item in self.live.items() if ctx.cleared(item[1].id) is None}
            self.plan = ctx.plan

    def size(self, ctx: Context, message: Message) -> int:
        """Tokens of a result's text, counted once."""
        if message.id not in self.sizes:
            self.sizes[message.id] = ctx.count(message.text)
        return self.sizes[message.id]

    def editable(self, ctx: Context, exclude: Collection[str] = ()) -> Iterator[Found]:
        """Results in sight that no edit shortened and nothing protects, oldest first."""
        for rank, message in self.live.values():
            index = ctx.transcript.position[message.id]
            if message.sealed or message.tool in exclude or not ctx.transcript.steps[index].heads:
                continue
            if ctx.shown(index) and ctx.cleared(message.id) is None and not ctx.protected(message):
                yield Found(rank, index, message)


def newest_results(ctx: Context) -> int:
    """The index of the newest step with results, -1 where there is none."""
    return next((index for index, _ in ctx.results()), -1)


def smaller(ctx: Context, content: str, message: Message) -> bool:
    """Whether `content` has fewer tokens than the text of a message. Counts the long text only where it is close."""
    short = ctx.count(content)
    if len(message.text) > 8 * len(content) + 200 and message.tokens > 4 * short:
        return True
    return short < ctx.count(message.text)


def argument_texts(arguments: str) -> Iterator[str]:
    """The strings and numbers in JSON arguments, unescaped; text that is no JSON as it is."""
    try:
        value: Any = json.loads(arguments)
    except (ValueError, RecursionError):
        yield arguments
        return
    yield from (text for _, text in data.leaves(value if isinstance(value, dict | list) else [value]))


def said(message: Message) -> Iterator[str]:
    """All text of a message, call arguments unescaped."""
    yield message.text
    for call in message.calls:
        yield from argument_texts(call.arguments)


def head_of(step: Step, call_id: str) -> Message | None:
    """The message of a step that made a call."""
    return next((head for head in step.heads for call in head.calls if call.id == call_id), None)
