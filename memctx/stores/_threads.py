"""SQLite for tasks of an event loop: the sync path, in a thread.

Not aiosqlite: there, a cancelled statement leaves its connection dropped but alive, with its lock, for as long as a cursor of it
is in memory; and rows are made into Python objects inside the loop. A read of one row takes 0.3 ms here and 0.8 ms there; one
of 10,000 rows held the loop for 250 ms there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


class Stopped(BaseException):  # passes every `except Exception` of a work function
    """A transaction ends with a rollback: its caller was cancelled."""


class Stop:
    """Asks a transaction in a thread to end."""

    def __init__(self) -> None:
        self.asked = False

    def check(self) -> None:
        if self.asked:
            raise Stopped


class Threads:
    """One thread writes, as SQLite has one writer, so that waiting writers keep no reader from its thread."""

    def __init__(self, readers: int) -> None:
        self._writer = ThreadPoolExecutor(1, "memctx-store-write")
        self._readers = ThreadPoolExecutor(readers, "memctx-store-read")

    async def run(self, work: Callable[[Stop], T], *, write: bool) -> T:
        """Run `work` in a thread. If the caller is cancelled, `work` is asked to stop and has ended before the caller goes on."""
        stop = Stop()
        pool = self._writer if write else self._readers
        future = pool.submit(copy_context().run, work, stop)
        done = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            stop.asked = True
            future.cancel()  # if it has not begun
            while not done.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([done])
            if not done.cancelled():
                done.exception()  # seen: the caller asked for an end, and gets one
            raise

    def close(self) -> None:
        """Wait for what was begun or is waiting."""
        self._writer.shutdown()
        self._readers.shutdown()
