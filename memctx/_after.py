"""After a call: the strategies' after-hooks, and what they put off until later. Nothing here fails the call."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from memctx._answers import answers, async_answers
from memctx._transcript import digest
from memctx.deliberate import context
from memctx.effects import Asks, Handlers, Index, Later, adrive, drive
from memctx.errors import EffectError
from memctx.messages import Message

if TYPE_CHECKING:
    from memctx.catalogue import Catalogue
    from memctx.scoped import Scoped
    from memctx.session import Session
    from memctx.strategies import Strategy


class Work:
    """What runs off the path of the calls: threads for callers that wait, tasks on the loop of those that do not."""

    def __init__(self, warned: set[str]) -> None:
        self.warned = warned
        self.threads: list[threading.Thread] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, asks: Asks, handlers: Handlers) -> None:
        """Drive `asks` in a thread of its own. A process that ends does not wait for it."""
        self.threads = [each for each in self.threads if each.is_alive()]
        thread = threading.Thread(target=self._drive, args=(asks, handlers), name="memctx-later", daemon=True)
        self.threads.append(thread)
        thread.start()

    def astart(self, asks: Asks, handlers: Handlers) -> None:
        """Drive `asks` in a task of the running loop."""
        task = asyncio.get_running_loop().create_task(self._adrive(asks, handlers))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def join(self) -> None:
        """Wait for the threads."""
        while self.threads:
            self.threads.pop().join()

    async def ajoin(self) -> None:
        """Wait for the threads, and for the tasks of this loop."""
        await asyncio.to_thread(self.join)
        loop = asyncio.get_running_loop()
        while mine := [each for each in self.tasks if each.get_loop() is loop]:
            await asyncio.gather(*mine, return_exceptions=True)
            self.tasks.difference_update(mine)

    def _drive(self, asks: Asks, handlers: Handlers) -> None:
        try:
            drive(asks, handlers)
        except Exception as cause:
            warn(self.warned, name_of(asks), cause)

    async def _adrive(self, asks: Asks, handlers: Handlers) -> None:
        try:
            await adrive(asks, handlers)
        except Exception as cause:
            warn(self.warned, name_of(asks), cause)


def answering(
    work: Work, memory: Scoped | None, given: Mapping[type, Callable[[Any], Any]], timeout: float
) -> tuple[Handlers, Handlers]:
    """Who answers sync and async calls: what was given, else the memory; what is put off is driven with the same."""

    def later(effect: Later) -> None:
        work.start(effect.asks, handlers)

    async def alater(effect: Later) -> None:  # a coroutine: it must run on the loop
        work.astart(effect.asks, async_handlers)

    known = (answers(memory), async_answers(memory)) if memory is not None else ({}, {})
    handlers = Handlers({**known[0], **given, Later: later}, timeout)
    async_handlers = Handlers({**known[1], Index: _indexed, **given, Later: alater}, timeout)
    return handlers, async_handlers


def _indexed(effect: Index) -> Catalogue:
    """A plain function: async calls run it in a thread, for the index over many tools takes seconds to make."""
    from memctx.catalogue import shared

    catalogue = shared(effect.tools)
    catalogue.search("tool", 1)  # what is made when first asked for is made here
    return catalogue


def hooked(strategies: Sequence[Strategy]) -> dict[str, list[tuple[int, Any]]]:
    """The strategies, with their places, that have a hook or a claim of that name."""
    placed = list(enumerate(strategies))  # looked up once: asking a component for what it lacks is slow
    return {
        name: [each for each in placed if getattr(each[1], name, None)]
        for name in ("observe", "close", "every_call", "offers", "newest")
    }


def hooks(session: Session, name: str, reply: Message | None) -> Iterator[tuple[str, Asks]]:
    """(strategy, its hook `name`) of the strategies that have one."""
    for place, strategy in session.hooked[name] if session.transcript.messages else ():
        ctx = context(session, f"{place}:{strategy.name}", session.total())
        hook = getattr(strategy, name)
        yield strategy.name, hook(ctx, reply) if name == "observe" else hook(ctx)


def run(session: Session, name: str, handlers: Handlers, reply: Message | None = None) -> None:
    """Run the hooks; one that fails is named in one warning."""
    for strategy, asks in hooks(session, name, reply):
        try:
            drive(asks, handlers)
        except Exception as cause:
            warn(session.warned, strategy, cause)


async def arun(session: Session, name: str, handlers: Handlers, reply: Message | None = None) -> None:
    """As `run`."""
    for strategy, asks in hooks(session, name, reply):
        try:
            await adrive(asks, handlers)
        except Exception as cause:
            warn(session.warned, strategy, cause)


def read(session: Session, reply: Any) -> Message | None:
    """The provider's answer as the message it will be in the history; None for what is none, or makes calls.

    An answer that makes calls comes back with their results, so nothing of it is taken before.
    """
    try:
        whole = getattr(reply, "output", reply)
        items = whole if isinstance(whole, list) else [choice.message for choice in getattr(whole, "choices", ())[:1]]
        items = items or [reply]
        parsed = [part for item in items for part in session.form.parse(item, len(session.transcript.messages))]
    except Exception:  # whatever a host hands over, it is no message
        return None
    said = [each for each in parsed if each.role == "assistant" and each.text]
    if not said or any(each.calls for each in parsed):
        return None
    mark, twin = digest(said[-1]), 0
    name = mark
    while name in session.transcript.position:
        twin += 1
        name = f"{mark}-{twin}"
    return replace(said[-1], id=name)


def name_of(asks: Asks) -> str:
    """The generator's own name."""
    return str(getattr(asks, "__qualname__", "later work"))


def warn(warned: set[str], who: str, cause: BaseException) -> None:
    """One warning for each that failed."""
    if f"after {who}" not in warned:
        warned.add(f"after {who}")
        kind = "" if isinstance(cause, EffectError) else f"{type(cause).__name__}: "
        warnings.warn(f"{who} failed after the call and is tried again: {kind}{cause}", stacklevel=2)
