"""A session: one thread's transcript, plan and accounts. `view` before a model call, `observe` after it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from memctx import formats
from memctx.accounts import Accounts
from memctx.decide import Decision
from memctx.deliberate import deliberate, fit
from memctx.edits import Clear, Drop, Replace
from memctx.effects import Asks, Embed, Forget, Generate, Handlers, Recall, Remember, adrive, drive
from memctx.errors import InvalidMessage, NotFound
from memctx.messages import Message, Transcript
from memctx.offer import offered
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.protect import Protection
from memctx.render import Renderer, span_steps
from memctx.reopen import ReopenTool, as_data
from memctx.tokens import counter as counter_of
from memctx.view import View

USER_FIRST = ("anthropic", "gemini")


class Session:
    """See `Pipeline.session`. Safe to share between threads: calls on one session run one after the other."""

    def __init__(self, pipeline: Pipeline, thread: str = "", *, timeout: float = 60.0, **handlers: Any) -> None:
        kinds = {"generate": Generate, "embed": Embed, "recall": Recall, "remember": Remember, "forget": Forget}
        unknown = handlers.keys() - kinds.keys()
        if unknown:
            raise TypeError(f"session() got an unexpected keyword {min(unknown)!r}; known: {', '.join(kinds)}, timeout")
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
        self.memos: dict[str, dict[str, Any]] = {}
        self.warned: set[str] = set()
        self._view: View | None = None
        self.considered = 0
        self.base: tuple[Any, Any, int] = (None, None, 0)

    def _count(self, message: Message) -> int:
        return self.counter.message(message.out)

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
            self.memos.clear()
        base = self._measure(tools, system)
        if (
            self._view is not None
            and not forked
            and changed == len(self.transcript.steps)
            and not self.accounts.base_moved
        ):
            return self._view
        written = self.renderer.update(self.plan, changed, forked)
        self.accounts.arrive(written, self.renderer.sums, base, now if now is not None else time.monotonic())
        try:
            yield from deliberate(self, base)
            fit(self, base)
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
            self.memos.clear()
            self.considered = 0
        self.protection.extend(forked)
        return changed, forked

    def _detect(self, messages: list[Any]) -> None:
        """Settle the wire form: what the messages show, unless the pipeline names a provider and they are plain dicts."""
        found = formats.detect(messages)
        if found is None or (self.pipeline.provider and found != "langchain"):
            return
        form = formats.load(found)
        if form is not self.form:
            accounts = self.accounts
            self._start(form, definite=True)
            self.accounts = accounts
        self._definite = True

    def _measure(self, tools: Any, system: Any) -> int:
        """Tokens of tools, system text and reply priming; counted again only when they are other objects or values."""
        old_tools, old_system, size = self.base
        same = (old_tools is tools or old_tools == tools) and (old_system is system or old_system == system)
        self.accounts.base_moved = not same
        if not same or not size:
            size = self.counter.priming + (self.counter.tools(tools) if tools else 0)
            if system:
                content = getattr(system, "content", system)
                size += self.counter.message({"role": "system", "content": content})
            self.base = (tools, system, size)
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

    def total(self, base: int) -> int:
        """Tokens of the request as the view now stands, `base` of them outside the messages."""
        return self.counter.total(base + self.renderer.tokens)

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
            tokens=self.total(base),
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
            self.counter.calibrate(self.base[2] + self.renderer.tokens, reported)

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
