"""A session: one thread's transcript, plan and accounts. `view` before a model call, `observe` after it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from memctx import _after, formats
from memctx._answers import placed
from memctx._keep import Keep, decide, reopened
from memctx.accounts import Accounts
from memctx.decide import Decision
from memctx.edits import Offer
from memctx.effects import Asks, Embed, Forget, Generate, Logprobs, Recall, Remember, adrive, drive
from memctx.errors import InvalidMessage
from memctx.messages import Transcript
from memctx.offer import Front
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.protect import Protection
from memctx.render import Renderer
from memctx.reopen import ReopenTool
from memctx.tokens import counter as counter_of
from memctx.view import View

if TYPE_CHECKING:
    from memctx.scoped import Scoped
    from memctx.search_tools import SearchTools

KINDS: dict[str, type] = {kind.__name__.lower(): kind for kind in (Generate, Embed, Logprobs, Recall, Remember, Forget)}
USER_FIRST = ("anthropic", "gemini")
NO_TOOLS = Offer(())  # until the strategy that chooses them has been asked


class Session:
    """See `Pipeline.session`. Safe to share between threads: calls on one session run one after the other."""

    def __init__(
        self,
        pipeline: Pipeline,
        thread: str = "",
        *,
        memory: Scoped | None = None,
        timeout: float = 60.0,
        **handlers: Any,
    ) -> None:
        unknown = handlers.keys() - KINDS.keys()
        if unknown:
            known = ", ".join((*KINDS, "memory", "timeout"))
            raise TypeError(f"session() got an unexpected keyword {min(unknown)!r}; known: {known}")
        self.pipeline = pipeline
        self.memory = placed(memory, thread) if memory is not None else None
        self.thread = self.memory.place.thread if self.memory else thread
        self.counter = counter_of(pipeline.counter)
        self.warned: set[str] = set()
        self.hooked = _after.hooked(pipeline.strategies)
        self._work = _after.Work(self.warned)
        given = {KINDS[name]: handler for name, handler in handlers.items() if handler is not None}
        self._handlers, self._async_handlers = _after.answering(self._work, self.memory, given, timeout)
        self._busy = threading.Lock()
        self._cap: int | None = None
        self._start(formats.load(pipeline.provider or "openai-chat"), definite=False)

    def _start(self, form: formats.Format, *, definite: bool) -> None:
        self.form = form
        self._definite = definite
        provider = self.pipeline.provider or form.provider
        self.transcript = Transcript(form, lambda message: self.counter.message(message.out))
        self.protection = Protection(self.transcript, self.pipeline.pins)
        self.renderer = Renderer(self.transcript, form, self.counter, self.protection, provider in USER_FIRST)
        self.plan = Plan()
        self.keep = Keep()
        self.accounts = Accounts(self.pipeline.price)
        self.memos: dict[str, dict[str, Any]] = {}
        self._view: View | None = None
        self.considered = 0
        self.front = Front(self.counter)
        self.forced: tuple[str, ...] = ()

    # -- the call ----------------------------------------------------------------------------------------------------

    def view(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None = None,
        *,
        system: Any = None,
        plan: Plan | Mapping[str, Any] | None = None,
        forced: Sequence[str] = (),
        now: float | None = None,
    ) -> View:
        """What the model should see of this history, in the form it came in.

        `system`: system text that travels beside the messages. `plan`: the plan a host kept; None: the session's own.
        `forced`: tools that this request must hold, as its tool choice names them. `now`: seconds, for the life of the
        cache; None: the clock. Raises `InvalidMessage`, `BudgetError`, `LimitError`;
        then nothing has changed.
        """
        with self._busy:
            view: View = drive(self._walk(messages, tools, system, plan, forced, now), self._handlers)
            return view

    async def aview(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None = None,
        *,
        system: Any = None,
        plan: Plan | Mapping[str, Any] | None = None,
        forced: Sequence[str] = (),
        now: float | None = None,
    ) -> View:
        """As `view`; effects are awaited."""
        async with self._turn():
            view: View = await adrive(self._walk(messages, tools, system, plan, forced, now), self._async_handlers)
            return view

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The session to itself, without holding up the loop meanwhile."""
        while not self._busy.acquire(blocking=False):
            await asyncio.sleep(0.001)
        try:
            yield
        finally:
            self._busy.release()

    def _walk(self, messages: Any, tools: Any, system: Any, plan: Any, forced: Any, now: float | None) -> Asks:
        changed, forked = self._take_in(messages)
        kept = self.plan
        wanted = plan if isinstance(plan, Plan) else Plan.from_dict(plan) if plan is not None else self.plan
        keeps = self.memory is not None and plan is None
        try:
            if wanted != self.plan:
                self.plan, forked = wanted, True
                self.memos.clear()
            elif keeps and (yield from self.keep.load(self)):
                forked = True
                self.memos.clear()
            same, self.forced = not forked and self.forced == tuple(forced), tuple(forced)
            self.front.take(tools, system)
            if self._view is not None and same and changed == len(self.transcript.steps) and not self.front.moved:
                return self._view
            self.stand(NO_TOOLS if self.hooked["offers"] else None)
            written = self.renderer.update(self.plan, changed, forked)
            front = self.front.tokens, self.front.kept()
            self.accounts.arrive(written, self.renderer.sums, *front, now if now is not None else time.monotonic())
            yield from decide(self, keeps)
        except BaseException:
            self.plan, self.keep = kept, Keep()
            self.stand()
            self.accounts.written(self.renderer.update(kept, 0, True))
            raise
        return self._finish()

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

    def stand(self, default: Offer | None = None) -> None:
        """Put the plan's offer in force, or the default where it holds none."""
        self.front.put(self.plan.offer(self.transcript.position) or default)

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

    def total(self) -> int:
        """Tokens of the request as the view now stands."""
        return self.counter.total(self.front.tokens + self.renderer.tokens)

    # -- the answer --------------------------------------------------------------------------------------------------

    def _finish(self) -> View:
        renderer, front = self.renderer, self.front
        if not renderer.out:
            raise InvalidMessage("nothing in these messages can be sent: no message has content", code="empty_messages")
        front.send()
        prefix = self.accounts.send(front.tokens + renderer.tokens, front.tokens + self.transcript.tokens)
        self._view = View(
            messages=renderer.out.copy(),
            tools=front.tools,
            tokens=self.total(),
            prefix=prefix,
            handles=renderer.handles(),
            plan=self.plan,
            repairs=tuple(renderer.repairs.values()),
            system=front.system,
            allowed=front.allowed,
            deferred=front.deferred,
            breakpoints=self.accounts.marks(len(renderer.out)) if self.pipeline.price.marks else (),
        )
        return self._view

    def observe(self, reply: Any = None, usage: Any = None) -> None:
        """After the call: `usage` in the provider's own fields corrects the counting. `reply` may be any host message.

        Strategies that look back do so now; what takes long goes on beside the next call. A failure is one warning.
        """
        self._note(reply, usage)
        if self.hooked["observe"]:
            with self._busy:
                _after.run(self, "observe", self._handlers, _after.read(self, reply))

    async def aobserve(self, reply: Any = None, usage: Any = None) -> None:
        """As `observe`."""
        self._note(reply, usage)
        if self.hooked["observe"]:
            async with self._turn():
                await _after.arun(self, "observe", self._async_handlers, _after.read(self, reply))

    def _note(self, reply: Any, usage: Any) -> None:
        reported = self.accounts.observe(usage if usage is not None else getattr(reply, "usage", None))
        if reported:
            self.counter.calibrate(self.front.tokens + self.renderer.tokens, reported)

    def close(self) -> None:
        """Wait for what was put off, and let the strategies finish. The memory stays open: it belongs to the caller."""
        self._work.join()
        with self._busy:
            _after.run(self, "close", self._handlers)
        self._work.join()

    async def aclose(self) -> None:
        """As `close`."""
        await self._work.ajoin()
        async with self._turn():
            await _after.arun(self, "close", self._async_handlers)
        await self._work.ajoin()

    def reopen(self, handle: str) -> str:
        """What `handle` stands for, exactly: the text or arguments that were cleared; for a span, its messages as JSON.

        What neither the plan nor the history has is looked for in the memory's store. Raises `NotFound`.
        """
        return drive(reopened(self, handle), self._handlers)  # type: ignore[no-any-return]

    async def areopen(self, handle: str) -> str:
        """As `reopen`."""
        return await adrive(reopened(self, handle), self._async_handlers)  # type: ignore[no-any-return]

    def reopen_tool(self, max_tokens: int = 4000) -> ReopenTool:
        """A tool that gives the model `reopen`, at most `max_tokens` a call; its result is counted like any other."""
        return ReopenTool(self.reopen, self.counter.text, max_tokens)

    def search_tools(self, k: int = 5) -> SearchTools:
        """The tools by which the model finds `k` more of the host's tools at a time, and takes some away."""
        from memctx.search_tools import SearchTools, Shelf

        cap = next((getattr(strategy, "cap", 0) for _, strategy in self.hooked["offers"]), 0)
        return SearchTools(lambda: Shelf(self.front.catalogue, self.front.usable, self.front.deferred, cap), k)

    @property
    def decisions(self) -> list[Decision]:
        """Every decision so far, with its expected saving and what was observed of it."""
        return self.accounts.settled()

    def report(self) -> dict[str, Any]:
        """Calls, tokens, money against no edit, cache share, decisions: JSON data."""
        return {"thread": self.thread, **self.accounts.report(), "edits": len(self.plan.edits)}
