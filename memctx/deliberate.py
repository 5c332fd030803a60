"""Deliberating: the strategies are asked, what they propose is priced, and the plan takes what is chosen.

The second half of a model call's walk; `memctx.decide` holds the arithmetic of choosing.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from memctx.decide import Decision, Priced, allowed, best_break, deep_enough
from memctx.edits import Clear, Drop, Edit, Offer, Replace
from memctx.effects import Asks
from memctx.errors import BudgetError, EffectError
from memctx.fallback import last_resort
from memctx.pricing import Outlook
from memctx.strategies import Blocks, Context, Strategy

if TYPE_CHECKING:
    from memctx.session import Session

GROWTH = 1.125  # unforced edits are considered again once the view has grown by this factor,
STRIDE = 2048  # and by this many tokens, so that short threads are not asked at every step


def deliberate(session: Session) -> Asks:
    """Ask who chooses the tools; then each strategy where the budget or the price calls for it."""
    for place, strategy in session.hooked["offers"]:
        yield from _propose(session, place, strategy, False)
    if session.hooked["offers"]:
        session.stand()  # where none was offered, all stand
        session.accounts.fronted(session.front.tokens, session.front.kept())
    total = session.total()
    forced = total > session.limit
    always = session.pipeline.edit_when == "always"
    grown = total >= max(session.considered * GROWTH, session.considered + STRIDE)
    due = session.pipeline.edit_when == "pays" and (grown or session.accounts.cold)
    goal = int(session.pipeline.low * session.limit)
    for place, strategy in enumerate(session.pipeline.strategies):
        over = forced and session.total() > goal
        if (place, strategy) in session.hooked["offers"]:
            continue
        if over or always or (due and not forced) or (place, strategy) in session.hooked["every_call"]:
            yield from _propose(session, place, strategy, over)
    if forced or due:
        session.considered = session.total()


def _propose(session: Session, place: int, strategy: Strategy, over: bool) -> Asks:
    """One strategy's edits, priced, chosen and accepted."""
    total = session.total()
    ctx = context(session, f"{place}:{strategy.name}", total)
    if (place, strategy) in session.hooked["newest"]:
        ctx.protected = session.protection.pinned
    priced = _priced(session, (yield from _ask(session, strategy, ctx)))
    chosen, worth = _choose(session, priced, over, total)
    if chosen:
        _accept(session, strategy.name, chosen, ctx.serial, over, worth)


def context(session: Session, memo: str, total: int) -> Context:
    """What a strategy may look at. `memo`: the name of its scratch space; `total`: tokens of the view as it now stands."""
    return Context(
        transcript=session.transcript,
        plan=session.plan,
        limit=session.limit,
        tokens=total,
        tools=session.front.usable,
        protected=session.protection,
        shown=session.renderer.shown,
        cleared=session.renderer.cleared,
        count=session.counter.text,
        memo=session.memos.setdefault(memo, {}),
        serial=session.plan.serial,
        record=session.accounts.record,
        provider=session.pipeline.provider or session.form.provider,
        catalogue=session.front.catalogue,
        offer=session.plan.offer(session.transcript.position),
        forced=session.forced,
        weigh=session.front.weigh,
        settle=lambda blocks: _settled(session, blocks),
    )


def _settled(session: Session, blocks: Blocks) -> tuple[str, ...]:
    """Of blocks of tools, from the one that changes least to the leanest, the one to send now and for the rest of the run."""
    if session.pipeline.edit_when != "pays":
        return blocks[-1 if session.pipeline.edit_when == "always" else 0]
    outlook = _outlook(session, session.total())

    def cost(block: tuple[str, ...]) -> float:
        size, kept = session.front.sizes(block)
        total = size + session.renderer.tokens
        prefix = outlook.prefix if kept is None else min(kept, outlook.prefix)
        return outlook.price.cost(total, prefix) + outlook.calls_left * outlook.price.cost(total, total)

    return min(blocks, key=cost)


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
    return allowed(proposed, session.transcript, ctx.protected)


def _priced(session: Session, proposed: list[Edit]) -> list[Priced]:
    return [Priced(edit, *session.renderer.saving(edit)) for edit in proposed]


def _choose(session: Session, priced: list[Priced], over: bool, total: int) -> tuple[list[Priced], float]:
    outlook = _outlook(session, total)
    if session.pipeline.edit_when == "always":
        return priced, _worth(session, priced, outlook)
    free = [item for item in priced if not isinstance(item.edit, Clear | Drop | Replace)]
    cutting = [item for item in priced if item.saved > 0]
    if over:
        calls = max(1, session.transcript.calls_made)
        need = total - int(session.pipeline.low * session.limit)
        before = [session.front.tokens + session.renderer.sums[item.step] for item in cutting]
        chosen = deep_enough(cutting, before, need, session.limit, total / calls, outlook)
        return free + chosen, _worth(session, chosen, outlook)
    if session.pipeline.edit_when == "budget":
        return free, 0.0
    chosen, worth = best_break(cutting, lambda step: session.front.tokens + session.renderer.sums[step], outlook)
    return free + chosen, worth


def _outlook(session: Session, total: int) -> Outlook:
    calls = session.transcript.calls_made
    return Outlook(session.pipeline.price, total, session.accounts.prefix, session.pipeline.forecast.remaining(calls))


def _worth(session: Session, chosen: list[Priced], outlook: Outlook) -> float:
    if not chosen:
        return 0.0
    first = min(item.step for item in chosen)
    return outlook.worth(session.front.tokens + session.renderer.sums[first], sum(item.saved for item in chosen))


def _accept(session: Session, by: str, chosen: list[Priced], serial: int, forced: bool, worth: float) -> None:
    before = session.total()
    outlook = _outlook(session, before)
    session.plan = session.plan.accept((item.edit for item in chosen), serial)
    if any(isinstance(item.edit, Offer) for item in chosen):
        session.stand()
        session.accounts.fronted(session.front.tokens, session.front.kept())
    session.accounts.written(session.renderer.update(session.plan, len(session.transcript.steps), False))
    after = session.total()
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


def fit(session: Session) -> None:
    """What the strategies left over the limit is cut by the library itself, or the call fails with `BudgetError`."""
    for propose in last_resort(session.transcript, session.renderer, session.protection):
        total = session.total()
        if total <= session.limit:
            return
        serial, edits = propose(
            session.plan.serial, total - int(session.pipeline.low * session.limit), total - session.limit
        )
        if edits:
            priced = _priced(session, edits)
            _accept(session, "fit", priced, serial, True, 0.0)
    if session.total() > session.limit:
        raise _too_small(session)


def _too_small(session: Session) -> BudgetError:
    parts = {"tools and system": session.front.tokens}
    for message in session.transcript.messages:
        if session.protection(message):
            parts[f"{message.role} message {message.host}: {message.text[:40]!r}"] = message.tokens
    largest = dict(sorted(parts.items(), key=lambda item: -item[1])[:5])
    needed = session.total()
    text = (
        f"{needed} tokens may not be edited and the budget is {session.limit}: raise it, or unpin. Largest: {largest}"
    )
    return BudgetError(text, needed=needed, given=session.limit, parts=largest)
