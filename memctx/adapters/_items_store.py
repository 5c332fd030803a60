"""`MemctxStore`: LangGraph's store over memctx's SQL store. See `memctx.adapters.langgraph`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from langgraph.store.base import (
    NOT_PROVIDED,
    BaseStore,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    MatchCondition,
    NamespacePath,
    NotProvided,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)
from sqlalchemy import Connection

from memctx.adapters import _items as rows
from memctx.adapters._items import Kept
from memctx.adapters._items_index import index_of
from memctx.adapters._items_plan import Batch, Search, labels, minutes, planned
from memctx.scope import below, parts, scope
from memctx.stores.sql import SqlStore

if TYPE_CHECKING:
    from memctx.memory import Memory

_NONE: tuple[list[bytes], list[Any]] = ([], [])


class MemctxStore(BaseStore):
    """Items of a LangGraph application in SQLite or PostgreSQL, beside the memories and erased with them.

    `store`: a path, `:memory:`, a database URL, a `SqlStore` or a `Memory`. A namespace is a scope, so labels may hold dots,
    `@` and slashes. `index`: as for LangGraph's stores; without `embed` it is the memory's embedder or memctx's own. `ttl`: as
    there; what has expired is never returned, and later writes delete it. `under`: parts of a scope below which all
    namespaces lie. `clock`: seconds. Raises `ConfigError`, `FilterError`, `ScopeError`, `InvalidMessage`, `LimitError`.
    """

    supports_ttl = True

    def __init__(
        self,
        store: Memory | SqlStore | str | Path = ":memory:",
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        under: Sequence[str] = (),
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self._owns = isinstance(store, str | Path)
        database = SqlStore(store) if isinstance(store, str | Path) else store
        memory = None if isinstance(database, SqlStore) else database
        self.store = database if isinstance(database, SqlStore) else database.store
        self.ttl_config = ttl
        minutes((ttl or {}).get("default_ttl"))
        self.index = index_of(index, memory.embedder if memory else None)
        self._base = parts(scope(*labels(under))) if under else ()
        self._range = below(scope(*self._base)) if under else ("", "")
        self._clock = clock or (memory.clock if memory else time.time)

    # -- what LangGraph calls ----------------------------------------------------------------------------------------

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in one transaction: reads see what was there before, then the puts have their effect."""
        batch = planned(ops, self._base, self.index)
        vectors = self.index.vectors(batch.texts, batch.queries) if self.index else _NONE
        results, touched = (self.store.write if batch.puts else self.store.read)(partial(self._run, batch, vectors))
        if touched and not batch.puts:
            self.store.write(partial(self._touch, touched))
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As `batch`."""
        batch = planned(ops, self._base, self.index)
        vectors = await self.index.avectors(batch.texts, batch.queries) if self.index else _NONE
        run = self.store.awrite if batch.puts else self.store.aread
        results, touched = await run(partial(self._run, batch, vectors))
        if touched and not batch.puts:
            await self.store.awrite(partial(self._touch, touched))
        return results

    def sweep_ttl(self) -> int:
        """Delete what has expired; returns how many items."""
        swept = 0
        while some := self.store.write(lambda conn: rows.sweep(conn, self._range, self._clock())):
            swept += some
        return swept

    async def asweep_ttl(self) -> int:
        """As `sweep_ttl`."""
        swept = 0
        while some := await self.store.awrite(lambda conn: rows.sweep(conn, self._range, self._clock())):
            swept += some
        return swept

    def _run(
        self, batch: Batch, vectors: tuple[list[bytes], list[Any]], conn: Connection
    ) -> tuple[list[Result], list[Kept]]:
        now = self._clock()
        results: list[Result] = [None] * batch.size
        touched: list[Kept] = []
        found = rows.get(conn, (key for key, _ in batch.gets.values()), now) if batch.gets else {}
        for place, (key, refresh) in batch.gets.items():
            if (item := found.get(key)) is not None:
                results[place] = Item(**self._shown(item))
                touched += [item] if refresh else []
        for place, asked in batch.searches.items():
            hits = self._search(conn, asked, vectors[1], now)
            results[place] = [SearchItem(**self._shown(item), score=score) for item, score in hits]
            touched += [item for item, _ in hits] if asked.refresh else []
        for place, listing in batch.listings.items():
            results[place] = listing.of(rows.namespaces(conn, listing.within, now), len(self._base))
        touched = [item for item in touched if item.ttl is not None]
        if batch.puts:
            rows.touch(conn, touched, now)
            self._put(conn, batch, vectors[0], now)
        return results, touched

    def _search(
        self, conn: Connection, asked: Search, queries: list[Any], now: float
    ) -> list[tuple[Kept, float | None]]:
        if asked.query is None or self.index is None:
            return rows.search(conn, asked.within, now, asked.passes, asked.limit, asked.offset)
        near = rows.Near(self.index.name, queries[asked.query])
        return rows.ranked(conn, asked.within, now, asked.passes, near, asked.limit, asked.offset)

    def _put(self, conn: Connection, batch: Batch, vectors: list[bytes], now: float) -> None:
        rows.sweep(conn, self._range, now)
        rows.remove(conn, [key for key, item in batch.puts.items() if item is None])
        kept = {key: item for key, item in batch.puts.items() if item is not None}
        if kept:
            rows.put(conn, kept, vectors, self.index.name if self.index else "", now)

    def _touch(self, touched: list[Kept], conn: Connection) -> None:
        rows.touch(conn, touched, self._clock())

    def _shown(self, item: Kept) -> dict[str, Any]:
        return {
            "namespace": parts(item.scope)[len(self._base) :],
            "key": item.key,
            "value": item.value,
            "created_at": datetime.fromtimestamp(item.created, UTC),
            "updated_at": datetime.fromtimestamp(item.updated, UTC),
        }

    # -- what hosts call: LangGraph's own methods refuse a dot in a label before a store is asked --------------------

    def get(self, namespace: tuple[str, ...], key: str, *, refresh_ttl: bool | None = None) -> Item | None:
        """The item under a key, or None."""
        op = GetOp(namespace, str(key), self._refresh(refresh_ttl))
        return cast("Item | None", self.batch([op])[0])

    async def aget(self, namespace: tuple[str, ...], key: str, *, refresh_ttl: bool | None = None) -> Item | None:
        """As `get`."""
        op = GetOp(namespace, str(key), self._refresh(refresh_ttl))
        return cast("Item | None", (await self.abatch([op]))[0])

    def search(
        self,
        namespace_prefix: tuple[str, ...],
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> list[SearchItem]:
        """Items in and below a namespace: nearest to `query` first, else in the order first put."""
        op = SearchOp(namespace_prefix, filter, limit, offset, query, self._refresh(refresh_ttl))
        return cast("list[SearchItem]", self.batch([op])[0])

    async def asearch(
        self,
        namespace_prefix: tuple[str, ...],
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> list[SearchItem]:
        """As `search`."""
        op = SearchOp(namespace_prefix, filter, limit, offset, query, self._refresh(refresh_ttl))
        return cast("list[SearchItem]", (await self.abatch([op]))[0])

    def put(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None = None,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> None:
        """Keep a dict of JSON data. `ttl`: minutes after its last use."""
        self.batch([PutOp(namespace, str(key), value, index, self._ttl(ttl))])

    async def aput(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None = None,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> None:
        """As `put`."""
        await self.abatch([PutOp(namespace, str(key), value, index, self._ttl(ttl))])

    def delete(self, namespace: tuple[str, ...], key: str) -> None:
        """Delete an item; what is not there is no error."""
        self.batch([PutOp(namespace, str(key), None)])

    async def adelete(self, namespace: tuple[str, ...], key: str) -> None:
        """As `delete`."""
        await self.abatch([PutOp(namespace, str(key), None)])

    def list_namespaces(
        self,
        *,
        prefix: NamespacePath | None = None,
        suffix: NamespacePath | None = None,
        max_depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[tuple[str, ...]]:
        """Namespaces that have an item, sorted; `*` in `prefix` or `suffix` stands for one label."""
        op = _listing(prefix, suffix, max_depth, limit, offset)
        return cast("list[tuple[str, ...]]", self.batch([op])[0])

    async def alist_namespaces(
        self,
        *,
        prefix: NamespacePath | None = None,
        suffix: NamespacePath | None = None,
        max_depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[tuple[str, ...]]:
        """As `list_namespaces`."""
        op = _listing(prefix, suffix, max_depth, limit, offset)
        return cast("list[tuple[str, ...]]", (await self.abatch([op]))[0])

    def _refresh(self, given: bool | None) -> bool:
        return (self.ttl_config or {}).get("refresh_on_read", True) if given is None else given

    def _ttl(self, given: float | NotProvided | None) -> float | None:
        return (self.ttl_config or {}).get("default_ttl") if isinstance(given, NotProvided) else given

    # -- its end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the database, if this store opened it."""
        if self._owns:
            self.store.close()

    async def aclose(self) -> None:
        """As `close`."""
        if self._owns:
            await self.store.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _listing(prefix: Any, suffix: Any, max_depth: int | None, limit: int, offset: int) -> ListNamespacesOp:
    given = (("prefix", prefix), ("suffix", suffix))
    conditions = tuple(MatchCondition(match_type=side, path=path) for side, path in given if path)  # type: ignore[arg-type]
    return ListNamespacesOp(conditions, max_depth, limit, offset)
