"""Engines: connections with the settings that make a commit durable and a delete final, and what begins a transaction."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import AsyncAdaptedQueuePool, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from memctx.stores._faults import as_json
from memctx.stores._where import Where

WRITE = "memctx_write"  # the execution option that tells a writing transaction from a reading one
BARE = "memctx_bare"  # the one of a connection that begins nothing
PRAGMAS = {
    "synchronous": "FULL",  # NORMAL loses acknowledged commits when the power fails
    "secure_delete": "ON",  # deleted text is overwritten with zeros, where it lay last
    "foreign_keys": "ON",
}


def options(dialect: str, *, write: bool) -> dict[str, Any]:
    """Execution options of a connection that will write, or only read.

    PostgreSQL: serializable, so that a work function means the same there as on SQLite, where writers follow one another.
    """
    if dialect == "sqlite":
        return {WRITE: write}
    if write:
        return {WRITE: True, "isolation_level": "SERIALIZABLE"}
    return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def bare(dialect: str) -> dict[str, Any]:
    """Execution options of a statement that runs outside any transaction."""
    return {BARE: True} if dialect == "sqlite" else {"isolation_level": "AUTOCOMMIT"}


def sync_engine(where: Where, timeout: float, pool: int) -> Engine:
    engine = create_engine(where.url, poolclass=QueuePool, **_settings(where, timeout, pool))
    return _listening(engine, where, timeout)


def async_engine(where: Where, timeout: float, pool: int) -> AsyncEngine:
    settings = _settings(where, timeout, pool)
    engine = create_async_engine(where.url, poolclass=AsyncAdaptedQueuePool, **settings)
    _listening(engine.sync_engine, where, timeout)
    return engine


def _settings(where: Where, timeout: float, pool: int) -> dict[str, Any]:
    if where.dialect == "sqlite":
        # isolation_level None: the driver begins nothing by itself, `_begin` does
        connect: dict[str, Any] = {"timeout": timeout, "isolation_level": None, "check_same_thread": False}
    else:
        # prepare_threshold None: a pooler in transaction mode gives each transaction another server session
        connect = {"connect_timeout": max(1, min(int(timeout), 10)), "prepare_threshold": None}
    return {
        "pool_size": pool,
        "max_overflow": 0,
        "pool_timeout": timeout,
        "pool_pre_ping": where.dialect == "postgresql",
        "hide_parameters": True,  # an error's text must not hold what users said
        "json_serializer": as_json,
        "connect_args": connect,
    }


def _listening(engine: Engine, where: Where, timeout: float) -> Engine:
    if where.dialect == "sqlite":
        event.listen(engine, "connect", _connected)
        event.listen(engine, "begin", _begin)
    else:
        event.listen(engine, "begin", partial(_begin_postgres, int(timeout * 1000)))
    return engine


def _connected(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for name, value in PRAGMAS.items():
        cursor.execute(f"PRAGMA {name}={value}")
    cursor.close()


def _begin(conn: Connection) -> None:
    """IMMEDIATE takes the write lock before the first read, so that what was read is still true when it is written."""
    asked = conn.get_execution_options()
    bare = asked.get(BARE)
    write = bool(bare or asked.get(WRITE))
    if conn.info.get(WRITE, True) is not write:
        conn.exec_driver_sql(f"PRAGMA query_only={'OFF' if write else 'ON'}")
        conn.info[WRITE] = write
    if not bare:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _begin_postgres(milliseconds: int, conn: Connection) -> None:
    if conn.get_execution_options().get(WRITE):
        conn.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
