"""A whole store under another embedder, in steps that can be interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, select

from memctx.embed import Embedder
from memctx.stores._tables import embedding, record
from memctx.stores.sql import SqlStore

Progress = Callable[[int, int], Any]


def reembed(store: SqlStore, chosen: Embedder, batch: int, progress: Progress | None) -> int:
    """Embed every record that has no vector of `chosen` yet; returns how many were embedded."""
    has = select(embedding.c.record).where(embedding.c.record == record.c.id, embedding.c.embedder == chosen.name)
    missing = ~has.exists()
    whole = store.read(partial(_count, missing))
    done, last = 0, 0
    while True:
        query = select(record.c.id, record.c.scope, record.c.text).where(and_(missing, record.c.id > last))
        rows = store.read(partial(_rows, query.order_by(record.c.id).limit(batch)))
        if not rows:
            return done
        vectors = chosen.embed([row.text for row in rows])
        new = [
            {"record": row.id, "embedder": chosen.name, "scope": row.scope, "vector": vector.astype("<f4").tobytes()}
            for row, vector in zip(rows, vectors, strict=True)
        ]
        done += store.write(partial(_insert, new))
        last = rows[-1].id
        if progress:
            progress(done, whole)


def _count(missing: ColumnElement[bool], conn: Connection) -> int:
    return conn.scalar(select(func.count()).where(missing).select_from(record)) or 0


def _rows(query: Select[Any, Any, Any], conn: Connection) -> Sequence[Any]:
    return conn.execute(query).all()


def _insert(rows: list[dict[str, Any]], conn: Connection) -> int:
    """Those whose record is still there."""
    alive = set(conn.scalars(select(record.c.id).where(record.c.id.in_([row["record"] for row in rows]))))
    kept = [row for row in rows if row["record"] in alive]
    if kept:
        conn.execute(insert(embedding), kept)
    return len(kept)
