"""pgvector: the vectors in PostgreSQL, beside the rows, so that nothing has to be held in memory or saved.

A scope of up to 20,000 rows is compared whole; a larger one is searched with an HNSW index that goes on until enough rows
of the scope were found (pgvector's iterative scan), and compared whole if they were not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    Integer,
    Text,
    any_,
    cast,
    column,
    delete,
    func,
    literal_column,
    select,
    table,
    text,
)  # fmt: skip
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import UserDefinedType

from memctx.errors import ConfigError
from memctx.scope import below
from memctx.stores import Batch
from memctx.stores import _vectors as check
from memctx.stores._vectors import Ids, Scores, Vectors
from memctx.stores.sql import SqlStore

OLDEST = (0, 8)  # the first pgvector with iterative scans
EXACT_MOST = 20_000  # rows
WIDEST = 2_000  # dimensions that pgvector can index; wider vectors are compared one by one
PAGE = 2_000  # rows in one statement
Where = list[ColumnElement[bool]]
EFFORT = {"hnsw.iterative_scan": "strict_order", "hnsw.ef_search": "200", "hnsw.max_scan_tuples": "100000"}

TABLES = """
CREATE TABLE IF NOT EXISTS embedding_space (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, embedder text NOT NULL UNIQUE, dim integer NOT NULL,
    applied bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS embedding_vec (
    space integer NOT NULL REFERENCES embedding_space ON DELETE CASCADE, scope text COLLATE "C" NOT NULL,
    record bigint NOT NULL, vector vector NOT NULL, PRIMARY KEY (space, scope, record));
"""
INSERT = """
INSERT INTO embedding_vec (space, scope, record, vector) SELECT :space, :scope, *
FROM unnest(CAST(:ids AS bigint[]), CAST(CAST(:vectors AS text[]) AS vector[]))
ON CONFLICT (space, scope, record) DO UPDATE SET vector = excluded.vector
"""


class _Vector(UserDefinedType[Any]):
    """pgvector's type, of one width or of any."""

    cache_ok = True

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def get_col_spec(self, **_: Any) -> str:
        return "vector" if self.dim is None else f"vector({self.dim})"


vec = table(
    "embedding_vec", column("space", Integer), column("scope", Text), column("record", BigInteger), column("vector")
)


class PgVectorIndex:
    """The vectors of one embedder in the database of `store`, shared by every process that opens it.

    Raises `ConfigError` for a store that is not PostgreSQL, or has no pgvector 0.8 or newer. Vectors of another width under
    the same embedder's name are removed; `applied` is 0 then and `damaged` says so.
    """

    def __init__(self, store: SqlStore, embedder: str, dim: int) -> None:
        if store.dialect != "postgresql":
            raise ConfigError(f"PgVectorIndex needs PostgreSQL, not {store.dialect}: use FaissIndex", field="store")
        self._dim, self.damaged = check.width(dim), ""
        # Connections of its own: it is fed inside a transaction of the store, which may not call the store again.
        self._store = SqlStore(store._db.where.url.render_as_string(hide_password=False))
        try:
            self._extension()
            self._space = self._store.write(lambda conn: self._opened(conn, embedder))
        except BaseException:
            self._store.close()
            raise

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._dim

    @property
    def applied(self) -> int:
        """The last change of the store that the index holds; in the database, so every process sees the same."""
        query = text("SELECT applied FROM embedding_space WHERE id = :space")
        return int(self._store.read(lambda conn: conn.execute(query, {"space": self._space}).scalar_one()))

    @applied.setter
    def applied(self, number: int) -> None:
        query = text("UPDATE embedding_space SET applied = :number WHERE id = :space")
        self._store.write(lambda conn: conn.execute(query, {"number": number, "space": self._space}))

    def add(self, batch: Batch) -> None:
        """Add or replace rows. Raises `EmbeddingError`; then nothing was added."""
        ready = check.checked(batch, self._dim)
        if len(ready.ids):
            self._store.write(lambda conn: self._insert(conn, ready))

    def remove(self, scope: str, ids: Sequence[int]) -> int:
        """Remove rows; returns how many were there."""
        gone = check.row_ids(ids, unique=False)
        query = delete(vec).where(*self._mine(scope), _among(gone))
        return self._store.write(lambda conn: conn.execute(query).rowcount) if len(gone) else 0

    def drop(self, scope: str) -> int:
        """Remove a scope and all below it; returns how many rows went."""
        first, after = below(check.inside(scope))
        query = delete(vec).where(vec.c.space == self._space, vec.c.scope >= first, vec.c.scope < after)
        return self._store.write(lambda conn: conn.execute(query).rowcount)

    def search(self, queries: Vectors, k: int, scope: str, only: Ids | None = None) -> tuple[Ids, Scores]:
        """The k nearest rows for queries (m, dim): ids and inner products, (m, k), best first, -1 and -inf for none."""
        asked = self._asked(queries, k, scope, only)
        return self._store.read(lambda conn: self._found(conn, *asked))

    async def asearch(self, queries: Vectors, k: int, scope: str, only: Ids | None = None) -> tuple[Ids, Scores]:
        """As `search`, on a connection of the running loop."""
        asked = self._asked(queries, k, scope, only)
        return await self._store.aread(lambda conn: self._found(conn, *asked))

    def count(self, scope: str | None = None) -> int:
        """Rows in a scope, or in all."""
        where = [vec.c.space == self._space] if scope is None else self._mine(scope)
        query = select(func.count()).select_from(vec).where(*where)
        return self._store.read(lambda conn: int(conn.execute(query).scalar_one()))

    def rebuild(self, batches: Iterable[Batch]) -> None:
        """Replace everything by these rows, in one transaction; on an error nothing changed."""
        ready = [check.checked(batch, self._dim) for batch in batches]

        def work(conn: Connection) -> None:
            conn.execute(delete(vec).where(vec.c.space == self._space))
            for batch in ready:
                self._insert(conn, batch)

        self._store.write(work)
        self.damaged = ""

    def verify(self, batches: Iterable[Batch]) -> list[str]:
        """How the index differs from these rows."""
        scopes = select(vec.c.scope).distinct().where(vec.c.space == self._space).order_by(vec.c.scope)

        def work(conn: Connection) -> list[str]:
            names = [str(row[0]) for row in conn.execute(scopes)]
            return check.differences(batches, self._dim, names, lambda scope: self._held(conn, scope))

        return self._store.read(work)

    def save(self) -> None:
        """Nothing: every change was committed."""

    def close(self) -> None:
        """Give its connections back."""
        self._store.close()

    def describe(self, scope: str) -> dict[str, Any]:
        """How a scope is searched, and why."""
        rows = self.count(scope)
        if self._dim > WIDEST:
            return {"kind": "flat", "rows": rows, "why": f"pgvector indexes at most {WIDEST:,} dimensions"}
        kind = "flat" if rows <= EXACT_MOST else "hnsw"
        return {"kind": kind, "rows": rows, "why": f"{rows:,} rows; up to {EXACT_MOST:,} are compared one by one"}

    def _extension(self) -> None:
        """Make pgvector available, or say what is missing."""
        try:
            self._store.write(lambda conn: conn.execute(text("CREATE EXTENSION IF NOT EXISTS vector")))
        except (DBAPIError, ConfigError) as problem:
            missing = "pgvector cannot be used on this server"
            advice = "install it (0.8 or newer) and let an administrator run CREATE EXTENSION vector"
            raise ConfigError(f"{missing}: {advice}", field="store") from problem
        query = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        version = str(self._store.read(lambda conn: conn.execute(query).scalar_one()))
        if not recent(version):
            raise ConfigError(f"pgvector {version} is too old: 0.8 or newer searches inside a scope", field="store")

    def _opened(self, conn: Connection, embedder: str) -> int:
        """The number of the embedder's rows; tables and index are made if absent."""
        conn.execute(text("SELECT pg_advisory_xact_lock(hashtext('memctx embedding_vec'))"))
        for statement in filter(str.strip, TABLES.split(";")):
            conn.execute(text(statement))
        given = {"embedder": embedder, "dim": self._dim}
        found = "SELECT id, dim FROM embedding_space WHERE embedder = :embedder"
        there = conn.execute(text(found), given).one_or_none()
        if there is not None and there.dim != self._dim:
            self.damaged = f"it holds rows of width {there.dim}, not {self._dim}"
            conn.execute(text("DELETE FROM embedding_space WHERE id = :id"), {"id": there.id})  # and every row of it
            conn.execute(text(f"DROP INDEX IF EXISTS embedding_vec_hnsw_{int(there.id)}"))
        conn.execute(
            text("INSERT INTO embedding_space (embedder, dim) VALUES (:embedder, :dim) ON CONFLICT DO NOTHING"), given
        )
        number = conn.execute(text(found), given).one().id
        if self._dim <= WIDEST:
            name, column = f"embedding_vec_hnsw_{int(number)}", f"(vector::vector({self._dim})) vector_ip_ops"
            where = f"WHERE space = {int(number)}"
            conn.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS {name} ON embedding_vec USING hnsw ({column}) {where}")
        return int(number)

    def _insert(self, conn: Connection, batch: Batch) -> None:
        for start in range(0, len(batch.ids), PAGE):
            some = slice(start, start + PAGE)
            vectors = [_literal(row) for row in batch.vectors[some]]
            given = {"space": self._space, "scope": batch.scope, "ids": batch.ids[some].tolist(), "vectors": vectors}
            conn.execute(text(INSERT), given)

    def _asked(self, queries: Vectors, k: int, scope: str, only: Ids | None) -> tuple[Vectors, int, Where]:
        ready, k, chosen = check.rows(queries, self._dim, "queries"), check.limit(k), check.allowed(only)
        return ready, k, self._mine(scope) if chosen is None else [*self._mine(scope), _among(chosen)]

    def _mine(self, scope: str) -> Where:
        """The rows of a scope. The number is written out: the index is for this one, and a parameter would hide that."""
        return [vec.c.space == literal_column(str(self._space)), vec.c.scope == check.inside(scope)]

    def _found(self, conn: Connection, queries: Vectors, k: int, mine: Where) -> tuple[Ids, Scores]:
        """Search within one snapshot."""
        answer = check.blank(len(queries), k)
        there = conn.scalar(
            select(func.count()).select_from(select(vec.c.record).where(*mine).limit(EXACT_MOST + 1).subquery())
        )
        indexed = (there or 0) > EXACT_MOST and self._dim <= WIDEST
        for name, value in EFFORT.items() if indexed else ():
            conn.execute(select(func.set_config(name, value, True)))
        for at, query in enumerate(queries if there else ()):
            rows = self._nearest(conn, query, k, mine) if indexed else []
            if len(rows) < min(k, there or 0):
                rows = self._compared(conn, query, k, mine)
            for place, (record, distance) in enumerate(rows):
                answer[0][at, place], answer[1][at, place] = record, -distance
        return answer

    def _nearest(self, conn: Connection, query: Any, k: int, mine: Where) -> Sequence[Any]:
        """By the HNSW index, the scope applied as it is walked."""
        distance = _distance(cast(vec.c.vector, _Vector(self._dim)), query)
        return conn.execute(select(vec.c.record, distance).where(*mine).order_by(distance).limit(k)).all()

    def _compared(self, conn: Connection, query: Any, k: int, mine: Where) -> Sequence[Any]:
        """Every row of the scope."""
        distance = _distance(vec.c.vector, query)  # without the cast of the index, which therefore is not used
        return conn.execute(select(vec.c.record, distance).where(*mine).order_by(distance, vec.c.record).limit(k)).all()

    def _held(self, conn: Connection, scope: str) -> tuple[Ids, Vectors]:
        rows = conn.execute(select(vec.c.record, cast(vec.c.vector, ARRAY(REAL))).where(*self._mine(scope))).all()
        ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        return ids, np.asarray([row[1] for row in rows], np.float32).reshape(len(rows), self._dim)


def recent(version: str) -> bool:
    """Whether a version of pgvector is new enough."""
    numbers = [int(part) if part.isdigit() else 0 for part in version.split(".")[:2]]
    return tuple(numbers) >= OLDEST


def _among(ids: Ids) -> ColumnElement[bool]:
    return vec.c.record == any_(cast(ids.tolist(), ARRAY(BigInteger)))


def _distance(vectors: ColumnElement[Any], query: Any) -> ColumnElement[float]:
    """The inner product, negative so that the nearest is the least."""
    return vectors.op("<#>", return_type=Float())(cast(_literal(query), _Vector()))


def _literal(vector: Any) -> str:
    """As pgvector reads it; nine digits give a float32 back as it was."""
    return "[" + ",".join(f"{value:.9g}" for value in vector.tolist()) + "]"
