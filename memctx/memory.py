"""Memory: what left the view and is worth keeping, found again by meaning and by words, corrected, and erased.

    memory = Memory("memory.db")
    ana = memory.at("acme", "ana")                     # no call exists without a scope
    ana.write("Deploys need two approvals", source="user")
    for hit in ana.search("who approves a deploy?", k=3): ...
    ana.erase()                                        # rows, vectors, words, spans; says what it looked for afterwards

SQL holds the truth. Vectors and words are indices beside it that are read again whenever they are lost or damaged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from memctx.embed import Embedder, aembed
from memctx.embed import embedder as _embedder
from memctx.errors import EmbeddingError
from memctx.scope import scope as scope_of
from memctx.stores._feed import LINES, Feed, trim
from memctx.stores._quota import Quota
from memctx.stores._visible import Place
from memctx.stores.hybrid import Hybrid
from memctx.stores.sql import SqlStore
from memctx.stores.words import WordIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.scoped import Scoped
    from memctx.stores import VectorIndex

T = TypeVar("T")
SAVE_EVERY = 10_000  # changes of the index after which it is written to disk


class Memory:
    """All scopes of one store. Safe to share between threads and event loops.

    `store`: a file, a SQLAlchemy URL, or a `SqlStore`; by default in memory, gone with the process. `embedder`: what
    `memctx.embed.embedder` takes. `index`: a `VectorIndex`; by default FAISS beside the file where it is installed, else exact
    search. `ranker`: how meaning and words are weighed. `quota`: how many records a scope may have. `clock`: seconds.
    """

    def __init__(
        self,
        store: SqlStore | str | Path = ":memory:",
        *,
        embedder: str | Embedder | Callable[..., Any] = "default",
        index: VectorIndex | None = None,
        ranker: Hybrid | None = None,
        quota: Quota | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        chosen = _embedder(embedder)
        self.ranker = ranker or Hybrid()
        self.quota = quota or Quota()
        self.clock = clock
        self.store = store if isinstance(store, SqlStore) else SqlStore(store)
        try:
            self._use(chosen, index)
        except BaseException:
            if self.store is not store:
                self.store.close()
            raise

    def _use(self, chosen: Embedder, index: VectorIndex | None) -> None:
        self.embedder = chosen
        if index is not None and index.dim != self.embedder.dim:
            text = f"the index holds vectors of {index.dim} numbers and {self.embedder.name} makes {self.embedder.dim}"
            raise EmbeddingError(text, code="wrong_dimension", index=index.dim, embedder=self.embedder.dim)
        self.feed = Feed(index or _index_for(self.store, self.embedder), WordIndex(), self.embedder.name)
        self._saved = self.feed.index.applied

    def at(self, *parts: str) -> Scoped:
        """The memory of one scope: a tenant, a user, and what the host wants below. Raises `ScopeError` without parts."""
        from memctx.scoped import Scoped

        return Scoped(self, Place(scope_of(*parts)))

    # -- how every call runs -----------------------------------------------------------------------------------------

    def run(self, work: Callable[[Connection, list[bytes]], T], texts: list[str], *, writes: bool) -> T:
        """One transaction over the vectors of `texts`, made beforehand."""
        vectors = _as_bytes(self.embedder.embed(texts)) if texts else []
        return (self.store.write if writes else self.store.read)(partial(_with, work, vectors))

    async def arun(self, work: Callable[[Connection, list[bytes]], T], texts: list[str], *, writes: bool) -> T:
        """As `run`."""
        vectors = _as_bytes(await aembed(self.embedder, texts)) if texts else []
        return await (self.store.awrite if writes else self.store.aread)(partial(_with, work, vectors))

    # -- upkeep ------------------------------------------------------------------------------------------------------

    def reembed(self, what: Any, *, index: VectorIndex | None = None, batch: int = 256, progress: Any = None) -> int:
        """Give every record a vector of another embedder, and search with that; returns how many were made.

        Asks no model but the embedder. It can be stopped at any point and called again: what has a vector is passed over.
        `progress`: called with (done, all) after each batch.
        """
        from memctx.stores._reembed import reembed

        chosen = _embedder(what)
        made = reembed(self.store, chosen, batch, progress)
        self.feed.index.close()
        self._use(chosen, index)
        return made

    def verify(self) -> list[str]:
        """What is wrong with the store, and how the index differs from it, as sentences; empty if all is well."""
        from memctx.stores._feed import batches

        def check(conn: Connection) -> list[str]:
            self.feed.follow(conn, "")
            return self.feed.index.verify(batches(conn, self.embedder.name))

        return [*self.store.verify(), *self.store.read(check)]

    def save(self) -> None:
        """Write the index to its folder, if it has one, and let go of changes that every index should have by now."""
        self.feed.index.save()
        if self.feed.lines > LINES:
            self.store.write(trim)
        self._saved = self.feed.index.applied

    def save_soon(self) -> None:
        """Write the index once enough has changed since the last time."""
        if self.feed.index.applied - self._saved >= SAVE_EVERY:
            self.save()

    def close(self) -> None:
        """Write the index and close the store."""
        self.save()
        self.feed.index.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def aclose(self) -> None:
        """As `close`."""
        self.save()
        self.feed.index.close()
        await self.store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _with(work: Callable[[Connection, list[bytes]], T], vectors: list[bytes], conn: Connection) -> T:
    return work(conn, vectors)


def _as_bytes(vectors: Any) -> list[bytes]:
    return [row.astype("<f4").tobytes() for row in vectors]


def _index_for(store: SqlStore, chosen: Embedder) -> VectorIndex:
    """FAISS in a folder beside the file, else exact search in memory; for PostgreSQL an index in memory."""
    from importlib.util import find_spec

    from memctx.stores._records import digest
    from memctx.stores.exact import ExactIndex

    if find_spec("faiss") is None:
        return ExactIndex(chosen.dim)
    from memctx.stores.faiss import FaissIndex

    file = store.file
    folder = file and file.with_name(f"{file.name}.index") / digest(chosen.name)[:16]
    return FaissIndex(chosen.dim, folder)
