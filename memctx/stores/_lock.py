"""One writer at a time, among threads, event loops and processes.

SQLite allows one writer anyway; waiting here and not inside SQLite never ends in "database is locked" and never blocks an
event loop. It also keeps a commit and a checkpoint apart, which SQLite 3.7.0 to 3.51.2 need: there, a
checkpoint that resets the WAL while another connection commits can lose that commit (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from memctx.errors import StoreError

fcntl: Any = None
with suppress(ImportError):  # Windows has none
    fcntl = importlib.import_module("fcntl")

SHORTEST, LONGEST = 0.0002, 0.005  # seconds between two looks


class WriterLock:
    """`path`: a file beside the database, made if absent; None: among the threads and loops of this process only."""

    def __init__(self, path: Path | None) -> None:
        self._inside = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # the one whose task holds the lock
        self._file = None if path is None or fcntl is None else os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    @property
    def across_processes(self) -> bool:
        return self._file is not None

    @contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Hold the lock, or raise `StoreError` (`store_busy`) after `timeout` seconds."""
        end = time.monotonic() + timeout
        if not self._inside.acquire(blocking=False):
            self._not_against_myself()
            if not self._inside.acquire(timeout=timeout):
                raise busy(timeout)
        try:
            for wait in self._looks(end, timeout):
                time.sleep(wait)
            yield
        finally:
            self._let_go()

    @asynccontextmanager
    async def aheld(self, timeout: float) -> AsyncIterator[None]:
        """The same for a task; the loop goes on while it waits."""
        end = time.monotonic() + timeout
        while not self._inside.acquire(blocking=False):
            if time.monotonic() > end:
                raise busy(timeout)
            await asyncio.sleep(random.uniform(SHORTEST, LONGEST))
        self._loop = asyncio.get_running_loop()
        try:
            for wait in self._looks(end, timeout):
                await asyncio.sleep(wait)
            yield
        finally:
            self._let_go()

    def close(self) -> None:
        """Give the file back; only when nobody holds the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _looks(self, end: float, timeout: float) -> Iterator[float]:
        """Pauses between looks at the file's lock; ends when it is ours."""
        while self._file is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise busy(timeout) from None
                yield random.uniform(SHORTEST, LONGEST)
            else:
                return

    def _let_go(self) -> None:
        self._loop = None
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._inside.release()

    def _not_against_myself(self) -> None:
        """A sync call inside the loop whose task holds the lock would wait for ever: that task cannot go on."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._loop is here:
            text = "a sync call while a task of the same event loop writes: use the async twin (awrite) inside the loop"
            raise StoreError(text, code="store_busy")


def busy(timeout: float) -> StoreError:
    """What a caller sees who waited too long."""
    text = f"another writer held the store for {timeout:g} s: hold transactions shorter, or raise `timeout`"
    return StoreError(text, code="store_busy", seconds=timeout)
