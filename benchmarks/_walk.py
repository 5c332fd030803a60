"""One recorded run through any manager of context, call by call, measured the way `memctx.replay` measures pipelines."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from memctx._replay import Call, Known, Seen, Tally, calls_of
from memctx.pipeline import Pipeline
from memctx.pricing import PRICES, Ledger, Price
from memctx.runs import Run
from memctx.tokens import Counter, counter
from memctx.validity import check

Rendered = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a manager shows the model before a call. `extra`: input tokens of model calls that it made for itself."""

    messages: Rendered
    seconds: float = 0.0
    extra: int = 0


Viewer = Callable[[Call], Shown]  # one run, asked call by call in order


@dataclass(frozen=True, slots=True)
class Manager:
    """A way to manage context. `start(run, sizes, price)` gives the viewer of one run.

    `priced`: its edits depend on the price, so each price shape wants a pass of its own.
    """

    name: str
    setting: str
    start: Callable[[Run, Seen, Price], Viewer]
    priced: bool = False


def memctx(name: str, pipeline: Pipeline, setting: str = "") -> Manager:
    """One of our pipelines."""

    def start(run: Run, seen: Seen, price: Price) -> Viewer:
        session = pipeline.priced(price).session(run.id)

        def view(call: Call) -> Shown:
            messages = run.messages[: call.before]
            begin = perf_counter()
            shown = session.view(messages, run.tools or None, now=call.now)
            session.observe(run.messages[call.before], None)
            return Shown(shown.messages, perf_counter() - begin)

        return view

    setting = setting or f"budget {pipeline.budget.limit:,}"
    return Manager(f"memctx {name}", setting, start, pipeline.edit_when == "pays")


def keep_all() -> Manager:
    """No edit."""
    return Manager("keep all", "", lambda run, seen, price: lambda call: Shown(run.messages[: call.before]))


def sizes() -> Seen:
    """A memory of what messages hold and weigh, o200k tokens, to be shared by all managers of a run."""
    tokens: Counter = counter("o200k_base")
    return Seen(tokens)


def measured(run: Run, manager: Manager, seen: Seen, prices: Sequence[str] = tuple(PRICES)) -> Tally:
    """The sums of one run; `money` by price shape."""
    calls = calls_of(run)
    if not manager.priced:
        return walked(run, manager, seen, calls, prices)
    tally = walked(run, manager, seen, calls, prices[:1])
    for other in prices[1:]:
        tally.money |= walked(run, manager, seen, calls, [other]).money
    return tally


def walked(run: Run, manager: Manager, seen: Seen, calls: Sequence[Call], prices: Sequence[str]) -> Tally:
    """One pass. The manager is told the first price."""
    view = manager.start(run, seen, PRICES[prices[0]])
    ledgers = {name: Ledger(PRICES[name]) for name in prices}
    tally = Tally(calls=len(calls), money=dict.fromkeys(prices, 0.0))
    whole = [seen.message(message).result for message in run.messages]
    last: list[Hashable] = []
    for call in calls:
        shown = view(call)
        request = [*seen.tools(run.tools), *map(seen.message, shown.messages)]
        keys = [known.key for known in request]
        tally.seconds += shown.seconds
        tally.peak = max(tally.peak, seen.tokens.priming + sum(known.tokens for known in request))
        tally.violations += len(check(list(shown.messages), "openai-chat", tools=run.tools or None))
        tally.rewrites += keys[: len(last)] != last
        last = keys
        for name, ledger in ledgers.items():
            paid = ledger.charge([known.tokens for known in request], keys, call.now)
            tally.money[name] += paid + (PRICES[name].cost(shown.extra, 0) if shown.extra else 0.0)
        if call.acts:
            _grounding(tally, call, request, sum(whole[: call.before]))
    return tally


def _grounding(tally: Tally, call: Call, request: Sequence[Known], whole: int) -> None:
    tally.whole += whole
    tally.shown += sum(known.result for known in request)
    tally.grounded += len(call.needs)
    text = "\n".join(known.text for known in request) if call.needs else ""
    tally.kept += sum(need in text for need in call.needs)
