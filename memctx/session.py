"""A session: one thread's transcript, plan and accounts. `view` before a model call, `observe` after it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memctx import decide, formats
from memctx.decide import Decision, Priced
from memctx.edits import Clear, Drop, Edit, Replace
from memctx.effects import Asks, Embed, Forget, Generate, Handlers, Recall, Remember, adrive, drive
from memctx.errors import BudgetError, EffectError, InvalidMessage, NotFound
from memctx.fallback import last_resort
from memctx.accounts import Accounts
from memctx.messages import Message, Transcript
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.pricing import Outlook
from memctx.protect import Protection
from memctx.render import Renderer, span_steps
from memctx.reopen import ReopenTool, as_data
from memctx.strategies import Context, Strategy
from memctx.tokens import counter as counter_of
from memctx.offer import names_of, offered
from memctx.view import View

GROWTH = 1.125  # unforced edits are considered again once the view has grown by this factor
USER_FIRST = ("anthropic", "gemini")


class Session:
    """See `Pipeline.session`. Safe to share between threads: calls on one session run one after the other."""

    def __init__(self, pipeline: Pipeline, thread: str = "", *, timeout: float = 60.0, **handlers: Any) -> None:
        kinds = {"generate": Generate, "embed": Embed, "recall": Recall, "remember": Remember, "forget": Forget}
        unknown = handlers.keys() - kinds.keys()
        if unknown:
            raise TypeError(f"session() got an unexpected keyword {sorted(unknown)[0]!r}; known: {', '.join(kinds)}, timeout")
        self.pipeline = pipeline
        self.thread = thread
        self.counter = counter_of(pipeline.counter)
        self._handlers = Handlers({kinds[name]: h for name, h in handlers.items() if h is not None}, timeout)
        self._busy = threading.Lock()
        self._cap: int | None = None
        self._start(formats.load(pipeline.provider or "openai-chat"), definite=False)

    def _start(self, form: formats.Format, *, definite: bool) -> None:
        self.form = form
        self._definite = definite
        provider = self.pipeline.provider or form.provider
        self.transcript = Transcript(form, self._count)
        self.protection = Protection(self.transcript, self.pipeline.pins)
        self.renderer = Renderer(self.transcript, form, self.counter, self.protection, provider in USER_FIRST)
        self.plan = Plan()
        self.accounts = Accounts(self.pipeline.price)
        self._memos: dict[str, dict[str, Any]] = {}
        self._warned: set[str] = set()
        self._view: View | None = None
        self._considered = 0
        self._base: tuple[Any, Any, int] = (None, None, 0)

    def _count(self, message: Message) -> int:
        return sum(map(self.counter.message, self.form.assemble([(message, message.out)])))

    # -- the call ----------------------------------------------------------------------------------------------------

    def view(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None = None,
        *,
        system: Any = None,
        plan: Plan | Mapping[str, Any] | None = None,
        now: float | None = None,
    ) -> View:
        """What the model should see of this history, in the form it came in.

        `system`: system text that travels beside the messages. `plan`: the plan a host kept; None: the session's own.
        `now`: seconds, for the life of the cache; None: the clock. Raises `InvalidMessage`, `BudgetError`, `LimitError`;
        then nothing has changed.
        """
        with self._busy:
            result: View = drive(self._walk(messages, tools, system, plan, now), self._handlers)
            return result

    async def aview(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None = None,
        *,
        system: Any = None,
        plan: Plan | Mapping[str, Any] | None = None,
        now: float | None = None,
    ) -> View:
        """As `view`; effects are awaited."""
        while not self._busy.acquire(blocking=False):
            await asyncio.sleep(0.001)
        try:
            result: View = await adrive(self._walk(messages, tools, system, plan, now), self._handlers)
            return result
        finally:
            self._busy.release()

    def _walk(self, messages: Any, tools: Any, system: Any, plan: Any, now: float | None) -> Asks:
        changed, forked = self._take_in(messages)
        kept = self.plan
        wanted = plan if isinstance(plan, Plan) else Plan.from_dict(plan) if plan is not None else self.plan
        if wanted != self.plan:
            self.plan, forked = wanted, True
        base = self._measure(tools, system)
        if self._view is not None and not forked and changed == len(self.transcript.steps) and not self.accounts.base_moved:
            return self._view
        written = self.renderer.update(self.plan, changed, forked)
        self.accounts.arrive(written, self.renderer.sums, base, now if now is not None else time.monotonic())
        try:
            yield from self._decide(base, changed)
            self._fit(base)
        except BaseException:
            self.plan = kept
            self.accounts.written(self.renderer.update(kept, 0, True))
            raise
        return self._finish(tools, system, base)

    def _take_in(self, messages: Any) -> tuple[int, bool]:
        if messages is None or isinstance(messages, str | bytes | Mapping):
            text = f"messages must be a list of messages, got {type(messages).__name__}"
            raise InvalidMessage(text, code="empty_messages")
        if not isinstance(messages, list):
            messages = list(messages)
        if not messages:
            raise InvalidMessage("messages is empty: give at least one message", code="empty_messages")
        if not self._definite:
            self._detect(messages)
        before = self.transcript.forks
        changed = self.transcript.sync(messages)
        forked = self.transcript.forks != before
        if forked:
            self._memos.clear()
            self._considered = 0
        self.protection.extend(forked)
        return changed, forked

    def _detect(self, messages: list[Any]) -> None:
        found = formats.detect(messages)
        if found is None:
            return
        form = formats.load(found)
        if form is not self.form:
            self._start(form, definite=True)
        self._definite = True

    def _measure(self, tools: Any, system: Any) -> int:
        """Tokens of tools, system text and reply priming; counted again only when they are other objects or values."""
        old_tools, old_system, size = self._base
        same = (old_tools is tools or old_tools == tools) and (old_system is system or old_system == system)
        self.accounts.base_moved = not same
        if not same or not size:
            size = self.counter.priming + (self.counter.tools(tools) if tools else 0)
            if system:
                content = getattr(system, "content", system)
                size += self.counter.message({"role": "system", "content": content})
            self._base = (tools, system, size)
        return size

    # -- deciding ----------------------------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """Tokens the view may have: the budget's, or less after `shrink`."""
        limit = self.pipeline.budget.limit
        return limit if self._cap is None else min(limit, self._cap)

    def shrink(self, to: int | None = None) -> None:
        """Lower the limit to `to` tokens, by default to 3/4 of what it was: for a provider that reported overflow."""
        self._cap = to or self.limit * 3 // 4
        self._view = None

    def _total(self, base: int) -> int:
        return self.counter.total(base + self.renderer.tokens)

    def _decide(self, base: int, changed: int) -> Asks:
        total = self._total(base)
        forced = total > self.limit
        always = self.pipeline.edit_when == "always"
        due = self.pipeline.edit_when == "pays" and (total >= self._considered * GROWTH or self.accounts.cold)
        if not (forced or always or due):
            return
        for strategy in self.pipeline.strategies:
            total = self._total(base)
            over = total > self.limit
            if forced and not over and not always:
                break
            ctx = self._context(strategy, total)
            priced = self._priced((yield from self._ask(strategy, ctx)))
            chosen, worth = self._choose(priced, over, total, base)
            if chosen:
                self._accept(strategy, chosen, ctx.serial, over, worth, total, base)
        self._considered = self._total(base)

    def _context(self, strategy: Strategy, total: int) -> Context:
        return Context(
            transcript=self.transcript,
            plan=self.plan,
            limit=self.limit,
            tokens=total,
            tools=names_of(self._base[0]),
            protected=self.protection,
            shown=self.renderer.shown,
            cleared=self.renderer.cleared,
            count=self.counter.text,
            memo=self._memos.setdefault(strategy.name, {}),
            serial=self.plan.serial,
            record=self.accounts.record,
        )

    def _ask(self, strategy: Strategy, ctx: Context) -> Asks:
        """A strategy's proposals; one that fails proposes nothing and is named in one warning."""
        try:
            proposed = yield from strategy.propose(ctx)
            if not isinstance(proposed, list):
                raise TypeError(f"propose returned {type(proposed).__name__}, not a list of edits")
        except Exception as cause:
            if strategy.name not in self._warned:
                self._warned.add(strategy.name)
                kind = "" if isinstance(cause, EffectError) else f"{type(cause).__name__}: "
                warnings.warn(f"strategy {strategy.name!r} proposed nothing: {kind}{cause}", stacklevel=2)
            return []
        return decide.allowed(proposed, self.transcript, self.protection)

    def _priced(self, proposed: list[Edit]) -> list[Priced]:
        return [Priced(edit, *self.renderer.saving(edit)) for edit in proposed]

    def _choose(self, priced: list[Priced], over: bool, total: int, base: int) -> tuple[list[Priced], float]:
        outlook = self._outlook(total)
        if self.pipeline.edit_when == "always":
            return priced, self._worth(priced, base, outlook)
        free = [item for item in priced if not isinstance(item.edit, Clear | Drop | Replace)]
        cutting = [item for item in priced if item.saved > 0]
        if over:
            chosen = decide.enough(cutting, total - int(self.pipeline.low * self.limit))
            return free + chosen, self._worth(chosen, base, outlook)
        if self.pipeline.edit_when == "budget":
            return free, 0.0
        chosen, worth = decide.best_break(cutting, lambda step: base + self.renderer.sums[step], outlook)
        return free + chosen, worth

    def _outlook(self, total: int) -> Outlook:
        calls = self.transcript.calls_made
        return Outlook(self.pipeline.price, total, self.accounts.prefix, self.pipeline.forecast.remaining(calls))

    def _worth(self, chosen: list[Priced], base: int, outlook: Outlook) -> float:
        if not chosen:
            return 0.0
        first = min(item.step for item in chosen)
        return outlook.worth(base + self.renderer.sums[first], sum(item.saved for item in chosen))

    def _accept(
        self, by: Strategy | str, chosen: list[Priced], serial: int, forced: bool, worth: float, before: int, base: int
    ) -> None:
        outlook = self._outlook(before)
        self.plan = self.plan.accept((item.edit for item in chosen), serial)
        self.accounts.written(self.renderer.update(self.plan, len(self.transcript.steps), False))
        after = self._total(base)
        cost_now = outlook.price.cost(after, self.accounts.prefix) - outlook.price.cost(before, outlook.prefix)
        name = by if isinstance(by, str) else by.name
        decision = Decision(
            self.transcript.calls_made, name, len(chosen), forced, before, after, worth, outlook.calls_left, cost_now, self.accounts.rate
        )
        self.accounts.decisions.append(decision)

    def _fit(self, base: int) -> None:
        """What the strategies left over the limit is cut by the library itself, or the call fails with `BudgetError`."""
        for propose in last_resort(self.transcript, self.renderer, self.protection):
            total = self._total(base)
            if total <= self.limit:
                return
            serial, edits = propose(self.plan.serial, total - int(self.pipeline.low * self.limit), total - self.limit)
            if edits:
                priced = self._priced(edits)
                self._accept("fit", priced, serial, True, 0.0, total, base)
        if self._total(base) > self.limit:
            raise self._too_small(base)

    def _too_small(self, base: int) -> BudgetError:
        parts = {"tools and system": base}
        for message in self.transcript.messages:
            if self.protection(message):
                parts[f"{message.role} message {message.host}: {message.text[:40]!r}"] = message.tokens
        largest = dict(sorted(parts.items(), key=lambda item: -item[1])[:5])
        needed = self._total(base)
        text = f"{needed} tokens may not be edited and the budget is {self.limit}: raise it, or unpin. Largest: {largest}"
        return BudgetError(text, needed=needed, given=self.limit, parts=largest)

    # -- the answer --------------------------------------------------------------------------------------------------

    def _finish(self, tools: Any, system: Any, base: int) -> View:
        renderer = self.renderer
        if not renderer.out:
            raise InvalidMessage("nothing in these messages can be sent: no message has content", code="empty_messages")
        prefix = self.accounts.send(base + renderer.tokens, base + self.transcript.tokens)
        marks = self.accounts.marks(len(renderer.out)) if self.pipeline.price.marks else ()
        self._view = View(
            messages=renderer.out.copy(),
            tools=offered(tools, renderer.offer),
            tokens=self._total(base),
            prefix=prefix,
            handles=renderer.handles(),
            plan=self.plan,
            repairs=tuple(renderer.repairs.values()),
            system=system,
            breakpoints=marks,
        )
        return self._view

    def observe(self, reply: Any = None, usage: Any = None) -> None:
        """After the call: `usage` in the provider's own fields corrects the counting. `reply` may be any host message."""
        reported = self.accounts.observe(usage if usage is not None else getattr(reply, "usage", None))
        if reported:
            self.counter.calibrate(self._base[2] + self.renderer.tokens, reported)

    async def aobserve(self, reply: Any = None, usage: Any = None) -> None:
        """As `observe`."""
        self.observe(reply, usage)

    def reopen(self, handle: str) -> str:
        """What `handle` stands for, exactly: the text or arguments that were cleared; for a span, its messages as JSON."""
        for edit in self.plan.edits:
            if isinstance(edit, Clear | Drop | Replace) and edit.handle == handle:
                if isinstance(edit, Clear) and (message := self.transcript.find(edit.target)) is not None:
                    calls = (call.arguments for call in message.calls if call.id == edit.call)
                    return next(calls, message.text)
                if isinstance(edit, Drop | Replace) and edit.first in self.transcript.position:
                    parts = [m for step in span_steps(self.transcript, edit) for m in step.messages]
                    return json.dumps([as_data(raw) for raw in self.transcript.host_objects(parts)], ensure_ascii=False)
        known = ", ".join(self.renderer.handles()[-5:]) or "none"
        raise NotFound(f"no handle {handle!r:.60} in this thread; the newest are: {known}")

    async def areopen(self, handle: str) -> str:
        """As `reopen`."""
        return self.reopen(handle)

    def reopen_tool(self, max_tokens: int = 4000) -> ReopenTool:
        """A tool that gives the model `reopen`, at most `max_tokens` a call; its result is counted like any other."""
        return ReopenTool(self.reopen, self.counter.text, max_tokens)

    @property
    def decisions(self) -> list[Decision]:
        """Every decision so far, with its expected saving and what was observed of it."""
        return self.accounts.settled()

    def report(self) -> dict[str, Any]:
        """Calls, tokens, money against no edit, cache share, decisions: JSON data."""
        return {"thread": self.thread, **self.accounts.report(), "edits": len(self.plan.edits)}


Handler = Callable[[Any], Any]
