"""The feed: keeps a vector index and a word index in step with the store.

Each change of a record writes a line to the outbox in its own transaction. Before a search the lines since the last one are
applied, so an index is never ahead of what was committed, and one that is lost, damaged or too far behind is read again
from the rows. A line "erase" makes every process read again, and names nobody.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, func, insert, select

from memctx.stores import Batch, VectorIndex
from memctx.stores._tables import embedding, outbox, record
from memctx.stores._visible import CHUNK
from memctx.stores.words import WordIndex

LINES = 100_000  # of the outbox that are kept; an index further behind is read again from the rows
PAGE = 4_096  # rows read at once
ENDS = select(  # (oldest, newest) line; each by itself is a look-up, both at once would read the whole table
    select(func.min(outbox.c.seq)).scalar_subquery(), select(func.max(outbox.c.seq)).scalar_subquery()
)


class Feed:
    """Feeds one vector index with the vectors of one embedder, and one word index with texts. Safe under threads.

    The words of a scope are read when the scope is first searched. `rebuilt` counts how often the vectors were read again.
    """

    def __init__(self, index: VectorIndex, words: WordIndex, embedder: str) -> None:
        self.index = index
        self.words = words
        self.embedder = embedder
        self.rebuilt = 0
        self.lines = 0  # of the outbox, when it was last looked at
        self._worded: set[str] = set()
        self._own: set[int] = set()  # erasures that this process applied itself
        self._checked = False
        self._lock = threading.Lock()

    def follow(self, conn: Connection, scope: str) -> None:
        """Bring the index, and the words of `scope`, to what this transaction sees."""
        with self._lock:
            oldest, newest = conn.execute(ENDS).one()
            self.lines = (newest or 0) - (oldest or 1) + 1
            self._catch_up(conn, oldest or 1, newest or 0)
            if scope not in self._worded:
                self._read_words(conn, scope)

    def _catch_up(self, conn: Connection, oldest: int, newest: int) -> None:
        applied = self.index.applied
        stale = applied < oldest - 1 or (not self._checked and (applied > newest or not applied))
        self._checked = True
        if stale:
            self._again(conn, newest)
        elif applied < newest:
            lines = conn.execute(select(outbox).where(outbox.c.seq > applied).order_by(outbox.c.seq)).all()
            if any(line.op == "erase" and line.seq not in self._own for line in lines):
                self._again(conn, newest)
            else:
                self._apply(conn, lines)
                self.index.applied = newest

    def _again(self, conn: Connection, newest: int) -> None:
        self.index.rebuild(batches(conn, self.embedder))
        self.index.applied = newest
        self.rebuilt += 1
        for scope in self._worded:
            self.words.drop(scope)
        self._worded.clear()

    def _apply(self, conn: Connection, lines: Sequence[Any]) -> None:
        last: dict[str, dict[int, str]] = defaultdict(dict)  # scope -> record -> what was done to it last
        for line in lines:
            if line.op != "erase":
                last[line.scope][line.record] = line.op
        for scope, done in last.items():
            gone = [each for each, op in done.items() if op == "remove"]
            new = [each for each, op in done.items() if op == "add"]
            self.index.remove(scope, gone)
            for batch in _vectors(conn, self.embedder, scope, new):
                self.index.add(batch)
            if scope in self._worded:
                self.words.remove(scope, gone)
                self.words.add(scope, *_texts(conn, scope, new))

    def _read_words(self, conn: Connection, scope: str) -> None:
        query = select(record.c.id, record.c.text).where(record.c.scope == scope).order_by(record.c.id)
        for page in conn.execute(query.execution_options(yield_per=PAGE)).partitions():
            self.words.add(scope, [row.id for row in page], [row.text for row in page])
        self._worded.add(scope)

    def erased(self, first: str, after: str, line: int) -> dict[str, int]:
        """This process erased the scopes first <= s < after, and wrote `line` to say so; returns what it dropped."""
        with self._lock:
            self._own.add(line)
            vectors = self.index.drop(first)
            words = sum(self.words.drop(scope) for scope in self._worded if first <= scope < after)
            self._worded = {scope for scope in self._worded if not first <= scope < after}
            return {"vectors": vectors, "words": words}


def say_erased(conn: Connection) -> int:
    """Tell every process that something is gone; returns the line."""
    row = conn.execute(insert(outbox).values(scope="", op="erase", record=0).returning(outbox.c.seq))
    return int(row.scalar_one())


def trim(conn: Connection) -> None:
    """Keep the outbox within its bound."""
    newest = conn.scalar(select(func.max(outbox.c.seq))) or 0
    conn.execute(delete(outbox).where(outbox.c.seq <= newest - LINES))


def batches(conn: Connection, embedder: str) -> Iterator[Batch]:
    """Every vector of an embedder, scope by scope."""
    query = (
        select(embedding.c.scope, embedding.c.record, embedding.c.vector)
        .where(embedding.c.embedder == embedder)
        .order_by(embedding.c.scope, embedding.c.record)
    )
    scope, rows = "", list[Any]()
    for row in conn.execute(query.execution_options(yield_per=PAGE)):
        if rows and (row.scope != scope or len(rows) == PAGE):
            yield _batch(scope, rows)
            rows = []
        scope = row.scope
        rows.append(row)
    if rows:
        yield _batch(scope, rows)


def _vectors(conn: Connection, embedder: str, scope: str, ids: Sequence[int]) -> Iterator[Batch]:
    mine = (embedding.c.embedder == embedder) & (embedding.c.scope + "" == scope)  # by id: see `_visible.visible`
    for start in range(0, len(ids), CHUNK):
        some = embedding.c.record.in_(ids[start : start + CHUNK])
        rows = conn.execute(select(embedding.c.record, embedding.c.vector).where(mine, some)).all()
        if rows:
            yield _batch(scope, rows)


def vectors_of(conn: Connection, embedder: str, scope: str, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """The vectors of those rows of a scope that have one."""
    found: dict[int, NDArray[np.float32]] = {}
    for batch in _vectors(conn, embedder, scope, ids):
        found.update(zip(batch.ids.tolist(), batch.vectors, strict=True))
    return found


def _batch(scope: str, rows: Sequence[Any]) -> Batch:
    ids = np.fromiter((row.record for row in rows), np.int64, len(rows))
    return Batch(scope, ids, np.stack([np.frombuffer(row.vector, "<f4") for row in rows]).astype(np.float32))


def _texts(conn: Connection, scope: str, ids: Sequence[int]) -> tuple[list[int], list[str]]:
    found: dict[int, str] = {}
    for start in range(0, len(ids), CHUNK):
        some = record.c.id.in_(ids[start : start + CHUNK])
        rows = conn.execute(select(record.c.id, record.c.text).where(record.c.scope == scope, some))
        found.update((row.id, row.text) for row in rows)
    return list(found), list(found.values())
