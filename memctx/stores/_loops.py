"""PostgreSQL for tasks of an event loop: an async engine for each loop, as a connection belongs to the loop that opened it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")


@dataclass(eq=False)
class Here:
    """What a store has in one event loop."""

    engine: AsyncEngine
    opened: WeakSet[Any] = field(default_factory=WeakSet)  # the driver's connections
    end: AsyncGenerator[None, None] | None = None

    def cut(self) -> None:
        """Close the connections from outside the loop, which may be gone."""
        for connection in list(self.opened):
            with suppress(Exception):
                connection.pgconn.finish()
        self.engine.sync_engine.dispose(close=False)


class Loops:
    """The engines by loop. One goes when its loop shuts down its async generators, as `asyncio.run` does, or is closed."""

    def __init__(self, make: Callable[[], AsyncEngine]) -> None:
        self._make = make
        self._here: dict[asyncio.AbstractEventLoop, Here] = {}
        self._guard = threading.Lock()

    async def here(self) -> Here:
        """What the running loop has; made at its first call."""
        loop = asyncio.get_running_loop()
        known = self._here.get(loop)
        if known is not None:
            return known
        with self._guard:
            for other in [each for each in self._here if each.is_closed()]:
                self._here.pop(other).cut()
            made = self._here[loop] = Here(self._make())
        event.listen(made.engine.sync_engine, "connect", lambda dbapi, _: made.opened.add(dbapi.driver_connection))
        made.end = self._until_the_loop_ends(loop)
        await anext(made.end)
        return made

    async def _until_the_loop_ends(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        """A loop closes its open async generators before it ends: the place to give back what belongs to it."""
        try:
            yield
        finally:
            gone = self._here.pop(loop, None)
            if gone is not None:
                await gone.engine.dispose()

    async def aclose(self) -> None:
        """Close what the running loop has, in order, and cut what others have."""
        known = self._here.get(asyncio.get_running_loop())
        if known is not None and known.end is not None:
            await known.end.aclose()
        self.close()

    def close(self) -> None:
        with self._guard:
            while self._here:
                self._here.popitem()[1].cut()


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`. If the caller is cancelled, `work` is cancelled once and left to roll back before the caller goes on."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: the caller asked for an end, and gets one
        raise
