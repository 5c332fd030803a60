"""What a store does to its rows: each function returns the work of one transaction, for `SqlStore.write` or `read`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Table, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from memctx.errors import ConflictError, NotFound
from memctx.stores._tables import document, embedding, record, span, trace

ESCAPED = "\x01"  # what follows is JSON
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL refuses NUL, UTF-8 has no lone surrogate

Data = dict[str, Any]


def inserting(conn: Connection, table: Table) -> Any:
    """An INSERT into `table` that has `on_conflict_do_nothing` and `on_conflict_do_update`, for either database."""
    return (postgresql if conn.dialect.name == "postgresql" else sqlite).insert(table)


def load_document(scope: str, kind: str, name: str) -> Callable[[Connection], tuple[int, Data] | None]:
    """(version, data) of a document, or None."""
    wanted = select(document.c.version, document.c.data).where(*_document(scope, kind, name))

    def work(conn: Connection) -> tuple[int, Data] | None:
        row = conn.execute(wanted).one_or_none()
        return None if row is None else (row.version, row.data)

    return work


def save_document(
    scope: str, kind: str, name: str, data: Mapping[str, Any], expected: int
) -> Callable[[Connection], int]:
    """Save a document whose version is `expected`, 0 for a new one. Returns its next version; raises `ConflictError`."""

    def work(conn: Connection) -> int:
        now = time.time()
        values = {"data": dict(data), "version": expected + 1, "updated": now}
        if expected == 0:
            row = {"scope": scope, "kind": kind, "name": name, "created": now, **values}
            change: Any = inserting(conn, document).values(row).on_conflict_do_nothing()
        else:
            same = document.c.version == expected
            change = update(document).where(*_document(scope, kind, name), same).values(values)
        saved: int | None = conn.execute(
            change.returning(document.c.version)
        ).scalar()  # rowcount: not for every driver
        if saved is not None:
            return saved
        actual = conn.execute(select(document.c.version).where(*_document(scope, kind, name))).scalar() or 0
        text = f"{kind} {name!r:.80} is at version {actual}, not {expected}: load it again and repeat the change"
        raise ConflictError(text, expected=expected, actual=actual)

    return work


def put_span(scope: str, thread: str, handle: str, content: str) -> Callable[[Connection], None]:
    """Keep what left a view; the same handle again replaces it."""

    def work(conn: Connection) -> None:
        row = {"scope": scope, "thread": thread, "handle": handle, "content": _escaped(content), "created": time.time()}
        keys = ["scope", "thread", "handle"]
        conn.execute(inserting(conn, span).values(row).on_conflict_do_update(index_elements=keys, set_=row))

    return work


def get_span(scope: str, thread: str, handle: str) -> Callable[[Connection], str]:
    """What was kept under a handle; raises `NotFound`."""
    where = (span.c.scope == scope, span.c.thread == thread, span.c.handle == handle)

    def work(conn: Connection) -> str:
        content = conn.execute(select(span.c.content).where(*where)).scalar()
        if content is None:
            raise NotFound(f"no span {handle!r:.80} in thread {thread!r:.80}")
        return unescaped(content)

    return work


def put_trace(scope: str, thread: str, data: Mapping[str, Any]) -> Callable[[Connection], None]:
    """Append what was decided."""

    def work(conn: Connection) -> None:
        conn.execute(insert(trace).values(scope=scope, thread=thread, at=time.time(), data=dict(data)))

    return work


def problems(conn: Connection) -> list[str]:
    """What is wrong with the rows, and on SQLite with the file."""
    said: list[str] = []
    if conn.dialect.name == "sqlite":
        rows = conn.execute(text("PRAGMA integrity_check")).scalars()
        said += [f"the file is damaged: {row}" for row in rows if row != "ok"]
        broken = conn.execute(text("PRAGMA foreign_key_check")).all()
        said += [f"a row of {row[0]} points to a row of {row[2]} that does not exist" for row in broken]
    join = embedding.outerjoin(record, record.c.id == embedding.c.record)
    strange = record.c.id.is_(None) | (record.c.scope != embedding.c.scope)
    ids = conn.execute(select(embedding.c.record).select_from(join).where(strange)).scalars()
    return said + [f"the vector of record {number} is in another scope than the record" for number in ids]


def _document(scope: str, kind: str, name: str) -> tuple[Any, ...]:
    return document.c.scope == scope, document.c.kind == kind, document.c.name == name


def _escaped(content: str) -> str:
    plain = content.isascii() and "\x00" not in content and not content.startswith(ESCAPED)
    if plain or not (content.startswith(ESCAPED) or _UNSTORABLE.search(content)):
        return content
    return ESCAPED + json.dumps(content)


def unescaped(stored: str) -> str:
    if not stored.startswith(ESCAPED):
        return stored
    content: str = json.loads(stored[1:])
    return content
