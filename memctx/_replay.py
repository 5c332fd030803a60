"""One run through one pipeline: the walk behind `memctx.replay`."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple, Self

from memctx.grounding import grounded, view_text
from memctx.pipeline import Pipeline
from memctx.pricing import PRICES, Ledger
from memctx.runs import Run
from memctx.session import Session
from memctx.tokens import Counter, counter
from memctx.validity import check
from memctx.view import View

Rendered = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A run that a pipeline could not take, and why."""

    run: str
    pipeline: str
    why: str


@dataclass(slots=True)
class Tally:
    """Sums over calls. Tokens, seconds, and money in units of one uncached input token."""

    calls: int = 0
    grounded: int = 0
    kept: int = 0
    behind: int = 0  # not kept, but behind a handle in the view
    shown: int = 0
    whole: int = 0
    peak: int = 0
    rewrites: int = 0
    violations: int = 0
    seconds: float = 0.0
    money: dict[str, float] = field(default_factory=dict)
    unedited: dict[str, float] = field(default_factory=dict)

    def __iadd__(self, other: Tally) -> Self:
        for name in ("calls", "grounded", "kept", "behind", "shown", "whole", "rewrites", "violations", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.peak = max(self.peak, other.peak)
        for mine, others in ((self.money, other.money), (self.unedited, other.unedited)):
            for price, cost in others.items():
                mine[price] = mine.get(price, 0.0) + cost
        return self


class Known(NamedTuple):
    """A rendered message: a key equal for equal content, its tokens, its tokens as a tool result, its text."""

    key: Hashable
    tokens: int
    result: int
    text: str


class Seen:
    """What is known of each rendered message: read once an object, counted once a content."""

    def __init__(self, tokens: Counter) -> None:
        self.tokens = tokens
        self._objects: dict[int, tuple[Any, Known]] = {}  # the object is held, so that its id stays its own
        self._contents: dict[str, Known] = {}

    def message(self, message: Rendered) -> Known:
        held = self._objects.get(id(message))
        if held is None:
            content = json.dumps(message, sort_keys=True, default=str)
            known = self._contents.get(content) or self._read(message, content)
            held = self._objects[id(message)] = (message, known)
        return held[1]

    def _read(self, message: Rendered, content: str) -> Known:
        text = view_text([message])
        result = self.tokens.text(text) if message.get("role") in ("tool", "function") else 0
        known = Known(len(self._contents), self.tokens.message(message), result, text)
        self._contents[content] = known
        return known

    def tools(self, tools: Sequence[Any] | None) -> list[Known]:
        """The tool block as the first part of a request; empty without tools."""
        if not tools:
            return []
        return [Known(json.dumps(tools, sort_keys=True, default=str), self.tokens.tools(tools), 0, "")]


@dataclass(frozen=True, slots=True)
class Call:
    """One model call of a run: the messages before it, when, what it uses, and whether it calls a tool."""

    before: int
    now: float | None
    needs: tuple[str, ...]
    acts: bool


def calls_of(run: Run) -> list[Call]:
    """Each assistant message that something stands before; a simulated user's calls too."""
    needs: dict[int, list[str]] = {}
    for need in grounded(run.messages):
        needs.setdefault(need.call_index, []).append(need.text)
    return [
        Call(i, run.times[i - 1] if run.times else None, tuple(needs.get(i, ())), bool(message.get("tool_calls")))
        for i, message in enumerate(run.messages)
        if i and message.get("role") == "assistant"
    ]


def measure(run: Run, pipeline: Pipeline, price: str, unedited: dict[str, float]) -> Tally:
    """The sums of one run. `unedited` (price -> cost with no edit) is filled at the first pipeline of a run."""
    seen = Seen(counter("o200k_base"))
    calls = calls_of(run)
    if not unedited:
        unedited |= _whole_cost(run, calls, seen)
    if pipeline.edit_when != "pays":
        tally = _walk(run, pipeline, calls, seen, list(PRICES))
    else:
        tally = _walk(run, pipeline.priced(price), calls, seen, [price])
        for other in (name for name in PRICES if name != price):
            tally.money |= _walk(run, pipeline.priced(other), calls, seen, [other]).money
    tally.unedited = dict(unedited)
    return tally


def _whole_cost(run: Run, calls: Sequence[Call], seen: Seen) -> dict[str, float]:
    request = [*seen.tools(run.tools), *map(seen.message, run.messages)]
    first = len(request) - len(run.messages)
    sizes, ids = [known.tokens for known in request], [known.key for known in request]
    ledgers = {name: Ledger(shape) for name, shape in PRICES.items()}
    return {
        name: sum(ledger.charge(sizes[: first + c.before], ids[: first + c.before], c.now) for c in calls)
        for name, ledger in ledgers.items()
    }


def _walk(run: Run, pipeline: Pipeline, calls: Sequence[Call], seen: Seen, prices: Sequence[str]) -> Tally:
    session = pipeline.session(run.id)
    ledgers = {name: Ledger(PRICES[name]) for name in prices}
    tally = Tally(calls=len(calls), money=dict.fromkeys(prices, 0.0))
    reopened: dict[str, str] = {}
    whole = [seen.message(message).result for message in run.messages]
    last: list[Hashable] = []
    for call in calls:
        view, seconds = _viewed(session, run, call)
        tally.seconds += seconds
        tally.peak = max(tally.peak, view.tokens)
        tally.violations += len(check(view.messages, "openai-chat", tools=view.tools))
        request = [*seen.tools(view.tools), *map(seen.message, view.messages)]
        ids = [known.key for known in request]
        tally.rewrites += ids[: len(last)] != last
        last = ids
        for name, ledger in ledgers.items():
            tally.money[name] += ledger.charge([known.tokens for known in request], ids, call.now)
        if call.acts:
            tally.whole += sum(whole[: call.before])
            tally.shown += sum(known.result for known in request)
            _ground(tally, call, "\n".join(known.text for known in request), _behind(session, view, reopened))
    return tally


def _viewed(session: Session, run: Run, call: Call) -> tuple[View, float]:
    """The view for a call, and the seconds that memctx took of it."""
    messages = run.messages[: call.before]
    start = perf_counter()
    view = session.view(messages, run.tools or None, now=call.now)
    session.observe(run.messages[call.before], None)
    return view, perf_counter() - start


def _ground(tally: Tally, call: Call, text: str, behind: Iterator[str]) -> None:
    missing = [need for need in call.needs if need not in text]
    tally.grounded += len(call.needs)
    tally.kept += len(call.needs) - len(missing)
    if missing:
        hidden = list(behind)
        tally.behind += sum(any(need in part for part in hidden) for need in missing)


def _behind(session: Session, view: View, reopened: dict[str, str]) -> Iterator[str]:
    """What stands behind each handle of a view, opened only when asked for."""
    for handle in view.handles:
        if handle not in reopened:
            reopened[handle] = _readable(session.reopen(handle))
        yield reopened[handle]


def _readable(text: str) -> str:
    """Reopened text; where it is JSON (hidden messages, or arguments) also the texts inside it, unescaped."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, list) and value and all(isinstance(item, dict) and "role" in item for item in value):
        return view_text(value)
    if not isinstance(value, (dict, list)):
        return text
    return text + view_text([{"role": "assistant", "tool_calls": [{"function": {"arguments": value}}]}])
