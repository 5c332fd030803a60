"""The store: threads, plans, spans, memories and traces in SQLite (a file, nothing to set up) or PostgreSQL 15 or newer.

    store = SqlStore("agent.db")                                    # or ":memory:", or "postgresql://user@host/name"
    version = store.save_plan(scope("acme", "ana"), "thread-1", plan, expected=0)

What returned is durable: SQLite runs with WAL and `synchronous=FULL`. A transaction is a function of a SQLAlchemy
`Connection`, the same for sync and async callers; it is all there or not at all, and may run more than once before it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection

from memctx.errors import ConfigError, StoreError
from memctx.stores import _rows, _schema
from memctx.stores._database import Database
from memctx.stores._where import located

T = TypeVar("T")
Work = Callable[[Connection], T]

PLAN = "plan"
_working: ContextVar[object] = ContextVar("memctx_store_working", default=None)


class SqlStore:
    """One database, shared by threads, event loops and processes.

    `where`: a path, `:memory:`, or a URL. `timeout`: seconds until a call that waits for another writer gives up with
    `StoreError` (`store_busy`). `pool`: connections at once (PostgreSQL: for sync callers, and for each event loop). Opening makes a
    schema where there is none. Raises `ConfigError` for a place that cannot be one, `StoreError` for one that cannot serve.
    """

    def __init__(self, where: str | Path = ":memory:", *, timeout: float = 30.0, pool: int = 10) -> None:
        if not timeout > 0 or pool < 1:
            raise ConfigError(f"timeout = {timeout!r}, pool = {pool!r}: both must be above 0", field="timeout")
        self._process = os.getpid()
        self._closed = False
        self._db = Database(located(where), timeout, pool)
        try:
            _schema.check(self._db.open(), self._db.where)
        except BaseException:
            self.close()
            raise

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._db.where.dialect

    @property
    def file(self) -> Path | None:
        """The SQLite file; None in memory and on a server."""
        return self._db.where.file

    def __repr__(self) -> str:
        return f"SqlStore({str(self._db.where)!r})"

    # Transactions

    def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction and return its answer when it is durable.

        Run again, whole, when the database could not serialise it; so `work` should change nothing but rows, and not call
        the store. What `work` raises undoes everything and comes out as it is.
        """
        return self._db.run(self._checked(work), write=True)

    def read(self, work: Work[T]) -> T:
        """Run `work` on one snapshot; it cannot write."""
        return self._db.run(self._checked(work), write=False)

    async def awrite(self, work: Work[T]) -> T:
        """As `write`. Cancelled: the transaction is undone before the caller goes on, unless it was committed already."""
        return await self._db.arun(self._checked(work), write=True)

    async def aread(self, work: Work[T]) -> T:
        """As `read`."""
        return await self._db.arun(self._checked(work), write=False)

    # Rows

    def plan(self, scope: str, thread: str) -> tuple[int, dict[str, Any]] | None:
        """(version, data) of a thread's plan, or None."""
        return self.read(_rows.load_document(scope, PLAN, thread))

    async def aplan(self, scope: str, thread: str) -> tuple[int, dict[str, Any]] | None:
        return await self.aread(_rows.load_document(scope, PLAN, thread))

    def save_plan(self, scope: str, thread: str, data: Mapping[str, Any], expected: int) -> int:
        """Save a plan whose version is `expected` (0: there is none) and return its new version, one more.

        Raises `ConflictError` with the version found if someone else was first; nothing is changed then.
        """
        return self.write(_rows.save_document(scope, PLAN, thread, data, expected))

    async def asave_plan(self, scope: str, thread: str, data: Mapping[str, Any], expected: int) -> int:
        return await self.awrite(_rows.save_document(scope, PLAN, thread, data, expected))

    def put_span(self, scope: str, thread: str, handle: str, content: str) -> None:
        """Keep a text that left a view. Every Python text comes back as it was."""
        self.write(_rows.put_span(scope, thread, handle, content))

    async def aput_span(self, scope: str, thread: str, handle: str, content: str) -> None:
        await self.awrite(_rows.put_span(scope, thread, handle, content))

    def span(self, scope: str, thread: str, handle: str) -> str:
        """The text kept under a handle; raises `NotFound`."""
        return self.read(_rows.get_span(scope, thread, handle))

    async def aspan(self, scope: str, thread: str, handle: str) -> str:
        return await self.aread(_rows.get_span(scope, thread, handle))

    def trace(self, scope: str, thread: str, data: Mapping[str, Any]) -> None:
        """Append what was decided."""
        self.write(_rows.put_trace(scope, thread, data))

    async def atrace(self, scope: str, thread: str, data: Mapping[str, Any]) -> None:
        await self.awrite(_rows.put_trace(scope, thread, data))

    # Care

    def scrub(self) -> list[Path]:
        """After an erase: leave no deleted text in any file. Returns every file this store's rows can lie in.

        SQLite: the file is rewritten and the write-ahead log emptied, in time that grows with the file: `secure_delete` has
        overwritten what was deleted, but not the copies that stay in gaps of pages when SQLite moves rows between them.
        Raises `StoreError` (`store_busy`) while a reader holds an old snapshot. PostgreSQL: VACUUM; its files are its own.
        """
        self._check()
        path = self._db.where.file
        if path is None:
            if self.dialect == "postgresql":
                self._db.bare("VACUUM")
            return []
        self._db.bare("VACUUM", alone=True)
        if self._db.bare("PRAGMA wal_checkpoint(TRUNCATE)", alone=True):
            raise StoreError("a reader holds an old snapshot: end it and scrub again", code="store_busy")
        beside = (path.with_name(path.name + end) for end in ("", "-wal", "-shm"))
        return [each for each in beside if each.exists()]

    async def ascrub(self) -> list[Path]:
        return await asyncio.to_thread(self.scrub)

    def verify(self) -> list[str]:
        """What is wrong with the rows and the file, as sentences; empty if nothing is."""
        return self.read(_rows.problems)

    async def averify(self) -> list[str]:
        return await asyncio.to_thread(self.verify)

    def close(self) -> None:
        """Give back every connection. Closing twice is fine; in a forked child nothing is touched."""
        if self._closed:
            return
        self._closed = True
        if os.getpid() == self._process:
            self._db.close()

    async def aclose(self) -> None:
        """As `close`, in order for the running loop."""
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        await self._db.aclose()

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _check(self) -> None:
        if self._closed:
            raise StoreError(f"{self!r} is closed: open it again", code="store_closed")
        if os.getpid() != self._process:
            text = f"{self!r} was opened before a fork: open a store in each process"
            raise StoreError(text, code="forked_store")
        if _working.get() is self:
            raise ConfigError("a work function calls its own store: use the connection it is given", code="nested_call")

    def _checked(self, work: Work[T]) -> Work[T]:
        """`work`, marked while it runs, so that a call of the store inside it is refused and does not wait for itself."""
        self._check()

        def marked(conn: Connection) -> T:
            token = _working.set(self)
            try:
                return work(conn)
            finally:
                _working.reset(token)

        return marked


def upgrade(where: str | Path, *, timeout: float = 30.0) -> tuple[str, str]:
    """Bring a database to the newest schema, whole or not at all. Returns its revision before and after.

    Raises `StoreError` (`schema_too_new`) for one that a newer memctx wrote.
    """
    place = located(where)
    if place.file is not None and not place.file.exists():
        raise ConfigError(f"there is no store at {place}: look at the path", field="where", path=str(place))
    db = Database(place, timeout, pool=1)
    try:
        before = db.open()
        if before < _schema.newest():
            db.run(_schema.upgrade, write=True, isolation="READ COMMITTED")
        _schema.check(after := db.run(_schema.found, write=False) or "", db.where)
        return before, after
    finally:
        db.close()
