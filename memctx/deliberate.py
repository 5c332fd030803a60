"""Deliberating: the strategies are asked, what they propose is priced, and the plan takes what is chosen.

The second half of a model call's walk; `memctx.decide` holds the arithmetic of choosing.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from memctx.decide import Decision, Priced, allowed, best_break, deep_enough
from memctx.edits import Clear, Drop, Edit, Replace
from memctx.effects import Asks
from memctx.errors import BudgetError, EffectError
from memctx.fallback import last_resort
from memctx.offer import names_of
from memctx.pricing import Outlook
from memctx.strategies import Context, Strategy

if TYPE_CHECKING:
    from memctx.session import Session

GROWTH = 1.125  # unforced edits are considered again once the view has grown by this factor,
STRIDE = 2048  # and by this many tokens, so that short threads are not asked at every step


def deliberate(session: Session, base: int) -> Asks:
    """Ask each strategy where the budget or the price calls for it. `base`: tokens of tools, system text and priming."""
    total = session.total(base)
    forced = total > session.limit
    always = session.pipeline.edit_when == "always"
    grown = total >= max(session.considered * GROWTH, session.considered + STRIDE)
    due = session.pipeline.edit_when == "pays" and (grown or session.accounts.cold)
    goal = int(session.pipeline.low * session.limit)
    for place, strategy in enumerate(session.pipeline.strategies):
        over = forced and session.total(base) > goal
        if not (over or always or (due and not forced) or (place, strategy) in session.hooked["every_call"]):
            continue
        total = session.total(base)
        ctx = context(session, f"{place}:{strategy.name}", total)
        priced = _priced(session, (yield from _ask(session, strategy, ctx)))
        chosen, worth = _choose(session, priced, over, total, base)
        if chosen:
            _accept(session, strategy.name, chosen, ctx.serial, over, worth, base)
    if forced or due:
        session.considered = session.total(base)


def context(session: Session, memo: str, total: int) -> Context:
    """What a strategy may look at. `memo`: the name of its scratch space; `total`: tokens of the view as it now stands."""
    return Context(
        transcript=session.transcript,
        plan=session.plan,
        limit=session.limit,
        tokens=total,
        tools=names_of(session.base[0]),
        protected=session.protection,
        shown=session.renderer.shown,
        cleared=session.renderer.cleared,
        count=session.counter.text,
        memo=session.memos.setdefault(memo, {}),
        serial=session.plan.serial,
        record=session.accounts.record,
    )


def _ask(session: Session, strategy: Strategy, ctx: Context) -> Asks:
    """A strategy's proposals; one that fails proposes nothing and is named in one warning."""
    try:
        proposed = yield from strategy.propose(ctx)
        if not isinstance(proposed, list):
            raise TypeError(f"propose returned {type(proposed).__name__}, not a list of edits")
    except Exception as cause:
        if strategy.name not in session.warned:
            session.warned.add(strategy.name)
            kind = "" if isinstance(cause, EffectError) else f"{type(cause).__name__}: "
            warnings.warn(f"strategy {strategy.name!r} proposed nothing: {kind}{cause}", stacklevel=2)
        return []
    return allowed(proposed, session.transcript, session.protection)


def _priced(session: Session, proposed: list[Edit]) -> list[Priced]:
    return [Priced(edit, *session.renderer.saving(edit)) for edit in proposed]


def _choose(session: Session, priced: list[Priced], over: bool, total: int, base: int) -> tuple[list[Priced], float]:
    outlook = _outlook(session, total)
    if session.pipeline.edit_when == "always":
        return priced, _worth(session, priced, base, outlook)
    free = [item for item in priced if not isinstance(item.edit, Clear | Drop | Replace)]
    cutting = [item for item in priced if item.saved > 0]
    if over:
        calls = max(1, session.transcript.calls_made)
        need = total - int(session.pipeline.low * session.limit)
        before = [base + session.renderer.sums[item.step] for item in cutting]
        chosen = deep_enough(cutting, before, need, session.limit, total / calls, outlook)
        return free + chosen, _worth(session, chosen, base, outlook)
    if session.pipeline.edit_when == "budget":
        return free, 0.0
    chosen, worth = best_break(cutting, lambda step: base + session.renderer.sums[step], outlook)
    return free + chosen, worth


def _outlook(session: Session, total: int) -> Outlook:
    calls = session.transcript.calls_made
    return Outlook(session.pipeline.price, total, session.accounts.prefix, session.pipeline.forecast.remaining(calls))


def _worth(session: Session, chosen: list[Priced], base: int, outlook: Outlook) -> float:
    if not chosen:
        return 0.0
    first = min(item.step for item in chosen)
    return outlook.worth(base + session.renderer.sums[first], sum(item.saved for item in chosen))


def _accept(
    session: Session, by: str, chosen: list[Priced], serial: int, forced: bool, worth: float, base: int
) -> None:
    before = session.total(base)
    outlook = _outlook(session, before)
    session.plan = session.plan.accept((item.edit for item in chosen), serial)
    session.accounts.written(session.renderer.update(session.plan, len(session.transcript.steps), False))
    after = session.total(base)
    cost_now = outlook.price.cost(after, session.accounts.prefix) - outlook.price.cost(before, outlook.prefix)
    decision = Decision(
        session.transcript.calls_made,
        by,
        len(chosen),
        forced,
        before,
        after,
        worth,
        outlook.calls_left,
        cost_now,
        session.accounts.rate,
    )
    session.accounts.decisions.append(decision)


def fit(session: Session, base: int) -> None:
    """What the strategies left over the limit is cut by the library itself, or the call fails with `BudgetError`."""
    for propose in last_resort(session.transcript, session.renderer, session.protection):
        total = session.total(base)
        if total <= session.limit:
            return
        serial, edits = propose(
            session.plan.serial, total - int(session.pipeline.low * session.limit), total - session.limit
        )
        if edits:
            priced = _priced(session, edits)
            _accept(session, "fit", priced, serial, True, 0.0, base)
    if session.total(base) > session.limit:
        raise _too_small(session, base)


def _too_small(session: Session, base: int) -> BudgetError:
    parts = {"tools and system": base}
    for message in session.transcript.messages:
        if session.protection(message):
            parts[f"{message.role} message {message.host}: {message.text[:40]!r}"] = message.tokens
    largest = dict(sorted(parts.items(), key=lambda item: -item[1])[:5])
    needed = session.total(base)
    text = (
        f"{needed} tokens may not be edited and the budget is {session.limit}: raise it, or unpin. Largest: {largest}"
    )
    return BudgetError(text, needed=needed, given=session.limit, parts=largest)
