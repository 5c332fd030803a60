"""One writer at a time, among threads and processes.

SQLite allows one writer anyway; waiting here and not inside SQLite never ends in "database is locked". It also keeps a commit
and a checkpoint apart, which SQLite 3.7.0 to 3.51.2 need: there, a checkpoint that resets the WAL while another connection
commits can lose that commit (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import importlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from memctx.errors import StoreError

fcntl: Any = None
with suppress(ImportError):  # Windows has none
    fcntl = importlib.import_module("fcntl")

SHORTEST, LONGEST = 0.0002, 0.005  # seconds between two looks at the file's lock
GLANCE = 0.05  # seconds until a waiting thread asks whether it is still wanted


class WriterLock:
    """`path`: a file beside the database, made if absent; None: among the threads of this process only."""

    def __init__(self, path: Path | None) -> None:
        self._inside = threading.Lock()
        self._file = None if path is None or fcntl is None else os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    @property
    def across_processes(self) -> bool:
        return self._file is not None

    @contextmanager
    def held(self, timeout: float, wanted: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock, or raise `StoreError` (`store_busy`) after `timeout` seconds, or what `wanted` raises meanwhile."""
        end = time.monotonic() + timeout
        while not self._inside.acquire(timeout=GLANCE):
            _go_on(end, timeout, wanted)
        try:
            while not self._taken():
                _go_on(end, timeout, wanted)
                time.sleep(random.uniform(SHORTEST, LONGEST))
            yield
        finally:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            self._inside.release()

    def close(self) -> None:
        """Give the file back; only when nobody holds the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _taken(self) -> bool:
        if self._file is None:
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _go_on(end: float, timeout: float, wanted: Callable[[], None]) -> None:
    wanted()
    if time.monotonic() > end:
        text = f"another writer held the store for {timeout:.3g} s: hold transactions shorter, or raise `timeout`"
        raise StoreError(text, code="store_busy", seconds=timeout)
