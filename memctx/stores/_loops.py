"""An async engine for each event loop that uses a store: a connection belongs to the loop that opened it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from memctx.stores._lock import busy

T = TypeVar("T")


@dataclass(eq=False)
class Here:
    """What a store has in one event loop."""

    engine: AsyncEngine
    turns: asyncio.Lock = field(default_factory=asyncio.Lock)  # tasks of one loop queue here: first come, first served
    opened: WeakSet[Any] = field(default_factory=WeakSet)  # the driver's connections
    end: AsyncGenerator[None, None] | None = None

    @asynccontextmanager
    async def turn(self, timeout: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout):
                await self.turns.acquire()
        except TimeoutError:
            raise busy(timeout) from None
        try:
            yield
        finally:
            self.turns.release()

    def cut(self) -> None:
        """Close the connections from outside the loop, which may be gone."""
        for connection in list(self.opened):
            with suppress(Exception):
                connection.stop() if hasattr(connection, "stop") else connection.pgconn.finish()
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


class Stop:
    """Asked of a transaction whose caller was cancelled: to end with a rollback and not with a commit."""

    asked = False


async def finished(run: Callable[[Stop], Coroutine[Any, Any, T]], *, interrupt: bool) -> T:
    """Run a transaction; if the caller is cancelled, it is rolled back before the caller goes on.

    `interrupt`: cancel the statement under way too. aiosqlite cannot: its thread goes on, SQLAlchemy drops the connection, and
    SQLite keeps a dropped connection's lock for as long as a cursor of it is in memory. There, a statement is waited for.
    """
    stop = Stop()
    task = asyncio.ensure_future(run(stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.asked = True
        if interrupt:
            task.cancel()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: the caller asked for an end, and gets one
        raise
