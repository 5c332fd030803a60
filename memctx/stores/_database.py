"""One opened database: its engines, its writer lock, and how a transaction runs on it, sync or async."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from sqlalchemy import Connection

from memctx.errors import ConfigError
from memctx.stores import _engine, _schema
from memctx.stores._faults import Tries
from memctx.stores._lock import WriterLock
from memctx.stores._loops import Loops, finished
from memctx.stores._threads import Threads
from memctx.stores._where import Where

T = TypeVar("T")
Work = Callable[[Connection], T]

RACE = ((3, 7, 0), (3, 51, 3))  # SQLite versions from .. to (exclusive) whose WAL reset can lose a commit
_warned: list[str] = []  # once a process


def _always() -> None:
    """A transaction that nobody ends from outside."""


class Database:
    """Raises nothing until `open` or the first transaction."""

    def __init__(self, where: Where, timeout: float, pool: int) -> None:
        self.where = where
        self.timeout = timeout
        self._engine = _engine.sync_engine(where, timeout, pool)
        self._loops = Loops(lambda: _engine.async_engine(where, timeout, pool))
        self._threads = Threads(pool) if where.dialect == "sqlite" else None
        self._anchor: sqlite3.Connection | None = None
        self._lock: WriterLock | None = None

    def open(self) -> str:
        """Make file and schema where there are none; returns the schema's revision, which the caller must check."""
        if self.where.dialect == "sqlite":
            self._open_sqlite()
        revision = self.run(_schema.found, write=False)
        if revision is None:
            revision = self.run(lambda conn: _schema.create(conn, self.where), write=True, isolation="READ COMMITTED")
        return revision

    def run(
        self, work: Work[T], *, write: bool, isolation: str | None = None, wanted: Callable[[], None] = _always
    ) -> T:
        """Run `work` in one transaction, and again from its start while the database says that this may help.

        What `wanted` raises, while waiting or before the commit, ends it with a rollback.
        """
        options = self._options(write, isolation)

        def once(tries: Tries) -> T:
            with self._turn(write, tries.left, wanted), self._engine.connect() as conn:
                conn.execution_options(**options)
                with conn.begin():
                    answer = work(conn)
                    wanted()
                    return answer

        return self.tried(once, write=write)

    async def arun(self, work: Work[T], *, write: bool) -> T:
        """The same for a task of an event loop."""
        if self._threads is not None:
            return await self._threads.run(lambda stop: self.run(work, write=write, wanted=stop.check), write=write)
        tries = Tries(self.where, self.timeout, write=write)
        while True:
            try:
                return await finished(self._on_server(work, write))
            except Exception as cause:
                fault = cause
            try:  # outside the handler: an error of ours must not carry the driver's text along
                wait = tries.pause(fault)
            finally:
                del fault
            await asyncio.sleep(wait)

    async def _on_server(self, work: Work[T], write: bool) -> T:
        here = await self._loops.here()
        async with here.engine.connect() as conn:
            await conn.execution_options(**self._options(write, None))
            async with conn.begin():
                return await conn.run_sync(work)

    def tried(self, once: Callable[[Tries], T], *, write: bool = True) -> T:
        """Call `once` until it succeeds, fails for good, or the time is up."""
        tries = Tries(self.where, self.timeout, write=write)
        while True:
            try:
                return once(tries)
            except Exception as cause:
                fault = cause
            try:  # outside the handler, as above
                wait = tries.pause(fault)
            finally:
                del fault
            time.sleep(wait)

    def bare(self, statement: str, *, alone: bool = False) -> Any:
        """One statement outside any transaction; the first value of its answer, if it has one."""

        def once(tries: Tries) -> Any:
            with self._turn(alone, tries.left, _always), self._engine.connect() as conn:
                conn.execution_options(**_engine.bare(self.where.dialect))
                result = conn.exec_driver_sql(statement)
                return result.scalar() if result.returns_rows else None

        return self.tried(once)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.close()
        self._loops.close()
        self._engine.dispose()
        if self._lock is not None:
            self._lock.close()
        if self._anchor is not None:
            self._anchor.close()

    async def aclose(self) -> None:
        await self._loops.aclose()
        await asyncio.to_thread(self.close)

    def _open_sqlite(self) -> None:
        path = self.where.file
        if path is None:
            self._lock = WriterLock(None)
            name = f"{self.where.url.database}?vfs=memdb"
            # kept open: the database ends with its last connection
            self._anchor = sqlite3.connect(name, uri=True, check_same_thread=False)
            return
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives the files beside it the same mode
            self._lock = WriterLock(path.with_name(path.name + "-lock"))
        except OSError as cause:
            text = f"{path} cannot be written ({cause.strerror}): give a path that this user may write"
            raise ConfigError(text, field="where", path=str(path)) from None
        if not self._lock.across_processes:
            _warn_of_race(sqlite3.sqlite_version_info)
        if self.bare("PRAGMA journal_mode") != "wal" and self.bare("PRAGMA journal_mode=WAL", alone=True) != "wal":
            text = f"{path} is on a file system without shared memory for SQLite's WAL: use a local disk, or PostgreSQL"
            raise ConfigError(text, field="where", path=str(path))

    def _turn(self, write: bool, timeout: float, wanted: Callable[[], None]) -> AbstractContextManager[None]:
        """What a transaction holds: the writer lock. A database in memory has no snapshots, so its readers hold it too."""
        alone = write or self.where.file is None
        return self._lock.held(timeout, wanted) if self._lock and alone else nullcontext()

    def _options(self, write: bool, isolation: str | None) -> dict[str, Any]:
        options = _engine.options(self.where.dialect, write=write)
        if isolation and "isolation_level" in options:
            options["isolation_level"] = isolation
        return options


def _warn_of_race(version: tuple[int, ...]) -> None:
    if not RACE[0] <= version < RACE[1] or _warned:
        return
    number = ".".join(map(str, version))
    text = f"SQLite {number} can lose a commit when another process checkpoints: use 3.51.3, or write from one process"
    _warned.append(text)
    warnings.warn(text, RuntimeWarning, stacklevel=5)
